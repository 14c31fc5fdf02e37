"""The commands of `mcsd-agent` about artifact files: `inspect`, `sign`, `verify` and `keygen`. No torch."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

from mcsd_agent.errors import UserError
from mcsd_agent.training.command_arguments import AddCommand, Result


def add_artifact_commands(command: AddCommand) -> None:
    """Add `inspect`, `sign`, `verify` and `keygen`."""
    sub = command(
        "inspect", _inspect, "What an artifact expects and holds, or demonstrations hold.", "inspect nav.mcsd"
    )
    sub.add_argument("artifact", type=Path, metavar="ARTIFACT|RUN|DEMOS")
    sub.add_argument("--key", type=Path, metavar="PUBLIC.pem", help="check the signature with this public key")

    sub = command("sign", _sign, "Sign an artifact: writes F.mcsd.sig beside it.", "sign nav.mcsd --key signing.pem")
    sub.add_argument("artifact", type=Path)
    sub.add_argument("--key", type=Path, metavar="PRIVATE.pem", required=True, help="file of the private key")

    sub = command("verify", _verify, "Check an artifact and its signature.", "verify nav.mcsd --key signing.pub.pem")
    sub.add_argument("artifact", type=Path)
    sub.add_argument("--key", type=Path, metavar="PUBLIC.pem", required=True, help="file of the public key")

    sub = command("keygen", _keygen, "Keys: NAME.pem to sign with, NAME.pub.pem for robots.", "keygen signing.pem")
    sub.add_argument("key", type=Path, metavar="NAME.pem", help="file of the private key; it must not exist")


def _inspect(options: argparse.Namespace) -> Result:
    from mcsd_agent.runtime.package import parse_package, read_bytes

    in_run = options.artifact / "policy.mcsd"
    if in_run.is_file():
        options.artifact = in_run
    elif options.artifact.is_dir():
        from mcsd_agent.training.replay import describe

        found = describe(options.artifact)
        _print(found)
        return found
    data = read_bytes(options.artifact)
    package = parse_package(data, f"artifact {str(options.artifact)!r}")
    spec = package.spec
    described: dict[str, Any] = {
        "artifact": str(options.artifact),
        "format_version": spec.format_version,
        "bytes": len(data),
        "rate_hz": spec.rate_hz,
        "observation": {k: _describe(s) for k, s in spec.observation.items()},
        "action": _describe(spec.action),
        "backbone": f"{spec.policy.get('backbone')} ({spec.policy.get('preset')})",
        "parameters": package.parameters,
        "weights": package.weight_types,
        "step": {"nodes": len(package.model.nodes), "opset": package.model.opset, "bytes": len(package.step)},
        "state_bytes": spec.state_bytes,
        "predicts_success": spec.predicts_success,
        "words": len(spec.vocabulary.get("words", ())) if spec.vocabulary else 0,
        "sentence_encoder": _sentence_encoder(spec.vocabulary),
        "parity": spec.parity,
        "metadata": spec.metadata,
        "sha256": {**spec.sha256, "file": hashlib.sha256(data).hexdigest()},
        "signature": _signature(data, options.artifact, options.key),
    }
    _print(described)
    return described


def _print(described: dict[str, Any]) -> None:
    for key, value in described.items():
        if isinstance(value, dict):
            print(f"{key}:")
            for name, entry in value.items():
                print(f"  {_plain(name)}: {_plain(entry)}")
        else:
            print(f"{key}: {_plain(value)}")


def _sentence_encoder(vocabulary: Any) -> str:
    if not vocabulary or "encoder" not in vocabulary:
        return "none"
    facts = f"{vocabulary['dimension']} numbers, understood within a distance of {vocabulary['max_distance']:g}"
    return f"{vocabulary['encoder']}, sha256 {vocabulary['sha256'][:12]}, {facts}"


def _signature(data: bytes, artifact: Path, key: Path | None) -> str:
    from mcsd_agent.runtime.signature import check_signature, signature_path

    if key is None:
        return "present, not checked: give --key" if signature_path(artifact).exists() else "none"
    return f"valid, by key {check_signature(data, artifact, key)}"


def _describe(spec: Any) -> str:
    bounds = f" from {_short(spec.low)} to {_short(spec.high)}" if getattr(spec, "low", None) else ""
    unit = f" {spec.unit}" if spec.unit else ""
    return f"{spec.kind} {tuple(spec.shape)} {spec.dtype}{bounds}{unit}"


def _short(bound: tuple[float | None, ...] | None) -> str:
    numbers = ["∞" if v is None else f"{v:g}" for v in bound or (None,)]
    return numbers[0] if len(numbers) == 1 else f"({', '.join(numbers)})"


def _plain(value: Any) -> str:
    """Text out of a file, without what a terminal would obey."""
    text = str(value)
    return text if text.isprintable() else ascii(text)[1:-1]


def _sign(options: argparse.Namespace) -> Result:
    from mcsd_agent.runtime.package import parse_package, read_bytes
    from mcsd_agent.runtime.signature import sign, signature_path

    data = read_bytes(options.artifact)
    # What is signed is at least an intact artifact.
    parse_package(data, f"artifact {str(options.artifact)!r}")
    fingerprint = sign(data, options.artifact, options.key)
    path = signature_path(options.artifact)
    print(f"{path}: signed by key {fingerprint}")
    return {"artifact": str(options.artifact), "signature": str(path), "key": fingerprint}


def _verify(options: argparse.Namespace) -> Result:
    from mcsd_agent.runtime.package import parse_package, read_bytes
    from mcsd_agent.runtime.signature import check_signature

    data = read_bytes(options.artifact)
    fingerprint = check_signature(data, options.artifact, options.key)
    parse_package(data, f"artifact {str(options.artifact)!r}")
    print(f"{options.artifact}: intact, signed by key {fingerprint}")
    return {"artifact": str(options.artifact), "key": fingerprint}


def _keygen(options: argparse.Namespace) -> Result:
    from mcsd_agent.runtime.signature import make_keys

    if options.key.suffix != ".pem" or options.key.name.endswith(".pub.pem"):
        raise UserError(f"key {str(options.key)!r} must end in .pem, and not in .pub.pem; for example signing.pem")
    public = make_keys(options.key)
    print(f"{options.key}: keep it where artifacts are signed and nowhere else\n{public}: for robots")
    return {"private": str(options.key), "public": str(public)}
