"""The controller's view of a robot on topics: bounds, what was really sent, and how instructions fade."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import ROBOT

from ros_bridge.commands import CommandMaker
from ros_bridge.messages import load
from ros_bridge.robot_config import load_robot
from ros_bridge.ros_robot import RosRobot, SpokenText

Twist = load("geometry_msgs/msg/Twist")
JointState = load("sensor_msgs/msg/JointState")
NAMES = ("ranges", "labels", "wheel_velocities", "instruction")


@pytest.fixture
def published() -> list:
    return []


@pytest.fixture
def robot(published: list) -> RosRobot:
    config = load_robot(ROBOT)
    commands = CommandMaker(config.action, load)
    return RosRobot(config, NAMES, commands=commands, publish=published.append, clock=lambda: 5.0)


def test_action_goes_to_its_fields_within_the_robots_bounds(robot, published):
    sent = robot.send(np.float32([0.9, -0.5]))
    assert sent.tolist() == pytest.approx([0.6, -0.5])
    assert published[0].linear.x == pytest.approx(0.6)
    assert published[0].angular.z == pytest.approx(-0.5)


def test_stop_is_a_command_of_zeros(robot, published):
    robot.stop("stale:ranges")
    assert published == [Twist()]


def test_reading_has_what_arrived_and_nothing_else(robot):
    assert robot.observe().values == {}
    receive = robot.receivers()["wheel_velocities"]
    receive(JointState(name=["wheel_left_joint", "wheel_right_joint"], velocity=[1.0, 2.0]))
    reading = robot.observe()
    assert reading.values["wheel_velocities"].tolist() == [1.0, 2.0]
    assert reading.stamps == {"wheel_velocities": 5.0}


def test_unreadable_message_leaves_the_old_value_and_is_counted(robot):
    robot.receivers()["wheel_velocities"](JointState(name=["other"], velocity=[1.0]))
    assert robot.observe().values == {}
    assert robot.rejected == {"wheel_velocities": 1}
    assert "no joint 'wheel_left_joint'" in robot.last_error


def test_only_observations_that_the_policy_uses_are_received():
    config = load_robot(ROBOT)
    robot = RosRobot(config, ("ranges",), commands=CommandMaker(config.action, load), publish=lambda m: None)
    assert list(robot.receivers()) == ["ranges"]


def test_instruction_is_absent_until_something_is_said(robot):
    assert "instruction" not in robot.observe().values
    robot.spoken.hear("go")
    assert robot.observe().values["instruction"] == "go"
    robot.spoken.forget()
    assert "instruction" not in robot.observe().values


def test_spoken_once_is_seen_for_so_many_driven_ticks_and_then_empty():
    spoken = SpokenText(2)
    spoken.hear("go")
    # A tick that could not drive does not use it up.
    seen = [spoken.visible(), spoken.visible()]
    for _ in range(3):
        seen.append(spoken.visible())
        spoken.used()
    assert seen == ["go", "go", "go", "go", ""]
    spoken.hear("stop")
    assert spoken.visible() == "stop"


def test_without_a_limit_it_stays_visible():
    spoken = SpokenText(None)
    spoken.hear("go")
    for _ in range(100):
        spoken.used()
    assert spoken.visible() == "go"
