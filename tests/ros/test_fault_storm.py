"""The fault storm, in short: faults of a real server, a robot, its guard and the link; nothing stale, nothing lost."""

from __future__ import annotations

import random

import pytest
from conftest import require_ros
from fault_storm import faults, run, schedule
from lateness import Lateness

#: Processes that a command still waits for when the guard has let it pass: the guard itself and the robot.
HOPS = 2


@pytest.mark.parametrize("injections", [6, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(1500)])])
def test_faults_leave_nothing_stale_and_lose_nothing(injections):
    require_ros()
    with Lateness() as lateness:
        figures = run(injections, seed=1)
    assert figures["injections"] == injections
    assert figures["lost"] == []
    assert figures["commands_heard"] > 5 * injections
    assert [age for age in figures["stale_ms"] if age > 200 + 1e3 * HOPS * lateness.worst_s] == []
    assert figures["guard"]["passed"] > 5 * injections
    assert figures["threads"]["max"] <= figures["threads"]["first"] + 1
    medians = figures["memory_mib"]["medians_of_quarters"]
    # One step when the allocator keeps the room of the largest frame; no growth beyond.
    assert medians[-1] < medians[0] + 40


@pytest.mark.parametrize("guarded", [True, False])
def test_a_long_storm_has_every_kind_of_fault(guarded):
    order = schedule(random.Random(1), 200, guarded=guarded)
    assert len(order) == 200
    assert set(order) == set(faults(guarded=guarded))
