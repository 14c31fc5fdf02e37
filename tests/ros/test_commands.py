"""Actions to command messages of every kind, what stops the robot, and what may not be configured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mcsd_agent.errors import UserError
from mcsd_agent.strict import build
from ros_bridge import own_types
from ros_bridge.action_config import ACKERMANN, ARRAYS, TRAJECTORY, TWIST_STAMPED, ActionConfig
from ros_bridge.commands import CommandMaker
from ros_bridge.messages import load
from ros_bridge.robot_config import RobotConfig
from ros_bridge.ros_robot import RosRobot

JOINTS = ["shoulder", "elbow"]
JointState = load("sensor_msgs/msg/JointState")


def action(**keys: Any) -> dict[str, Any]:
    return {"topic": "/command", "fields": JOINTS, "low": [-2, -2], "high": [2, 2], **keys}


def maker(stamp: Any = None, **keys: Any) -> CommandMaker:
    own_types.register()
    return CommandMaker(build(ActionConfig, action(**keys)), load, stamp)


def test_stamped_twist_has_stamp_and_frame():
    now = load("builtin_interfaces/msg/Time")(sec=7)
    made = maker(lambda: now, message=TWIST_STAMPED, fields=["linear.x", "angular.z"], frame_id="base")
    message = made.message(made.values(np.float32([1.0, -3.0]), None))
    assert (message.header.stamp.sec, message.header.frame_id) == (7, "base")
    assert (message.twist.linear.x, message.twist.angular.z) == (1.0, -2.0)
    assert made.stop_message(None).twist == load("geometry_msgs/msg/Twist")()


def test_car_is_steered():
    made = maker(message=ACKERMANN, fields=["speed", "steering_angle"])
    message = made.message(np.float32([1.5, 0.25]))
    assert (message.drive.speed, message.drive.steering_angle) == (1.5, 0.25)


@pytest.mark.parametrize("kind", ARRAYS)
def test_array_carries_the_action_in_order(kind):
    made = maker(message=kind, stop="zeros")
    assert made.message(np.float32([0.5, -1.0])).data.tolist() == [0.5, -1.0]
    assert made.stop_message(None).data.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("quantity", "field"), [("position", "positions"), ("velocity", "velocities")])
def test_trajectory_names_joints_and_begins_now(quantity, field):
    stop = {"stop": "hold", "hold_from": "joints"} if quantity == "position" else {}
    message = maker(message=TRAJECTORY, quantity=quantity, time_from_start_s=1.25, **stop).message(np.float32([1, 2]))
    (point,) = message.points
    assert message.joint_names == JOINTS
    assert getattr(point, field).tolist() == [1.0, 2.0]
    assert (point.time_from_start.sec, point.time_from_start.nanosec) == (1, 250_000_000)
    assert message.header.stamp.sec == 0


def test_trajectory_is_stamped_for_a_guard():
    now = load("builtin_interfaces/msg/Time")(sec=7)
    keys = {"message": TRAJECTORY, "quantity": "velocity", "time_from_start_s": 1.0, "time_topic": "/guard/time"}
    assert maker(lambda: now, **keys).message(np.float32([1, 2])).header.stamp.sec == 7


def test_action_is_converted_to_the_robots_units_and_back():
    made = maker(message=ARRAYS[0], stop="zeros", scale=[100, -1], offset=0.5, low=[-50, -2], high=[50, 2])
    values = made.values(np.float32([0.25, 1.0]), None)
    assert values.tolist() == [25.5, -0.5]
    assert made.action_of(values).tolist() == pytest.approx([0.25, 1.0])
    assert made.values(np.float32([9.0, 0.0]), None)[0] == 50


@pytest.mark.parametrize(
    ("keys", "part"),
    [
        ({"message": "geometry_msgs/msg/Twists"}, "is no command; did you mean 'geometry_msgs/msg/Twist'"),
        ({"message": ACKERMANN}, "'shoulder' is no field of a AckermannDriveStamped"),
        ({"message": ARRAYS[0]}, "action.stop is missing"),
        ({"message": TRAJECTORY}, "action.stop is missing"),
        ({"message": TRAJECTORY, "stop": "hold"}, "hold_from is None"),
        ({"message": ARRAYS[0], "stop": "zeros", "max_step": 1}, "max_step needs stop: hold"),
        ({"message": ARRAYS[0], "stop": "hold", "hold_from": "j", "slew_per_s": [1, 1]}, "use max_step"),
        ({"message": ARRAYS[0], "stop": "zeros", "scale": 0}, "scale is 0.0; it must be other than 0"),
        ({"message": ARRAYS[0], "stop": "zeros", "offset": [1]}, "one value per field"),
        ({"message": ARRAYS[0], "stop": "zeros", "low": [1, 1]}, "0 must stop it"),
        ({"fields": ["linear.x", "angular.z"], "stop": "hold", "hold_from": "j"}, "carries speeds"),
        ({"fields": ["linear.x", "angular.z"], "time_topic": "/guard/time"}, "carries no stamp; use .*TwistStamped"),
        ({"message": TRAJECTORY, "stop": "zeros", "time_topic": "time"}, "must be absolute"),
    ],
)
def test_command_that_makes_no_sense_is_refused(keys, part):
    with pytest.raises(UserError, match=part):
        build(ActionConfig, action(**keys))


class Arm:
    """A robot that holds positions, with a clock of the test's."""

    def __init__(self, **keys: Any) -> None:
        joints = {"names": ["elbow", "wrist", "shoulder"], "quantity": "position"}
        data = {
            "name": "arm",
            "rate_hz": 10,
            "watchdog_s": 0.2,
            "observations": {"joints": {"topic": "/joint_states", "max_age_s": 0.2, "joints": joints}},
            "action": action(message=TRAJECTORY, stop="hold", hold_from="joints", **keys),
        }
        config = build(RobotConfig, data)
        self.now, self.published = 0.0, []
        self.robot = RosRobot(
            config,
            (),  # the policy need not see what a stop holds
            commands=CommandMaker(config.action, load),
            publish=lambda m: self.published.append(m.points[0].positions.tolist()),
            clock=lambda: self.now,
        )

    def at(self, elbow: float, shoulder: float) -> None:
        message = JointState(name=["elbow", "wrist", "shoulder"], position=[elbow, 9.0, shoulder])
        self.robot.receivers()["joints"](message)


