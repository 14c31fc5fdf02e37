"""What the controller keeps an eye on from tick to tick. Each watchdog answers with a reason, or with None."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.runtime.robot import Reading
from mcsd_agent.spaces import BoxSpec, Spec

#: Two reads of one clock in two threads may come out of order by this much.
_CLOCK_SLACK_S = 0.01


class AgeWatch:
    """Every observation is there, stamped by this clock, and not older than allowed."""

    def __init__(self, max_ages: Mapping[str, float]) -> None:
        """Seconds by name; infinity needs no time stamp."""
        self._max_ages = dict(max_ages)
        self.ages: dict[str, float] = {}

    def check(self, reading: Reading, now: float) -> str | None:
        """`missing:`, `stale:` or `future_stamp:` and the name; fills in `ages` by name."""
        self.ages = ages = {}
        reason = None
        for name, max_age in self._max_ages.items():
            stamp = reading.stamps.get(name)
            if reading.values.get(name) is None or (stamp is None and max_age < math.inf):
                return f"missing:{name}"
            if stamp is None or max_age == math.inf:
                continue
            ages[name] = age = now - stamp
            # Written so that a NaN stamp is stale.
            if reason is None and not age <= max_age:
                reason = f"stale:{name}"
            if reason is None and age < -_CLOCK_SLACK_S:
                reason = f"future_stamp:{name}"
        return reason

    @property
    def oldest_s(self) -> float:
        """The largest age of the reading checked last; NaN when none was."""
        return max((age for age in self.ages.values() if not math.isnan(age)), default=math.nan)


class FrozenWatch:
    """A sensor that repeats itself to the last bit, whatever its time stamps say."""

    def __init__(self, limits_s: Mapping[str, float]) -> None:
        """For how long each of these may give the same values; others may for ever."""
        self._limits = dict(limits_s)
        self._last: dict[str, tuple[float, np.ndarray]] = {}

    def check(self, inputs: Mapping[str, np.ndarray], now: float) -> str | None:
        """`frozen:` and the name, once the values have been the same for longer than allowed."""
        reason = None
        for name, limit in self._limits.items():
            values = inputs[name]
            since, before = self._last.get(name, (now, None))
            if before is None or not np.array_equal(values, before):
                self._last[name] = (now, values.copy())
            elif now - since > limit and reason is None:
                reason = f"frozen:{name}"
        return reason


class ClockWatch:
    """The controller's clock must go forward, and as fast as a second clock does."""

    def __init__(self, limit_s: float | None, reference: Callable[[], float] | None) -> None:
        """None as limit watches nothing; without a `reference` only a clock that goes back is seen."""
        self._limit = limit_s
        self._reference = reference
        self._last: float | None = None
        self._offset = 0.0
        self.jump_s = 0.0

    def check(self, now: float) -> str | None:
        """`clock_jump` when a clock jumped since the call before; `jump_s` says how far they moved apart."""
        if self._limit is None:
            return None
        offset = 0.0 if self._reference is None else self._reference() - now
        last, before = self._last, self._offset
        self._last, self._offset = now, offset
        if last is None:
            return None
        self.jump_s = offset - before if self._reference is not None else min(0.0, now - last)
        return "clock_jump" if abs(self.jump_s) > self._limit or now < last - _CLOCK_SLACK_S else None


class HeartbeatWatch:
    """Somebody must keep saying that they are there."""

    def __init__(self, max_silence_s: float | None) -> None:
        """None needs nobody."""
        self._limit = max_silence_s
        self._heard_at = -math.inf

    def beat(self, now: float) -> None:
        """Somebody is there. Any thread may call this."""
        self._heard_at = now

    def check(self, now: float) -> str | None:
        """`heartbeat` when nobody has said so lately, or ever."""
        return "heartbeat" if self._limit is not None and now - self._heard_at > self._limit else None


class RangeWatch:
    """What the policy asks for may lie outside the action's bounds by so much, but no further."""

    def __init__(self, action: Spec, max_excess: float | None) -> None:
        """`max_excess` counts widths of the bounds, from low to high; None watches nothing."""
        self._low: np.ndarray | None = None
        if max_excess is None:
            return
        if not isinstance(action, BoxSpec) or not np.isfinite(action.bounds()).all():
            raise UserError(f"max_excess={max_excess} needs a Box action with bounds; the policy's has none")
        low, high = (bound.astype(np.float64) for bound in action.bounds())
        margin = max_excess * (high - low)
        self._low, self._high = low - margin, high + margin

    def check(self, asked: np.ndarray) -> str | None:
        """`action_out_of_range` when an entry is beyond the margin."""
        if self._low is None or bool(((self._low <= asked) & (asked <= self._high)).all()):
            return None
        return "action_out_of_range"


class DriftWatch:
    """The norm of the memory, compared with what it was in the first ticks after a reset."""

    def __init__(self, max_growth: float | None, first_ticks: int) -> None:
        """Beyond `max_growth` times the largest norm of the first `first_ticks` is too much; None watches nothing."""
        self._max_growth, self._first_ticks = max_growth, first_ticks
        self.reset()

    def reset(self) -> None:
        """The memory was emptied."""
        self._seen = 0
        self.largest = 0.0

    def check(self, norm: float) -> str | None:
        """`state_drift` when the norm has grown beyond its limit."""
        if self._max_growth is None:
            return None
        if self._seen < self._first_ticks:
            self._seen += 1
            self.largest = max(self.largest, norm)
            return None
        return "state_drift" if norm > self._max_growth * self.largest else None
