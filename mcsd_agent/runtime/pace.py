"""A fixed rate by absolute deadlines: what is missed is skipped, never caught up."""

from __future__ import annotations

import math
from collections.abc import Callable

from mcsd_agent.runtime.tick import Tick

#: How long before a tick its observations should have come, and how far it may move for that, in periods.
_FRESH, _LARGEST_SHIFT = 0.1, 0.02
#: But so long before it, at least, or half a period: messages come a millisecond sooner or later, and a tick that is
#: just too early for one sees the one before.
_LEAST_FRESH_S = 0.0015


def keep_pace(
    tick: Callable[[float], Tick],
    period_s: float,
    clock: Callable[[], float],
    wait: Callable[[float], object],
    ended: Callable[[], bool],
    *,
    max_ticks: int | None = None,
    follow_sensors: bool = False,
    since_news: Callable[[Tick], float] = lambda done: done.oldest_s,
    idle: Callable[[float], None] = lambda slack_s: None,
) -> None:
    """Calls `tick(deadline)` once in each period until `ended()`, or `max_ticks` times.

    `wait(seconds)` may return early. `idle(seconds)` is called after each tick with the time until the next deadline.
    After an overrun the next deadline is the next one of the grid that lies ahead. With `follow_sensors` the grid
    moves, by at most 2 % of a period per tick, to where observations are fresh: `since_news(tick)` seconds ago the tick
    could have seen the same.
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
        if follow_sensors and done.reason == "ok":
            deadline += towards_fresh(since_news(done), period_s)
        idle(deadline - clock())


def towards_fresh(since_s: float, period_s: float) -> float:
    """Seconds by which the next tick comes later, after one that had its observations for so long (NaN: unknown)."""
    if not math.isfinite(since_s):
        return 0.0
    # Later by a period is the same as earlier by none: the nearer way is at most half a period.
    fresh = min(0.5, max(_FRESH, _LEAST_FRESH_S / period_s))
    early = math.remainder(since_s / period_s - fresh, 1.0)
    return -period_s * max(-_LARGEST_SHIFT, min(_LARGEST_SHIFT, early))
