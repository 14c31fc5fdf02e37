"""Watchdogs: each stops the robot in the tick in which its limit is exceeded, says why, and not before."""

from __future__ import annotations

import numpy as np
import pytest
from runtime.controlled import PERIOD, make, reasons, steps

from mcsd_agent.errors import UserError
from mcsd_agent.runtime.watchdogs import ClockWatch, RangeWatch
from mcsd_agent.spaces import BoxSpec, DiscreteSpec


def test_sensor_that_repeats_itself_is_frozen_whatever_its_stamps_say():
    controller, robot, clock = make(max_frozen_by_name={"position": 3.5 * PERIOD})
    controller.tick()
    assert reasons(controller, clock, 5) == ["ok"] * 3 + ["frozen:position"] * 2
    assert robot.last == ("stop", "frozen:position")
    robot.values["position"] = np.float32([0.25, -0.26])  # the last digit is enough
    assert reasons(controller, clock, 4) == ["ok"] * 4


def test_values_changed_in_place_are_not_frozen():
    controller, robot, clock = make(max_frozen_by_name={"position": 2.5 * PERIOD})

    def move():
        robot.values["position"] += np.float32(0.001)

    assert reasons(controller, clock, 10, move) == ["ok"] * 10


def test_other_sensors_may_stand_still_for_ever():
    controller, robot, clock = make(max_frozen_by_name={"position": 2.5 * PERIOD})

    def move():
        robot.values["position"] = robot.values["position"] + np.float32(0.001)

    assert reasons(controller, clock, 20, move) == ["ok"] * 20  # the roots never change


@pytest.mark.parametrize("jump", [-3600.0, -1.0, 1.0, 3600.0])
def test_clocks_that_move_apart_cost_one_tick(jump):
    controller, robot, clock = make(max_clock_jump_s=0.5)
    wall = 0.0
    controller._clocks = ClockWatch(0.5, lambda: clock() + wall)
    assert reasons(controller, clock, 3) == ["ok"] * 3
    wall = jump
    clock.sleep(PERIOD)
    tick = controller.tick()
    assert tick.reason == "clock_jump"
    assert f"{jump:+.3f} s" in tick.detail
    assert robot.last == ("stop", "clock_jump")
    assert reasons(controller, clock, 3) == ["ok"] * 3
    assert steps(controller) == 6, "the memory waits"


@pytest.mark.parametrize("limit", [0.5, None])
def test_controllers_own_clock_that_goes_back_is_seen_without_another(limit):
    controller, _, clock = make(max_clock_jump_s=limit)
    assert reasons(controller, clock, 3) == ["ok"] * 3
    clock._now -= 3600.0
    assert controller.tick().reason == ("clock_jump" if limit else "ok")
    assert reasons(controller, clock, 3) == ["ok"] * 3


def test_clocks_may_drift_slowly():
    watch, now = ClockWatch(0.5, lambda: now * 1.01), 0.0
    for _ in range(1000):
        now += 0.1
        assert watch.check(now) is None


def test_operator_must_be_heard_before_and_while_the_robot_drives():
    controller, robot, clock = make(heartbeat_s=0.35)
    assert reasons(controller, clock, 2) == ["heartbeat"] * 2
    assert controller.mode == "ready"
    controller.heartbeat()
    assert reasons(controller, clock, 5) == ["ok"] * 3 + ["heartbeat"] * 2
    assert robot.last == ("stop", "heartbeat")
    assert controller.mode == "stopped"
    assert reasons(controller, clock, 5, controller.heartbeat) == ["ok"] * 5


def test_absurd_wish_of_the_policy_is_a_fault_and_an_immodest_one_is_clipped():
    controller, robot, clock = make(max_excess=1.0)  # bounds are -1 to 1 and -2 to 2
    robot.values["position"] = np.float32([2.9, -5.9])
    assert reasons(controller, clock, 1) == ["ok"]
    assert robot.last[1].tolist() == [1, -2]
    robot.values["position"] = np.float32([0, -6.1])
    assert reasons(controller, clock, 1) == ["action_out_of_range"]
    robot.values["position"] = np.float32([0, 0])
    assert reasons(controller, clock, 2) == ["faulted:action_out_of_range"] * 2
    controller.reset_memory()
    assert reasons(controller, clock, 1) == ["ok"]


@pytest.mark.parametrize("action", [DiscreteSpec(3), BoxSpec((2,)), BoxSpec((2,), low=(0.0,))])
def test_excess_needs_bounds(action):
    with pytest.raises(UserError, match="needs a Box action with bounds"):
        RangeWatch(action, 1.0)
    assert RangeWatch(action, None).check(np.float32(1e30)) is None


def test_memory_that_grows_beyond_its_beginnings_is_a_fault():
    # The memory counts its steps: its norm is n, beside a position of norm 0.35.
    controller, _, clock = make(max_state_growth=1.5, state_norm_ticks=10)
    assert reasons(controller, clock, 15) == ["ok"] * 15
    clock.sleep(PERIOD)
    tick = controller.tick()
    assert tick.reason == "state_drift"
    assert "norm 16" in tick.detail
    assert "10" in tick.detail
    assert controller.mode == "faulted"
    controller.reset_memory()
    assert reasons(controller, clock, 15) == ["ok"] * 15, "and the measure is taken anew"


def test_norm_of_the_memory_is_in_every_tick():
    controller, robot, clock = make()
    reasons(controller, clock, 3)
    tick = controller.telemetry.last
    assert tick.state_norm == pytest.approx(float(np.linalg.norm(controller.state)))
    robot.connected = False
    reasons(controller, clock, 1)
    assert controller.telemetry.last.state_norm == tick.state_norm


def test_memory_too_large_for_its_norm_is_no_nan():
    controller, robot, clock = make()
    robot.values["position"] = np.float32([1e30, 0])
    assert reasons(controller, clock, 2) == ["ok"] * 2
    assert controller.telemetry.last.state_norm == np.inf
    assert controller.telemetry.last.to_json()["state_norm"] is None
    controller, robot, clock = make(max_state_growth=1e9, state_norm_ticks=1)
    reasons(controller, clock, 1)
    robot.values["position"] = np.float32([1e30, 0])
    assert reasons(controller, clock, 1) == ["state_drift"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"max_frozen_by_name": {"instruction": 1.0}}, "no sensor gives 'instruction'"),
        ({"max_frozen_by_name": {"positon": 1.0}}, "did you mean 'position'"),
        ({"max_frozen_by_name": {"position": 0.0}}, "max_frozen_by_name.position=0.0"),
        ({"heartbeat_s": -1.0}, "heartbeat_s=-1.0"),
        ({"max_clock_jump_s": float("nan")}, "max_clock_jump_s=nan"),
        ({"max_excess": 0.0}, "max_excess=0.0"),
        ({"max_state_growth": float("inf")}, "max_state_growth=inf"),
        ({"state_norm_ticks": 0}, "state_norm_ticks=0"),
        ({"on_resume": "forget"}, "on_resume='forget' must be 'keep' or 'reset'"),
        ({"on_telemetry_loss": "shout"}, "on_telemetry_loss='shout'"),
    ],
)
def test_impossible_limits_are_refused(config, message):
    with pytest.raises(UserError, match=message):
        make(**config)
