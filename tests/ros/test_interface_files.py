"""Message classes from the user's own .msg, .srv and .action text, and rclpy's import paths."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from mcsd_agent.errors import UserError
from ros_bridge import messages
from ros_bridge.codec import from_json, to_json

WHEEL = """# one wheel
int32 LEFT=1
int32 RIGHT = 2      # the other
int32 side 2
string label "a # b" # quoted
float64[] gains [1, 2.5]
float32[3] axis [0, 0, 1]
string<=5 short
builtin_interfaces/Time stamp
Axle axle
Axle[<=2] more
bool on true
"""


@pytest.fixture(scope="module")
def wheel():
    # The nested type is registered after the type that uses it.
    cls = messages.register("my_robot/msg/Wheel", WHEEL)
    messages.register("my_robot/msg/Axle", "float64 length 0.5\n")
    return cls


def test_fields_constants_and_stated_defaults(wheel):
    message = wheel()
    assert (wheel.LEFT, wheel.RIGHT, message.side, message.label, message.on) == (1, 2, 2, "a # b", True)
    assert message.gains.tolist() == [1.0, 2.5]
    assert message.axis.tolist() == [0.0, 0.0, 1.0]
    assert message.axle.length == 0.5
    message.gains[0] = 7.0
    assert wheel().gains[0] == 1.0  # nothing is shared
    types = wheel.get_fields_and_field_types()
    assert types["more"] == "sequence<my_robot/Axle, 2>"
    assert types["short"] == "string<5>"


def test_registered_messages_check_and_travel(wheel):
    axle = messages.load("my_robot/msg/Axle")
    message = wheel(gains=[3.0], more=[axle(length=2.0)], short="abc")
    assert from_json(wheel, to_json(message)) == message
    with pytest.raises(messages.MessageError, match="at most 2 items"):
        wheel(more=[axle()] * 3)
    with pytest.raises(messages.MessageError, match="at most 5 characters"):
        wheel(short="abcdef")
    assert message.gains.dtype == np.float64


def test_services_and_actions_have_their_parts():
    add = messages.register("my_robot/srv/Add", "int64 a\nint64 b 3\n---\nint64 sum\n")
    assert (add.Request().b, add.Response(sum=4).sum) == (3, 4)
    fibonacci = messages.register(
        "my_robot/action/Fibonacci", "int32 order\n---\nint32[] sequence\n---\nint32[] partial\n"
    )
    assert fibonacci.Goal(order=3).order == 3
    assert fibonacci.Result().sequence.size == fibonacci.Feedback().partial.size == 0


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("my_robot/Wheel", "int32 a\n", "must be package/msg/Name"),
        ("my_robot/msg/Bad", "int32\n", "cannot be read"),
        ("my_robot/srv/Bad", "int32 a\n", "2 parts between ---, not 1"),
        ("std_msgs/msg/String", "int32 data\n", "known already, with other fields"),
        ("std_srvs/srv/SetBool", "int32 data\n---\n", "known already"),
    ],
)
def test_bad_text_names_the_type_and_the_reason(name, text, reason):
    with pytest.raises(UserError, match=reason):
        messages.register(name, text)


def test_folder_of_files_is_registered_once_and_again(tmp_path):
    folder = tmp_path / "their_robot" / "msg"
    folder.mkdir(parents=True)
    (folder / "Arm.msg").write_text("float64 reach 1.5\n")
    for path in (tmp_path, folder / "Arm.msg"):
        assert messages.register_files(path) == ["their_robot/msg/Arm"]
    assert messages.load("their_robot/msg/Arm")().reach == 1.5
    with pytest.raises(UserError, match="no interface file or folder"):
        messages.register_files(tmp_path / "none")
    (tmp_path / "Lone.msg").write_text("int32 a\n")
    with pytest.raises(UserError, match="must lie in package/msg/"):
        messages.register_files(tmp_path / "Lone.msg")


PROGRAM = """
import rclpy, rclpy.node, sys
from rclpy.qos import QoSProfile
from std_msgs.msg import String
from std_srvs.srv import Trigger
import geometry_msgs.msg as g
from house.msg import Room
from house.action import Clean
from example_interfaces.action import Fibonacci
from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient, ActionServer
from ros_bridge.messages import load
assert rclpy.node.__name__ == "ros_bridge.rclpy.node"
assert rclpy.node.__spec__.name == "ros_bridge.rclpy.node"
assert String is load("std_msgs/msg/String") and Room().area == 2.0
assert Clean.Goal().speed == 0.5 and Clean.Impl.FeedbackMessage().feedback == Clean.Feedback(done=0.0)
assert Fibonacci.Impl.GetResultService.Response(status=GoalStatus.STATUS_SUCCEEDED).result == Fibonacci.Result()
assert g.Twist.__module__ == "geometry_msgs.msg._twist"
import yaml
try:
    import rclpy.serialization
except ModuleNotFoundError as error:
    print(error)
print(sys.argv, __name__)
"""


def test_program_written_for_rclpy_runs_without_it(tmp_path):
    folder = tmp_path / "house" / "msg"
    folder.mkdir(parents=True)
    (folder / "Room.msg").write_text("float64 area 2\n")
    (tmp_path / "house" / "action").mkdir()
    (tmp_path / "house" / "action" / "Clean.action").write_text(
        "float64 speed 0.5\n---\nRoom[] cleaned\n---\nfloat64 done\n"
    )
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "ros_bridge", "--interfaces", str(tmp_path), str(program), "a", "--b"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert process.stdout.splitlines() == [
        "rclpy.serialization is not here over rosbridge; see docs/ros.md",
        f"{[str(program), 'a', '--b']} __main__",
    ]
    for arguments, reason in ((["--url"], "--url needs a value"), (["none.py"], "no program 'none.py'"), ([], "usage")):
        process = subprocess.run(
            [sys.executable, "-m", "ros_bridge", *arguments], cwd=ROOT, capture_output=True, text=True
        )
        assert process.returncode == 2
        assert reason in process.stderr
        assert "Traceback" not in process.stderr
