"""Between a policy in torch and its artifact file: export with a parity check, and strict loading.

from mcsd_agent.artifact import export_policy, load_policy

report = export_policy(policy, "nav.mcsd", rate_hz=10.0)
policy = load_policy("nav.mcsd")

The file itself is described in `runtime/package.py`, which reads it without torch.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import logging
import os
import platform
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mcsd_agent import strict
from mcsd_agent.errors import UserError
from mcsd_agent.language import Vocabulary
from mcsd_agent.policy import Policy, PolicyConfig
from mcsd_agent.runtime import weights_file
from mcsd_agent.runtime.artifact_spec import ACTION, NEXT_STATE, STATE, ArtifactSpec, input_dtype
from mcsd_agent.runtime.onnx_numpy import NumpyEngine
from mcsd_agent.runtime.onnx_session import OnnxEngine
from mcsd_agent.runtime.package import Package, build, parse_package, read_package
from mcsd_agent.spaces import DiscreteSpec, MultiDiscreteSpec, Spec, TextSpec

#: Widely supported, and what torch's exporter targets itself.
_OPSET = 20


@dataclasses.dataclass(frozen=True)
class ParityReport:
    """How far the exported engines are from torch over `observations` random ticks with resets in between.

    Deviations are relative to the larger of 1 and torch's value (for states, the largest of the layer); the worst
    of all engines.
    """

    observations: int
    max_action_deviation: float
    max_state_deviation: float


def export_policy(
    policy: Policy,
    path: str | Path,
    *,
    rate_hz: float,
    metadata: Mapping[str, Any] | None = None,
    parity_observations: int = 200,
    tolerance: float = 1e-4,
) -> ParityReport:
    """Writes the artifact of `policy`, to be run at `rate_hz`, and returns the parity report.

    The file appears only when everything succeeded. Raises `UserError` for weights that are NaN or
    infinite (by name), and where an engine's actions or states differ from torch's by more than
    `tolerance`. `metadata` is any JSON object; versions are added to it.
    """
    if not 0 < rate_hz < 1e6:
        raise UserError(f"rate_hz={rate_hz} must be above 0; give the control rate of the robot")
    if parity_observations < 1:
        raise UserError(f"parity_observations={parity_observations} must be at least 1")
    path = Path(path)
    _check_finite(policy)
    # A copy: the caller's policy keeps its device, dtype and training mode.
    policy = copy.deepcopy(policy).cpu().float().eval()
    spec = ArtifactSpec(
        observation=policy.observation_specs,
        action=policy.action_spec,
        rate_hz=float(rate_hz),
        state_shape=policy.state_shape,
        vocabulary=None if policy.vocabulary is None else policy.vocabulary.to_json(),
        policy=strict.to_dict(policy.config),
        metadata={**_versions(), **(metadata or {})},
    )
    step, weights = _export_step(policy), _weights(policy)
    where = f"artifact {str(path)!r}"
    try:
        # Read back before it is written: what is compared is what the robot will load.
        package = parse_package(build(spec, weights, step), where)
    except (TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{where}: metadata must be plain JSON values ({error})") from None
    report = measure_parity(policy, package, parity_observations)
    for what, deviation in (("actions", report.max_action_deviation), ("states", report.max_state_deviation)):
        if not deviation <= tolerance:
            raise UserError(
                f"{where}: exported {what} differ from torch's by {deviation:.2g}, more than {tolerance:.2g}; "
                "nothing was written: check the policy for operations that depend on exact rounding"
            )
    _write(path, build(dataclasses.replace(spec, parity=dataclasses.asdict(report)), weights, step))
    return report


def load_policy(path: str | Path) -> Policy:
    """The policy in an artifact file, on the CPU and in evaluation mode.

    Raises `UserError` when the file is altered, or when its weights do not fit its own config.
    """
    package = read_package(path)
    spec = package.spec
    vocabulary = None if spec.vocabulary is None else Vocabulary.from_json(spec.vocabulary)
    # Copied: torch tensors may not share the file's read-only bytes.
    tensors = {name: torch.from_numpy(array.copy()) for name, array in package.weights.items()}
    try:
        config = strict.build(PolicyConfig, spec.policy, "policy")
        policy = Policy(dict(spec.observation), spec.action, config, vocabulary)
        policy.load_state_dict(tensors, strict=True)
    except (UserError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{package.where}: weights and policy config do not fit this program: {reason}") from None
    return policy.eval()


# --- export --------------------------------------------------------------------------------------


class _Step(nn.Module):
    """`policy.act` with tensors in place of the dict, as ONNX has it."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy
        self.names = tuple(policy.observation_specs)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        *observation, state = tensors
        return self.policy.act(dict(zip(self.names, observation, strict=True)), state)


