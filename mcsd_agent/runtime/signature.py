"""Who made an artifact: an ed25519 signature in a file of its own, `F.mcsd.sig` beside `F.mcsd`.

The signature is the 64 bytes of RFC 8032 over all bytes of the artifact, nothing else, so that openssl
makes and checks the same files, and a program that asks for no signature needs to know nothing of it.
Keys are PEM files (PKCS #8 and SubjectPublicKeyInfo, as openssl writes them) and never arguments.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from mcsd_agent.errors import UserError

SUFFIX = ".sig"
_SIGNATURE_BYTES = 64
_MAX_KEY_BYTES = 1 << 16


def signature_path(artifact: str | Path) -> Path:
    """Where the signature of an artifact is kept."""
    return Path(f"{artifact}{SUFFIX}")


def check_signature(data: bytes, artifact: str | Path, public_key: str | Path) -> str:
    """Checks that `data`, the bytes of `artifact`, were signed with the private half of `public_key` (a file).

    Returns the key's fingerprint. Raises `UserError` for an artifact without a signature, or signed by
    another key, or altered since, and for a key that is none.
    """
    key = _public_key(public_key)
    path = signature_path(artifact)
    where = f"artifact {str(artifact)!r}"
    signature = _read(path, f"{where} is not signed: {str(path)!r}", "have it signed (mcsd-agent sign)")
    if len(signature) != _SIGNATURE_BYTES:
        raise UserError(
            f"{where}: {str(path)!r} is no ed25519 signature (not {_SIGNATURE_BYTES} bytes); have it signed again"
        )
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, data)
    except InvalidSignature:
        raise UserError(
            f"{where} was not signed with the key in {str(public_key)!r}, or was altered since; "
            "have it signed again, or give the key of who signed it"
        ) from None
    return _fingerprint(key)


def sign(data: bytes, artifact: str | Path, private_key: str | Path) -> str:
    """Writes the signature of `data`, the bytes of `artifact`, beside it; returns the key's fingerprint."""
    key = _private_key(private_key)
    path = signature_path(artifact)
    try:
        path.write_bytes(key.sign(data))
    except OSError as error:
        raise UserError(f"signature {str(path)!r}: {error.strerror}; sign it where it can be written") from None
    return _fingerprint(key.public_key())


def make_keys(private: str | Path) -> Path:
    """Writes a new private key, readable by its owner alone, and the public half beside it; returns the latter.

    `signing.pem` gives `signing.pub.pem`. Neither file may exist.
    """
    _cryptography()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Path(private)
    public = private.with_suffix(".pub.pem")
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    shared = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    if public.exists():
        raise UserError(f"key {str(public)!r} exists; give another name, keys are never overwritten")
    for path, content, mode in ((private, secret, 0o600), (public, shared, 0o644)):
        try:
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
        except FileExistsError:
            raise UserError(f"key {str(path)!r} exists; give another name, keys are never overwritten") from None
        except OSError as error:
            raise UserError(f"key {str(path)!r}: {error.strerror}; give a path that can be written") from None
    return public


def _public_key(path: str | Path) -> Any:
    content = _read(path, f"key {str(path)!r}", "give the PEM file of an ed25519 public key")
    _cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if b"PRIVATE KEY" in content:
        raise UserError(
            f"key {str(path)!r} is a private key; give its public half, and keep the private one off the robot"
        )
    return _load(load_pem_public_key, content, Ed25519PublicKey, path, "public")


def _private_key(path: str | Path) -> Any:
    content = _read(path, f"key {str(path)!r}", "give the PEM file of an ed25519 private key")
    _cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if b"PUBLIC KEY" in content:
        raise UserError(f"key {str(path)!r} is a public key; signing needs the private one")
    if b"ENCRYPTED" in content:
        raise UserError(f"key {str(path)!r} is encrypted; decrypt it first: openssl pkey -in KEY.pem -out PLAIN.pem")
    return _load(lambda pem: load_pem_private_key(pem, None), content, Ed25519PrivateKey, path, "private")


def _load(load: Any, content: bytes, kind: type, path: str | Path, half: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        key = load(content)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UserError(
            f"key {str(path)!r} is no readable {half} key in PEM; "
            "make one: mcsd-agent keygen, or openssl genpkey -algorithm ed25519"
        ) from None
    if not isinstance(key, kind):
        raise UserError(
            f"key {str(path)!r} is not of type ed25519; "
            "make one: mcsd-agent keygen, or openssl genpkey -algorithm ed25519"
        )
    return key


def _fingerprint(key: Any) -> str:
    """The sha256 of the public key's 32 bytes, in hex: the same for both halves of a pair."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def _read(path: str | Path, what: str, remedy: str) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_KEY_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{what}: {reason}; {remedy}") from None
    if len(content) > _MAX_KEY_BYTES:
        raise UserError(f"{what} is larger than {_MAX_KEY_BYTES >> 10} KiB; {remedy}")
    return content


def _cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ModuleNotFoundError:
        raise UserError("signatures need the package cryptography; pip install 'mcsd-agent[robot]'") from None
