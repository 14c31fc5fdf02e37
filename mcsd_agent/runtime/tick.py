"""What happened in one tick of the controller."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Tick:
    """One tick. Times are seconds of the controller's clock; reasons are listed in `controller`.

    `index`         number of the period since the start; missed periods leave gaps
    `time`          when the tick began
    `action_asked`  the policy's action; None when the policy was not asked
    `action_sent`   what the robot says it sent, after bounds and slew limits; None when it was stopped
    `reason`        "ok", or why the robot was stopped
    `latency_s`     from the beginning of the tick to the end of sending
    `lateness_s`    from the deadline to the beginning of the tick
    `oldest_s`      age of the oldest observation with a time stamp; NaN when none was looked at
    `instruction`   what the robot had been told
    `skipped`       periods missed just before this tick
    `detail`        more about the reason, for people
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

    def to_json(self) -> dict[str, Any]:
        """A JSON object; actions are flat lists, with null for NaN and infinity."""
        fields = dict(vars(self))
        for name in ("action_asked", "action_sent"):
            if fields[name] is not None:
                fields[name] = [_number(v) for v in np.ravel(fields[name]).tolist()]
        for name in ("time", "latency_s", "lateness_s", "oldest_s"):
            fields[name] = _number(round(fields[name], 6))
        return fields


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