def _export_step(policy: Policy) -> bytes:
    names = list(policy.observation_specs)
    examples = [torch.from_numpy(np.zeros((1, *s.shape), input_dtype(s))) for s in policy.observation_specs.values()]
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            _Step(policy).eval(),
            (*examples, policy.initial_state()),
            input_names=[*names, STATE],
            output_names=[ACTION, NEXT_STATE],
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    model = program.model_proto
    # Stack traces and paths of the machine that exported are nobody's business, and most of the file.
    model.ClearField("metadata_props")
    for part in (model.graph, *model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    model.graph.ClearField("value_info")
    return model.SerializeToString(deterministic=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints, warns and logs about itself on every call."""
    loggers = [logging.getLogger(n) for n in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    sink = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _check_finite(policy: Policy) -> None:
    parameters = dict(policy.named_parameters())
    for name, tensor in policy.state_dict().items():
        # A buffer may hold an infinite bound; a parameter never should.
        bad = ~torch.isfinite(tensor) if name in parameters else torch.isnan(tensor)
        if bool(bad.any()):
            what = "NaN" if bool(torch.isnan(tensor).any()) else "an infinite value"
            raise UserError(f"weight {name!r} holds {what}: the training diverged; export an earlier checkpoint")


def _weights(policy: Policy) -> bytes:
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in policy.state_dict().items()}
    for name, array in arrays.items():
        if array.dtype.newbyteorder("<") not in weights_file.DTYPES.values():
            raise UserError(f"weight {name!r} has dtype {array.dtype}, which artifacts cannot hold")
    return save(arrays)


def _versions() -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    names = ("mcsd-agent", "torch", "onnxscript", "numpy")
    versions = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return {"versions": versions}


def _write(path: Path, data: bytes) -> None:
    """All of the file or nothing, whenever the machine stops."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise UserError(f"artifact {str(path)!r}: {error.strerror}; give a path that can be written") from None


# --- parity --------------------------------------------------------------------------------------


def measure_parity(policy: Policy, package: Package, observations: int, seed: int = 0) -> ParityReport:
    """Runs torch and every engine side by side, each on its own state, over random observations.

    Episodes last from one tick to about a hundred, so that both a fresh and a long-lived memory are met.
    """
    engines: dict[str, Any] = {"onnx": OnnxEngine(package), "numpy": NumpyEngine(package.model, package.where)}
    outputs = [port.name for port in package.model.outputs]
    initial = np.zeros((1, *package.spec.state_shape), np.float32)
    rng = np.random.default_rng(seed)
    worst = {ACTION: 0.0, NEXT_STATE: 0.0}
    remaining = 0
    for _ in range(observations):
        if remaining == 0:
            remaining = int(np.exp(rng.uniform(0.0, np.log(100.0))))
            states = dict.fromkeys(engines, initial)
            state = torch.from_numpy(initial)
        remaining -= 1
        arrays = {name: sample(spec, rng, package.spec) for name, spec in package.spec.observation.items()}
        with torch.no_grad():
            action, state = policy.act({name: torch.from_numpy(a) for name, a in arrays.items()}, state)
        expected = {ACTION: action.numpy(), NEXT_STATE: state.numpy()}
        for engine in engines:
            found = dict(zip(outputs, engines[engine].run({**arrays, STATE: states[engine]}), strict=True))
            states[engine] = found[NEXT_STATE]
            for name, value in expected.items():
                # A rotating memory passes through 0 again and again: its error is measured by the size of its layer.
                scale = np.abs(value).max(-1, keepdims=True) if name == NEXT_STATE else np.abs(value)
                worst[name] = max(worst[name], _deviation(found[name], value, scale))
    return ParityReport(observations, worst[ACTION], worst[NEXT_STATE])


def _deviation(found: np.ndarray, expected: np.ndarray, scale: np.ndarray) -> float:
    if found.shape != expected.shape or not np.isfinite(expected).all():
        return float("inf")
    difference = np.abs(found.astype(np.float64) - expected) / np.maximum(1.0, scale)
    # NaN must count as wrong, and max() would drop it.
    return float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0))


def sample(spec: Spec, rng: np.random.Generator, artifact: ArtifactSpec) -> np.ndarray:
    """A random observation `(1, *shape)`: within bounds, and over several scales where there are none."""
    shape = (1, *spec.shape)
    if isinstance(spec, DiscreteSpec):
        return rng.integers(0, spec.n, shape)
    if isinstance(spec, MultiDiscreteSpec):
        return rng.integers(0, np.asarray(spec.nvec)[None])
    if isinstance(spec, TextSpec):
        # Left-padded ids of any word, unknown ones included; often nothing is said.
        known = len((artifact.vocabulary or {"words": ()})["words"])
        ids = np.zeros(shape, np.int64)
        count = int(rng.integers(0, spec.max_words + 1)) if rng.random() < 0.7 else 0
        if count:
            ids[0, -count:] = rng.integers(1, known + 2, count)
        return ids
    low, high = spec.bounds()
    if spec.dtype == "uint8":
        return rng.integers(0, 256, shape).astype(np.uint8)
    scale = 10.0 ** rng.uniform(-2.0, 1.0)
    free = rng.normal(scale=scale, size=shape)
    bounded = np.isfinite(low) & np.isfinite(high)
    with np.errstate(invalid="ignore"):
        within = np.where(bounded, low, 0) + rng.random(shape) * np.where(bounded, high - low, 0)
    one_sided = np.where(np.isfinite(low), low + np.abs(free), np.where(np.isfinite(high), high - np.abs(free), free))
    return np.where(bounded, within, one_sided).astype(np.float32)
