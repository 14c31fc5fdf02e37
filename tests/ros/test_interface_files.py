"""Message classes from the user's own .msg, .srv and .action text, and rclpy's import paths."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, require_ros

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
        ("my_robot/msg/Bad", "int32 a\n\nint32\n", "my_robot/msg/Bad line 3: 'int32' cannot be read"),
        ("my_robot/msg/Bad", "int32 K=abc\n", "line 1: value 'abc' of int32 K must be an integer"),
        (
            "my_robot/srv/Bad",
            "int32 a\n---\nint8 b 300\n",
            r"srv/Bad line 3: default '300' of int8 b must be an int in",
        ),
        ("my_robot/msg/Bad", "string s 'it's'\n", "inner quotes escaped"),
        ("my_robot/msg/Bad", "string<=3 s 'long'\n", "at most 3 characters"),
        ("my_robot/msg/Bad", "string[] s ['a, b]\n", "closing quote"),
        ("my_robot/msg/Bad", "float64[2] f [1.0]\n", "exactly 2 items"),
        ("my_robot/msg/Bad", "float64[] f 1.0\n", "must be a list in brackets"),
        ("my_robot/msg/Bad", "float64 f fast\n", "must be a number such as 0.5"),
        ("my_robot/msg/Bad", "bool b maybe\n", "must be true or false"),
        ("my_robot/msg/Bad", "std_msgs/Header h x\n", "must belong to a number, a string, a bool"),
        ("my_robot/srv/Bad", "int32 a\n", "2 parts between ---, not 1"),
        ("std_msgs/msg/String", "int32 data\n", "known already, with other fields"),
        ("std_srvs/srv/SetBool", "int32 data\n---\n", "known already"),
    ],
)
def test_bad_text_names_the_type_and_the_reason(name, text, reason):
    with pytest.raises(UserError, match=reason) as failure:
        messages.register(name, text)
    assert "\n" not in str(failure.value)


def test_stated_strings_are_read_as_ros_reads_them():
    text = r"""string single 'Hello\'world!'
string double "Hello\"world!"
string other "Hello'world!"   # it's escaped no more
string bare it's bare # and this a comment
string hash 'a # b' # 'c'
string spaces "  a "
string[] several ["a, b", 'c\'d', e]
wstring<=9 wide "Hellö"
string QUOTED='it\'s'
byte BYTE=0x10
byte b 0x1f
"""
    message = messages.register("my_robot/msg/Strings", text)()
    assert [message.single, message.double, message.other] == ["Hello'world!", 'Hello"world!', "Hello'world!"]
    assert (message.bare, message.hash, message.spaces) == ("it's bare", "a # b", "  a ")
    assert (message.several, message.wide, message.b) == (["a, b", "c'd", "e"], "Hellö", b"\x1f")
    assert type(message).get_fields_and_field_types()["wide"] == "wstring<9>"
    assert (message.QUOTED, message.BYTE) == ("it's", b"\x10")


TEST_MSGS = """
import json, test_msgs.msg as types
def plain(v):
    fields = getattr(v, "get_fields_and_field_types", None)
    if fields: return {k: plain(getattr(v, k)) for k in fields()}
    if isinstance(v, bytes): return list(v)
    if hasattr(v, "tolist"): return v.tolist()
    return [plain(x) for x in v] if isinstance(v, list) else v
print(json.dumps({n: plain(getattr(types, n)()) for n in dir(types) if n[0].isupper()}))
"""


def test_interfaces_that_ros_tests_itself_with_have_the_same_defaults():
    require_ros()
    folder = Path(sys.prefix) / "share" / "test_msgs"
    names = [name for name in messages.register_files(folder) if "/msg/" in name]
    process = subprocess.run([sys.executable, "-c", TEST_MSGS], capture_output=True, text=True, cwd=ROOT, check=True)
    native = json.loads(process.stdout)
    assert len(names) > 10
    for name in names:
        theirs = native[name.rsplit("/", 1)[1]]
        theirs.pop("structure_needs_at_least_one_member", None)
        assert plain(messages.load(name)()) == theirs, name


def plain(value):
    if hasattr(value, "FIELDS"):
        return {name: plain(getattr(value, name)) for name in value.FIELDS}
    if isinstance(value, bytes):
        return list(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return [plain(v) for v in value] if isinstance(value, list) else value


def test_installed_interfaces_of_ros_are_registered_beside_what_is_known():
    require_ros()
    assert len(messages.register_files(Path(sys.prefix) / "share")) > 100


def test_file_that_cannot_be_read_is_named_with_its_line(tmp_path):
    folder = tmp_path / "bad_robot" / "msg"
    folder.mkdir(parents=True)
    path = folder / "Bad.msg"
    path.write_text("int32 a\nint32 b five\n")
    with pytest.raises(UserError, match=r"Bad\.msg'.* line 2: default 'five' of int32 b must be an integer"):
        messages.register_files(tmp_path)
    path.write_bytes(b"# \xff\n")
    with pytest.raises(UserError, match=r"Bad\.msg': is not UTF-8 text"):
        messages.register_files(tmp_path)


SHIPPED = """
from ros_bridge.messages import load
print(load("ackermann_msgs/msg/AckermannDrive")(speed=1.0).speed)
from ros_bridge import imports
imports.install()
from example_interfaces.srv import AddTwoInts, SetBool, Trigger
from example_interfaces.msg import Float32MultiArray, Int64, MultiArrayDimension, WString
from example_interfaces.action import Fibonacci
from ackermann_msgs.msg import AckermannDriveStamped
print(AddTwoInts.Response(sum=AddTwoInts.Request(a=2, b=3).a + 3).sum, AddTwoInts.__module__)
array = Float32MultiArray(data=[1.0])
array.layout.dim = [MultiArrayDimension(label="x", size=1, stride=1)]
print(array.layout.dim[0].label, WString(data="ö").data, Trigger.Response(success=True).success)
"""


def test_shipped_packages_are_found_when_they_are_used_first():
    process = subprocess.run([sys.executable, "-c", SHIPPED], cwd=ROOT, capture_output=True, text=True, check=True)
    assert process.stdout.splitlines() == ["1.0", "5 example_interfaces.srv._add_two_ints", "x ö True"]


def test_example_interfaces_have_the_messages_of_std_msgs_under_their_own_name():
    ours = [name for name in messages.type_names() if name.startswith("example_interfaces/")]
    assert len(ours) == 29
    for name in ours:
        fields = messages.load(name).get_fields_and_field_types()
        if name != "example_interfaces/msg/WString":
            theirs = messages.load(name.replace("example_interfaces", "std_msgs")).get_fields_and_field_types()
            assert {k: v.replace("std_msgs", "example_interfaces") for k, v in theirs.items()} == fields, name


def test_shipped_interfaces_are_in_the_package_data():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["ros_bridge"]
    packed = {path for pattern in data for path in (ROOT / "ros_bridge").glob(pattern)}
    assert ROOT / "ros_bridge/interfaces/example_interfaces/srv/AddTwoInts.srv" in packed


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