def test_stop_is_where_the_arm_is_when_the_stop_begins():
    arm = Arm()
    arm.robot.stop("missing:instruction")
    assert arm.published == []  # nobody knows where it is
    arm.at(elbow=1.0, shoulder=0.5)
    arm.robot.stop("missing:instruction")
    arm.at(elbow=0.9, shoulder=0.4)  # it sinks
    arm.robot.stop("missing:instruction")
    assert arm.published == [[0.5, 1.0], [0.5, 1.0]]
    arm.robot.send(np.float32([0.0, 0.0]))
    arm.robot.stop("held")
    assert arm.published[-1] == pytest.approx([0.4, 0.9])


def test_stop_of_an_arm_that_is_no_longer_seen_is_what_it_was_sent_last():
    arm = Arm()
    arm.at(elbow=0.0, shoulder=0.0)
    arm.robot.send(np.float32([0.25, 0.5]))
    arm.now = 1.0
    arm.robot.stop("stale:joints")
    assert arm.published[-1] == [0.25, 0.5]


def test_no_position_is_further_than_max_step_from_where_the_arm_is():
    arm = Arm(max_step=[0.125, 0.5])
    with pytest.raises(ValueError, match="joints is missing or too old"):
        arm.robot.send(np.float32([1.0, 1.0]))
    arm.at(elbow=0.0, shoulder=1.0)
    assert arm.robot.send(np.float32([-1.0, 0.25])).tolist() == [0.875, 0.25]


def test_halted_robot_gets_stops_whatever_is_sent():
    arm = Arm()
    arm.at(elbow=1.0, shoulder=0.5)
    arm.robot.halt()
    assert arm.robot.send(np.float32([0.0, 0.0])).tolist() == [0.0, 0.0]
    assert arm.published == [[0.5, 1.0], [0.5, 1.0]]
    arm.robot.release()
    arm.robot.send(np.float32([0.0, 0.0]))
    assert arm.published[-1] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"hold_from": "wheels"}, r"hold_from is 'wheels'; .* \['joints'\]"),
        ({"fields": ["shoulder", "knee"]}, "'knee'"),
    ],
)
def test_hold_needs_the_joints_positions(change, part):
    data = {
        "name": "arm",
        "rate_hz": 10,
        "watchdog_s": 0.2,
        "observations": {
            "joints": {"topic": "/j", "max_age_s": 0.2, "joints": {"names": JOINTS, "quantity": "position"}},
        },
        "action": action(message=TRAJECTORY, stop="hold", **{"hold_from": "joints", **change}),
    }
    with pytest.raises(UserError, match=part):
        build(RobotConfig, data)
