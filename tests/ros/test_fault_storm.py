"""The fault storm, in short: faults of a real server, a native robot and the link; nothing stale, nothing lost."""

from __future__ import annotations

import random

import pytest
from conftest import require_ros
from fault_storm import faults, run, schedule
from lateness import Lateness

#: Processes on a command's way: edge, proxy, server, robot.
HOPS = 4


@pytest.mark.parametrize("injections", [6, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(1500)])])
def test_faults_leave_nothing_stale_and_lose_nothing(injections):
    require_ros()
    with Lateness() as lateness:
        figures = run(injections, seed=1)
    assert figures["injections"] == injections
    assert figures["lost"] == []
    assert figures["commands_heard"] > 5 * injections
    # A command that leaves in the milliseconds before a stall may be in the server's hands.
    stalls = sum(v["n"] for kind, v in figures["by_kind"].items() if "stopped" in kind or "half open" in kind)
    stale = [age for age in figures["stale_ms"] if age > 200 + 1e3 * HOPS * lateness.worst_s]
    assert len(stale) <= 1 + stalls // 50
    assert figures["threads"]["max"] <= figures["threads"]["first"] + 1
    medians = figures["memory_mib"]["medians_of_quarters"]
    # One step when the allocator keeps the room of the largest frame; no growth beyond.
    assert medians[-1] < medians[0] + 40


def test_a_long_storm_has_every_kind_of_fault():
    order = schedule(random.Random(1), 200)
    assert len(order) == 200
    assert set(order) == set(faults())
