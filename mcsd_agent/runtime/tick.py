"""What happened in one tick of the controller."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np


class Summary(NamedTuple):
    """One observation of a tick in four numbers; NaN where there is none (the age of what has no time stamp)."""

    min: float
    mean: float
    max: float
    age_s: float


@dataclass(frozen=True)
class Tick:
    """One tick. Times are seconds of the controller's clock; reasons are listed in `controller`.

    `index`         number of the period since the start; missed periods leave gaps
    `time`          when the tick began
    `action_asked`  the policy's action; None when the policy was not asked
    `action_sent`   what the robot says it sent, after all filters; None when it was stopped
    `reason`        "ok", or why the robot was stopped
    `latency_s`     from the beginning of the tick to the end of sending
    `lateness_s`    from the deadline to the beginning of the tick
    `oldest_s`      age of the oldest observation with a time stamp; NaN when none was looked at
    `instruction`   what the robot had been told
    `skipped`       periods missed just before this tick
    `detail`        more about the reason, for people
    `mode`          what the controller was doing after this tick, see `controller_mode`
    `policy_s`      how long the policy took; NaN when it was not asked
    `state_norm`    Euclidean norm of the memory after this tick
    `success`       how likely the policy takes its instruction to be carried out; NaN where it does not say
    `observation`   the observations that the policy saw, or would have seen, by name; texts are left out
    """

    index: int
    time: float
    action_asked: np.ndarray | None
    action_sent: np.ndarray | None
    reason: str
    latency_s: float
    lateness_s: float
    oldest_s: float
    instruction: str = ""
    skipped: int = 0
    detail: str = ""
    mode: str = "inactive"
    policy_s: float = math.nan
    state_norm: float = math.nan
    success: float = math.nan
    observation: Mapping[str, Summary] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON object; actions are flat lists, with null for NaN and infinity."""
        fields = dict(vars(self))
        for name in ("action_asked", "action_sent"):
            if fields[name] is not None:
                fields[name] = [_number(v) for v in np.ravel(fields[name]).tolist()]
        for name in ("time", "latency_s", "lateness_s", "oldest_s", "policy_s"):
            fields[name] = _number(round(fields[name], 6))
        fields["state_norm"], fields["success"] = _number(self.state_norm), _number(self.success)
        fields["observation"] = {
            name: {key: _number(value) for key, value in summary._asdict().items()}
            for name, summary in self.observation.items()
        }
        return fields


def summarise(values: np.ndarray, age_s: float = math.nan) -> Summary:
    """`values` (numbers, any shape) in four numbers."""
    size = values.size
    if size == 0:
        return Summary(math.nan, math.nan, math.nan, age_s)
    flat = values.ravel()
    mean = float(np.add.reduce(flat, dtype=np.float64)) / size  # the ufuncs: half the time of the arrays' methods
    return Summary(float(np.minimum.reduce(flat)), mean, float(np.maximum.reduce(flat)), age_s)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
