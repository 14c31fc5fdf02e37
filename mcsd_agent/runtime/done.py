"""When an instruction counts as carried out: the policy has been sure of it for some ticks in a row."""

from __future__ import annotations

import math


def ticks_of(seconds: float, rate_hz: float) -> int:
    """How many ticks in a row last so long; at least one."""
    return max(1, math.ceil(seconds * rate_hz - 1e-9))


class DoneWatch:
    """True once the estimate of success has been `threshold` or more in `ticks` ticks, one after the other."""

    def __init__(self, threshold: float, ticks: int) -> None:
        self._threshold, self._ticks = threshold, ticks
        self._sure = 0

    def reset(self) -> None:
        """Something else is to be done."""
        self._sure = 0

    def check(self, success: float) -> bool:
        """Whether it is done after one more tick, with this estimate; NaN, nobody's, begins anew."""
        self._sure = self._sure + 1 if success >= self._threshold else 0
        return self._sure >= self._ticks


class Completion:
    """What a controller knows about how far its instruction is. `judge` is called by its thread, the rest by any."""

    def __init__(self, watch: DoneWatch) -> None:
        self._watch = watch
        #: Instructions given, and how many had been when it was judged last.
        self.given = self._judged = 0
        self._said, self._success, self._is_done = "", math.nan, False

    @property
    def success(self) -> float:
        """How likely the policy takes its instruction to be carried out, at the last tick; NaN where it did not say."""
        return self._success if self._judged == self.given else math.nan

    @property
    def done(self) -> bool:
        """Whether that has been high for long enough. Never for a policy that does not predict success."""
        return self._is_done and self._judged == self.given

    def new_instruction(self) -> None:
        """The robot gives another instruction from now on, or the same one anew: nothing of it is done yet.

        Other words are noticed without this.
        """
        self.given += 1

    def judge(self, given: int, instruction: str, success: float) -> None:
        """The end of a tick in which the robot gave `instruction`; `given` had been given before it was looked at."""
        is_other = bool(instruction) and instruction != self._said  # silence is no other one
        if is_other:
            self._said = instruction
        if is_other or given != self._judged:
            self._watch.reset()
        self._success, self._is_done = success, self._watch.check(success)
        self._judged = given  # at last: from here on it counts
