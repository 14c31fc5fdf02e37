"""A fixed rate by absolute deadlines: what is missed is skipped, never caught up."""

from __future__ import annotations

import math
from collections.abc import Callable

from mcsd_agent.runtime.tick import Tick

#: Where in its period a tick wants its oldest observation to be, and how far it may move for that, in periods.
_FRESH, _LARGEST_SHIFT = 0.1, 0.02


def keep_pace(
    tick: Callable[[float], Tick],
    period_s: float,
    clock: Callable[[], float],
    wait: Callable[[float], object],
    ended: Callable[[], bool],
    *,
    max_ticks: int | None = None,
    follow_sensors: bool = False,
    idle: Callable[[float], None] = lambda slack_s: None,
) -> None:
    """Calls `tick(deadline)` once in each period until `ended()`, or `max_ticks` times.

    `wait(seconds)` may return early. `idle(seconds)` is called after each tick with the time until the next deadline.
    After an overrun the next deadline is the next one of the grid that lies ahead. With `follow_sensors` the grid
    moves, by at most 2 % of a period per tick, to where observations are fresh.
    """
    deadline = clock()
    count = 0
    while not ended() and (max_ticks is None or count < max_ticks):
        now = clock()
        if deadline - now > period_s * (1 + _LARGEST_SHIFT + 1e-9):
            deadline = now  # the clock jumped back
        if now < deadline:
            wait(deadline - now)
            continue
        done = tick(deadline)
        count += 1
        # The next deadline of the grid that had not passed when this tick began: it may have begun later than `now`,
        # on a processor that others wanted too.
        deadline += period_s * (1 + int(max(0.0, done.time - deadline) / period_s + 1e-6))
        if follow_sensors:
            deadline += _shift(done, period_s)
        idle(deadline - clock())


def _shift(tick: Tick, period_s: float) -> float:
    """Seconds by which the next tick comes later: towards the moment when its observations are fresh."""
    if tick.reason != "ok" or not math.isfinite(tick.oldest_s):
        return 0.0
    # Later by a period is the same as earlier by none: the nearer way is at most half a period.
    early = math.remainder(tick.oldest_s / period_s - _FRESH, 1.0)
    return -period_s * max(-_LARGEST_SHIFT, min(_LARGEST_SHIFT, early))
