"""The check of an export: torch and every engine side by side, each on its own memory."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from mcsd_agent.export.observations import episodes
from mcsd_agent.policy import Policy
from mcsd_agent.runtime.artifact_spec import ACTION, NEXT_STATE, STATE, SUCCESS
from mcsd_agent.runtime.package import Package
from mcsd_agent.runtime.stream import ENGINES, engines_here

#: Robots of the streams with a batch, and how many times fewer ticks they are compared for.
_ROBOTS, _SHARE_OF_SEVERAL = 3, 10


@dataclasses.dataclass(frozen=True)
class ParityReport:
    """How far the engines are from torch over `observations` random ticks with resets in between, and for three robots
    at once over a tenth of them.

    Deviations are relative to the larger of 1 and torch's value (for states, the largest of the layer); of all
    engines, the largest and the mean. The policy in torch has the artifact's weights: what rounding them changed
    is in the fields `rounding_…`, the deviation from the policy with float32 weights.
    """

    observations: int
    max_action_deviation: float
    max_state_deviation: float
    mean_action_deviation: float = 0.0
    mean_state_deviation: float = 0.0
    rounding_max_action_deviation: float = 0.0
    rounding_max_state_deviation: float = 0.0
    rounding_mean_action_deviation: float = 0.0
    rounding_mean_state_deviation: float = 0.0
    #: None where success is not predicted.
    max_success_deviation: float | None = None
    mean_success_deviation: float | None = None
    rounding_max_success_deviation: float | None = None
    rounding_mean_success_deviation: float | None = None

    def to_json(self) -> dict[str, float]:
        """All that was measured, by name."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


def measure_parity(
    policy: Policy, package: Package, observations: int, original: Policy | None = None, seed: int = 0
) -> ParityReport:
    """Compares the engines with `policy`, and `policy` with the `original` that was rounded to it."""
    engines = {name: ENGINES[name](package, 1) for name in engines_here()}
    outputs = [port.name for port in package.model.outputs]
    initial = np.zeros((1, *package.spec.state_shape), np.float32)
    engine_errors, rounding_errors = _Errors(), _Errors()
    states = dict.fromkeys(engines, initial)
    state = unrounded = torch.from_numpy(initial)
    for starts, arrays in episodes(package.spec, observations, seed):
        if starts:
            states = dict.fromkeys(engines, initial)
            state = unrounded = torch.from_numpy(initial)
        tensors = {name: torch.from_numpy(a) for name, a in arrays.items()}
        with torch.no_grad():
            expected, state = _outputs(policy, tensors, state)
            if original is not None:
                found, unrounded = _outputs(original, tensors, unrounded)
                rounding_errors.add(expected, found)
        for engine in engines:
            found = dict(zip(outputs, engines[engine].run({**arrays, STATE: states[engine]}), strict=True))
            states[engine] = found[NEXT_STATE]
            engine_errors.add(found, expected)
    _add_several_robots(policy, package, max(1, observations // _SHARE_OF_SEVERAL), seed + 1, engine_errors)
    return ParityReport(observations, **engine_errors.summary(""), **rounding_errors.summary("rounding_"))


def _add_several_robots(policy: Policy, package: Package, ticks: int, seed: int, errors: _Errors) -> None:
    """The same for streams with a batch, whose robots start their episodes at different ticks."""
    engines = [ENGINES[name](package, _ROBOTS) for name in engines_here() if name != "torch"]
    outputs = [port.name for port in package.model.outputs]
    states = [np.zeros((_ROBOTS, *package.spec.state_shape), np.float32) for _ in engines]
    state = torch.zeros(_ROBOTS, *package.spec.state_shape)
    robots = [episodes(package.spec, ticks, seed + i) for i in range(_ROBOTS)]
    for rows in zip(*robots, strict=True):
        starts = np.array([begins for begins, _ in rows])
        arrays = {name: np.concatenate([row[name] for _, row in rows]) for name in rows[0][1]}
        state = state.masked_fill(torch.from_numpy(starts)[:, None, None], 0.0)
        with torch.no_grad():
            expected, state = _outputs(policy, {name: torch.from_numpy(a) for name, a in arrays.items()}, state)
        for i, engine in enumerate(engines):
            states[i][starts] = 0.0
            found = dict(zip(outputs, engine.run({**arrays, STATE: states[i]}), strict=True))
            states[i] = found[NEXT_STATE].copy()
            errors.add(found, expected)


def _outputs(
    policy: Policy, observation: dict[str, torch.Tensor], state: torch.Tensor
) -> tuple[dict[str, np.ndarray], torch.Tensor]:
    """What a step gives by name, and the next state as a tensor."""
    success = {}
    if policy.success_net is None:
        action, state = policy.act(observation, state)
    else:
        action, estimate, state = policy.act_and_judge(observation, state)
        success = {SUCCESS: estimate.numpy()}
    return {ACTION: action.numpy(), NEXT_STATE: state.numpy(), **success}, state


class _Errors:
    """The largest and the mean deviation of each output."""

    def __init__(self) -> None:
        self._largest: dict[str, float] = {ACTION: 0.0, NEXT_STATE: 0.0}
        self._total: dict[str, float] = {}
        self._count = 0

    def add(self, found: dict[str, Any], expected: dict[str, Any]) -> None:
        self._count += 1
        for name, value in expected.items():
            # A rotating memory passes through 0 again and again: its error is measured by the size of its layer.
            scale = np.abs(value).max(-1, keepdims=True) if name == NEXT_STATE else np.abs(value)
            largest, mean = _deviation(found[name], value, scale)
            self._largest[name] = max(self._largest.get(name, 0.0), largest)
            self._total[name] = self._total.get(name, 0.0) + mean

    def summary(self, prefix: str) -> dict[str, float]:
        summary = {}
        for name, largest in self._largest.items():
            what = "state" if name == NEXT_STATE else name
            summary[f"{prefix}max_{what}_deviation"] = largest
            summary[f"{prefix}mean_{what}_deviation"] = self._total.get(name, 0.0) / max(1, self._count)
        return summary


def _deviation(found: np.ndarray, expected: np.ndarray, scale: np.ndarray) -> tuple[float, float]:
    if found.shape != expected.shape or not np.isfinite(expected).all():
        return float("inf"), float("inf")
    difference = np.abs(found.astype(np.float64) - expected) / np.maximum(1.0, scale)
    # NaN must count as wrong, and max() would drop it.
    difference = np.nan_to_num(difference, nan=np.inf)
    return float(difference.max(initial=0.0)), float(difference.mean()) if difference.size else 0.0
