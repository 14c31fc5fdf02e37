"""Slew and low-pass as the robot hears them: in its own units, from its own standstill, whatever the policy's are."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from conftest import ROBOT
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime.controlled import PERIOD, make

from ros_bridge.commands import CommandMaker
from ros_bridge.messages import load
from ros_bridge.robot_config import RobotConfig, load_robot
from ros_bridge.robot_controller import controller_config
from ros_bridge.ros_robot import RosRobot

STAND = {"low": (-3.0, -3.0), "high": (3.0, 3.0)}
scales = st.one_of(st.floats(0.125, 4.0), st.floats(-4.0, -0.125))
offsets = st.floats(-2.0, 2.0)
wishes = st.lists(st.one_of(st.none(), st.tuples(*[st.floats(-5.0, 5.0, width=32)] * 2)), min_size=1, max_size=20)


def robot_with(**action: Any) -> RobotConfig:
    config = load_robot(ROBOT)
    return dataclasses.replace(config, action=dataclasses.replace(config.action, **{**STAND, **action}))


def heard(config: RobotConfig, asked: list[tuple[float, float] | None]) -> np.ndarray:
    """The command of every tick as the robot hears it, zeros before the first; None is a lost link, which stops it."""
    published: list[Any] = []
    behind = RosRobot(config, (), commands=CommandMaker(config.action, load), publish=published.append)
    ours = controller_config(config, ())
    limits = {name: getattr(ours, name) for name in ("slew_per_s", "low_pass_s", "at_rest")}
    controller, robot, clock = make(**limits)
    robot.on_send = behind.send
    for wish in asked:
        robot.connected = wish is not None
        robot.values["position"] = np.float32(wish or (0, 0))
        if controller.tick().reason != "ok":
            behind.stop("stopped")
        clock.sleep(PERIOD)
    return np.array([(0.0, 0.0)] + [(m.linear.x, m.angular.z) for m in published])


@settings(deadline=None)
@given(
    st.tuples(scales, scales), st.tuples(offsets, offsets), st.tuples(*[st.floats(0.05, 20.0)] * 2),
    st.sampled_from([None, 0.05, 1.0]), wishes,
)  # fmt: skip
def test_no_command_changes_faster_than_the_robots_slew_whatever_scale_and_offset(scale, offset, slew, low_pass, asked):
    commands = heard(robot_with(scale=scale, offset=offset, slew_per_s=slew, low_pass_s=low_pass), asked)
    assert len(commands) == len(asked) + 1
    largest = np.asarray(slew) * PERIOD
    for wish, before, after in zip(asked, commands, commands[1:], strict=False):
        if wish is None:
            assert after.tolist() == [0.0, 0.0]  # stopping is never limited
        else:
            assert (np.abs(after - before) <= largest + 1e-5).all()


@settings(deadline=None)
@given(st.tuples(scales, scales), st.tuples(offsets, offsets), st.tuples(*[st.floats(-1.0, 1.0)] * 2))
def test_the_slew_leads_to_what_the_policy_asks_for(scale, offset, wish):
    config = robot_with(scale=scale, offset=offset, slew_per_s=(20.0, 20.0), low=(-9.0, -9.0), high=(9.0, 9.0))
    commands = heard(config, [wish] * 8)
    # The tiny policy adds a hundredth or so to its wish as its memory grows.
    assert commands[-1] == pytest.approx(np.multiply(wish, scale) + offset, abs=0.05 * max(map(abs, scale)))


@pytest.mark.parametrize(
    ("keys", "step"),
    [
        ({"scale": (1.0, 2.0)}, [0.05, 0.05]),
        ({"scale": (-1.0, -2.0)}, [-0.05, -0.05]),
        ({"offset": (-0.3, 0.0), "low": (-0.3, -1.0), "high": (0.3, 1.0)}, [0.05, 0.05]),
    ],
)
def test_each_tick_adds_a_tenth_of_the_slew_at_10_hz(keys, step):
    commands = heard(robot_with(slew_per_s=(0.5, 0.5), **keys), [(1.0, 1.0)] * 3)
    assert np.diff(commands, axis=0) == pytest.approx(np.array([step] * 3), abs=1e-6)


def test_slew_counts_from_standstill_down_to_what_the_policys_zero_means():
    config = robot_with(offset=(-0.3, 0.0), low=(-0.3, -1.0), high=(0.3, 1.0), slew_per_s=(0.5, 0.5))
    assert heard(config, [(-1.0, 0.0)] * 2)[:, 0] == pytest.approx([0.0, -0.05, -0.1], abs=1e-6)


def test_low_pass_begins_at_standstill():
    config = robot_with(offset=(1.0, 0.0), scale=(0.5, 1.0), low_pass_s=10 * PERIOD)
    share = 1 - math.exp(-0.1)
    assert heard(config, [(5.0, 0.0)])[1, 0] == pytest.approx(1.5 * share, abs=1e-6)


def test_standstill_outside_the_policys_bounds_is_left_at_the_slew():
    # The policy's entries reach from -1 to 1 and -2 to 2: as speeds, 1 m/s is the least that it can ask for.
    config = robot_with(offset=(2.0, 0.0), slew_per_s=(4.0, 4.0))
    assert heard(config, [(-5.0, 0.0)] * 4)[:, 0] == pytest.approx([0.0, 0.4, 0.8, 1.0, 1.0], abs=1e-5)


def test_robot_that_holds_a_position_has_no_standstill_among_its_actions():
    arm = load_robot(ROBOT.with_name("arm.yaml"))
    assert controller_config(arm, ()).at_rest is None
