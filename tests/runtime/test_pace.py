"""The loop that follows its sensors finds a place where messages that come a little late are still in time."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mcsd_agent.runtime import VirtualClock
from mcsd_agent.runtime.pace import keep_pace


@pytest.mark.parametrize("rate_hz", [50.0, 100.0, 200.0])
@pytest.mark.parametrize("phase", [0.0, 0.3, 0.6, 0.9])
def test_jitter_of_a_millisecond_makes_no_observation_older_than_a_period(rate_hz, phase):
    period, ticks = 1 / rate_hz, 400
    jitter = np.random.default_rng(0).uniform(0, 0.001, ticks + 10)
    arrivals = (np.arange(ticks + 10) + phase) * period + jitter
    clock, ages = VirtualClock(1.0 + period), []

    def tick(deadline: float) -> SimpleNamespace:
        now = clock()
        came = arrivals[arrivals <= now - 1.0]
        age = now - 1.0 - came[-1] if came.size else float("nan")
        ages.append(age)
        return SimpleNamespace(time=now, reason="ok" if came.size else "missing", oldest_s=age)

    keep_pace(tick, period, clock, clock.sleep, lambda: False, max_ticks=ticks, follow_sensors=True)
    assert max(ages[40:]) < 0.6 * period
