"""Between a policy in torch and its artifact file: export with a parity check, and strict loading.

from mcsd_agent.artifact import export_policy, load_policy

report = export_policy(policy, "nav.mcsd", rate_hz=10.0)
policy = load_policy("nav.mcsd")

The file itself is described in `runtime/package.py`, which reads it without torch; `export/` makes its members.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mcsd_agent import strict
from mcsd_agent.errors import UserError, nearest
from mcsd_agent.export.parity import ParityReport, measure_parity
from mcsd_agent.export.weights import KINDS, Kind, restored, rounded, to_bytes
from mcsd_agent.export.whole_file import write_whole
from mcsd_agent.policy import Policy, PolicyConfig
from mcsd_agent.runtime.artifact_spec import ArtifactSpec, version_of
from mcsd_agent.runtime.package import Package, build, parse_package, read_package
from mcsd_agent.runtime.text_encoders import text_encoder

__all__ = ["ParityReport", "export_policy", "load_policy", "measure_parity", "policy_of", "prepared"]


def export_policy(
    policy: Policy,
    path: str | Path,
    *,
    rate_hz: float,
    metadata: Mapping[str, Any] | None = None,
    weights: Kind = "float32",
    parity_observations: int = 1000,
    tolerance: float = 1e-4,
) -> ParityReport:
    """Writes the artifact of `policy`, to be run at `rate_hz`, and returns the parity report.

    `weights` other than `"float32"` are rounded, see `export.weights`; `report.rounding_…` says what that changed.
    The file appears only when everything succeeded. Raises `UserError` for weights that are NaN or
    infinite (by name), and where an engine's actions or states differ by more than `tolerance` from those of the
    policy in torch with the same weights. `metadata` is any JSON object; versions are added to it.
    """
    # Only an export needs the ONNX packages, and they load slowly.
    from mcsd_agent.export.onnx_step import export_step

    if not 0 < rate_hz < 1e6:
        raise UserError(f"rate_hz={rate_hz} must be above 0; give the control rate of the robot")
    if parity_observations < 1:
        raise UserError(f"parity_observations={parity_observations} must be at least 1")
    if weights not in KINDS:
        raise UserError(f"unknown weights {weights!r}{nearest(weights, KINDS)}")
    path = Path(path)
    _check_finite(policy)
    original = prepared(policy)
    policy, tensors = rounded(original, weights)
    extra = {} if weights == "float32" else {"weights": weights}
    spec = ArtifactSpec(
        observation=policy.observation_specs,
        action=policy.action_spec,
        rate_hz=float(rate_hz),
        state_shape=policy.state_shape,
        vocabulary=None if policy.vocabulary is None else policy.vocabulary.to_json(),
        policy=_network(policy.config),
        metadata={**_versions(), **extra, **(metadata or {})},
        format_version=version_of(policy.observation_specs, policy.config.predict_success),
        predicts_success=policy.config.predict_success,
    )
    step, content = export_step(policy, weights), to_bytes(tensors)
    where = f"artifact {str(path)!r}"
    try:
        # Read back before it is written: what is compared is what the robot will load.
        package = parse_package(build(spec, content, step), where)
    except (TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{where}: metadata must be plain JSON values ({error})") from None
    report = measure_parity(policy, package, parity_observations, None if policy is original else original)
    for what, deviation in (
        ("actions", report.max_action_deviation),
        ("states", report.max_state_deviation),
        ("estimates of success", report.max_success_deviation or 0.0),
    ):
        if not deviation <= tolerance:
            raise UserError(
                f"{where}: exported {what} differ from torch's by {deviation:.2g}, more than {tolerance:.2g}; "
                "nothing was written: check the policy for operations that depend on exact rounding"
            )
    write_whole(path, build(dataclasses.replace(spec, parity=report.to_json()), content, step))
    return report


def load_policy(path: str | Path) -> Policy:
    """The policy in an artifact file, on the CPU and in evaluation mode.

    Raises `UserError` when the file is altered, or when its weights do not fit its own config.
    """
    return policy_of(read_package(path))


def policy_of(package: Package) -> Policy:
    """`load_policy` of an artifact that has been read."""
    spec = package.spec
    vocabulary = None if spec.vocabulary is None else text_encoder(spec.vocabulary)
    try:
        config = strict.build(PolicyConfig, spec.policy, "policy")
        # A config that asks for more than the file holds would take time and memory before it is found wrong.
        if config.layers > len(package.weights) or max(config.width, *config.bins) > package.parameters:
            raise UserError(f"its config is larger than the {package.parameters} weights")
        if config.predict_success != spec.predicts_success:
            raise UserError("one of spec.json and its policy says that success is predicted, the other does not")
        policy = Policy(dict(spec.observation), spec.action, config, vocabulary)
        policy.load_state_dict(restored(package.weights), strict=True)
    except (UserError, RuntimeError, TypeError, OverflowError, MemoryError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{package.where}: weights and policy config do not fit this program: {reason}; train it again with this "
            "version, or use the one that exported it (a robot needs neither: `run` takes it as it is)"
        ) from None
    return policy.eval()


def prepared(policy: Policy) -> Policy:
    """A copy to export, on the CPU and in float32: the caller's policy keeps its device, dtype and training mode."""
    return copy.deepcopy(policy).cpu().float().eval()


def _network(config: PolicyConfig) -> dict[str, Any]:
    """The config in an artifact. What programs before success prediction do not know is there only if it is used."""
    network = strict.to_dict(config)
    if not config.predict_success:
        del network["predict_success"]
    return network


def _check_finite(policy: Policy) -> None:
    parameters = dict(policy.named_parameters())
    for name, tensor in policy.state_dict().items():
        # A buffer may hold an infinite bound; a parameter never should.
        bad = ~torch.isfinite(tensor) if name in parameters else torch.isnan(tensor)
        if bool(bad.any()):
            what = "NaN" if bool(torch.isnan(tensor).any()) else "an infinite value"
            raise UserError(f"weight {name!r} holds {what}: the training diverged; export an earlier checkpoint")


def _versions() -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    names = ("mcsd-agent", "torch", "onnxscript", "numpy")
    versions = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return {"versions": versions}
