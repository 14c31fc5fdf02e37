"""Message classes and their JSON: defaults, rclpy's rules, round trips, and agreement with the native classes."""

from __future__ import annotations

import array
import copy
import functools
import json
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, require_ros
from hypothesis import given
from hypothesis import strategies as st

from mcsd_agent.errors import UserError
from ros_bridge.codec import from_json, to_json
from ros_bridge.messages import SERVICES, MessageError, load, module, type_names

JointState = load("sensor_msgs/msg/JointState")
LaserScan = load("sensor_msgs/msg/LaserScan")
Image = load("sensor_msgs/msg/Image")
Twist = load("geometry_msgs/msg/Twist")
DiagnosticStatus = load("diagnostic_msgs/msg/DiagnosticStatus")

finite = st.floats(allow_nan=False, allow_infinity=False)
finite32 = st.floats(allow_nan=False, allow_infinity=False, width=32)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def through_json(message):
    return from_json(type(message), json.loads(json.dumps(to_json(message), allow_nan=False)))


def test_every_message_type_has_defaults_and_survives_json():
    names = list(type_names())
    assert len(names) > 100
    for name in names:
        message = load(name)()
        assert through_json(message) == message, name


@given(st.lists(texts, max_size=5), st.lists(finite, max_size=5), st.integers(0, 2**31 - 1), st.integers(0, 2**32 - 1))
def test_joint_state_survives_json(names, values, seconds, nanoseconds):
    message = JointState(name=names, position=values, velocity=values)
    message.header.stamp.sec, message.header.stamp.nanosec = seconds, nanoseconds
    assert through_json(message) == message


@given(st.lists(finite32, max_size=40))
def test_float32_arrays_survive_json_bit_for_bit(values):
    message = LaserScan(ranges=np.array(values, np.float32))
    assert np.array_equal(through_json(message).ranges, message.ranges)


@given(st.binary(max_size=100))
def test_bytes_travel_as_base64(data):
    message = Image(data=data, encoding="mono8")
    encoded = to_json(message)["data"]
    assert isinstance(encoded, str)
    assert bytes(through_json(message).data) == data
    # Some servers send a list instead.
    assert bytes(from_json(Image, {"data": list(data)}).data) == data


def test_byte_is_bytes_of_length_one_as_in_rclpy():
    message = DiagnosticStatus(level=b"\x02")
    assert to_json(message)["level"] == 2
    assert through_json(message).level == b"\x02"
    assert DiagnosticStatus.ERROR == b"\x02"


def test_null_reads_as_nan_and_whole_numbers_as_floats():
    scan = from_json(LaserScan, {"ranges": [1, None, 2.5], "range_max": 4})
    assert np.array_equal(scan.ranges, np.float32([1, math.nan, 2.5]), equal_nan=True)
    assert scan.range_max == 4.0
    assert isinstance(scan.range_max, float)


def test_missing_fields_keep_their_defaults_and_unknown_ones_are_ignored():
    twist = from_json(Twist, {"linear": {"x": 0.5}, "colour": "red"})
    assert twist == Twist(linear=load("geometry_msgs/msg/Vector3")(x=0.5))


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: JointState(nam=[]), "has no field 'nam'; did you mean 'name'"),
        (lambda: JointState(name="abc"), r"JointState\.name must be a sequence"),
        (lambda: JointState(name=[1]), r"JointState\.name must be a str"),
        (lambda: JointState(position=["a"]), r"position must be a sequence of float64"),
        (lambda: JointState(position=[[1.0]]), r"position must be a flat sequence"),
        (lambda: JointState(header="x"), r"header must be a std_msgs/msg/Header"),
        (lambda: setattr(Twist().linear, "x", 1), r"x must be a float, not 1; .* write 1\.0"),
        (lambda: setattr(Twist().linear, "x", np.int64(3)), r"x must be a float, not 3; .* write 3\.0"),
        (lambda: setattr(Twist().linear, "x", True), r"x must be a float, not True$"),
        (lambda: setattr(Twist().linear, "x", np.bool_(True)), r"x must be a float, not True$"),
        (lambda: Image(height=np.float32(1.0)), r"height must be an int in \[0, 4294967295\], not 1\.0"),
        (lambda: Image(height=np.int64(-1)), r"height must be an int"),
        (lambda: setattr(Twist().linear, "x", "1"), r"x must be a float"),
        (lambda: Image(height=-1), r"height must be an int in \[0, 4294967295\]"),
        (lambda: Image(height=1.0), "height must be an int"),
        (lambda: Image(data=[300]), "data must be a sequence of uint8"),
        (lambda: DiagnosticStatus(level=2), "level must be bytes of length 1"),
        (lambda: load("std_msgs/msg/Bool")(data=1), "data must be a bool"),
        (lambda: load("geometry_msgs/msg/PoseWithCovariance")(covariance=[0.0]), "exactly 36 items"),
        (lambda: load("shape_msgs/msg/SolidPrimitive")(dimensions=[1.0] * 4), "at most 3 items"),
        (lambda: load("std_msgs/msg/Float32")(data=1e39), "must fit float32"),
        (lambda: from_json(Twist, {"linear": {"x": "fast"}}), r"Vector3\.x"),
        (lambda: from_json(Twist, {"linear": 3}), "Vector3 must be a JSON object"),
        (lambda: from_json(Image, {"data": "!!"}), r"Image\.data"),
        (lambda: from_json(JointState, {"position": 3}), r"JointState\.position: must be a JSON list"),
    ],
)
def test_bad_value_names_the_field_and_the_constraint(make, part):
    with pytest.raises(MessageError, match=part) as failure:
        make()
    assert isinstance(failure.value, AssertionError)  # what rclpy raises


def test_assignment_to_an_unknown_field_is_refused():
    with pytest.raises(AttributeError, match="did you mean 'linear'"):
        Twist().linaer = None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_is_refused_with_the_name_of_its_field(bad):
    with pytest.raises(MessageError, match=r"linear\.x is (nan|inf)"):
        to_json(Twist(linear=load("geometry_msgs/msg/Vector3")(x=bad)))
    with pytest.raises(MessageError, match=r"ranges\[1\] is not finite"):
        to_json(LaserScan(ranges=[1.0, bad]))


def test_entries_of_a_sequence_are_numbers_that_do_not_wrap():
    image = Image(data=bytes([200, 100]))
    grid = load("nav_msgs/msg/OccupancyGrid")(data=[100, 100])
    assert (image.data[0] + image.data[1]) / 2 == 150.0
    assert grid.data[0] + grid.data[1] == sum(grid.data) == 200
    first, *_ = LaserScan(ranges=[1.5, 0.5]).ranges
    assert [type(v) for v in (image.data[-1], first, image.data[np.int64(0)])] == [int, float, int]
    with pytest.raises(IndexError):
        image.data[2]


@pytest.mark.parametrize(
    ("ros_type", "value", "kept"),
    [
        ("Float32", np.float32(1.5), 1.5),
        ("Float64", np.float32(1.5), 1.5),
        ("Int32", np.uint8(7), 7),
        ("UInt64", np.uint64(2**64 - 1), 2**64 - 1),
        ("Bool", np.bool_(True), True),
        ("String", np.str_("a"), "a"),
        ("Byte", np.bytes_(b"a"), b"a"),
    ],
)
def test_entries_of_arrays_are_taken_as_the_numbers_they_are(ros_type, value, kept):
    data = load(f"std_msgs/msg/{ros_type}")(data=value).data
    assert data == kept
    assert type(data) is type(kept)


def test_sequences_of_numbers_behave_as_those_of_rclpy():
    scan, other = LaserScan(ranges=[1.5, 0.5]), LaserScan(ranges=[1.5, 0.5])
    assert scan.ranges
    assert LaserScan(ranges=[0.0]).ranges
    assert not LaserScan().ranges
    native = array.array("f", [1.5, 0.5])
    assert json.dumps(min(scan.ranges)) == json.dumps(min(native)) == "0.5"
    for value in (other.ranges, native, [1.5, 0.5], (1.5, 0.5), LaserScan(ranges=[1.5]).ranges):
        # An `array.array` equals no list.
        theirs = array.array("f", value) if hasattr(value, "dtype") else value
        assert (scan.ranges == value) is (native == theirs)
        assert (scan.ranges != value) is (native != theirs)
    with pytest.raises(AttributeError, match="'append'; an array cannot grow or shrink, assign a new list"):
        scan.ranges.append(1.0)
    scan.ranges = [*scan.ranges, 2.0]
    scan.ranges[0] = 3.0
    assert list(scan.ranges) == [3.0, 0.5, 2.0]


def test_whole_sequences_are_computed_with_by_numpy():
    scan = LaserScan(ranges=[1.5, math.inf, 0.5])
    assert type(scan.ranges * 2) is type(np.asarray(scan.ranges)) is np.ndarray
    assert (scan.ranges * 2).tolist() == [3.0, math.inf, 1.0]
    assert (scan.ranges == 0.5).tolist() == [False, False, True]
    assert scan.ranges[np.isfinite(scan.ranges)].tolist() == [1.5, 0.5]
    assert np.shares_memory(np.asarray(scan.ranges), scan.ranges)
    ranges = scan.ranges
    ranges *= 2
    assert (ranges is scan.ranges, scan.ranges.min()) == (True, 1.0)
    assert [row.tolist() for row in Image(data=[1, 2, 3, 4]).data.reshape(2, 2)] == [[1, 2], [3, 4]]


def test_messages_are_pickled_and_copied():
    scan = LaserScan(ranges=[1.5, 0.5])
    scan.header.frame_id = "laser"
    for other in (pickle.loads(pickle.dumps(scan)), copy.deepcopy(scan)):
        assert other == scan
        assert type(other) is LaserScan
        other.header.frame_id, other.ranges[0] = "other", 9.0
        assert (scan.header.frame_id, scan.ranges[0]) == ("laser", 1.5)
    request = load("std_srvs/srv/SetBool").Request(data=True)
    assert pickle.loads(pickle.dumps(request)) == request
    assert copy.copy(scan).header is scan.header


def test_messages_share_nothing():
    first, second = JointState(), JointState()
    first.header.frame_id = "a"
    first.name.append("b")
    assert second == JointState()


def test_unknown_type_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'std_msgs/msg/String'"):
        load("std_msgs/msg/Strin")
    with pytest.raises(UserError, match=r"did you mean 'std_msgs\.msg'"):
        module("std_msg.msg")


def test_services_have_request_and_response():
    trigger = module("std_srvs.srv").Trigger
    assert trigger.Request() == trigger.Request()
    assert trigger.Response(success=True, message="done").message == "done"


ACTION_PARTS = [
    "Goal",
    "Result",
    "Feedback",
    "Impl.FeedbackMessage",
    "Impl.GoalStatusMessage",
    *(
        f"Impl.{name}Service.{half}"
        for name in ("SendGoal", "GetResult", "CancelGoal")
        for half in ("Request", "Response")
    ),
]
NATIVE = """
import importlib, json, sys
def describe(cls):
    return {"fields": cls.get_fields_and_field_types(), "defaults": plain(cls())}
def plain(v):
    fields = getattr(v, "get_fields_and_field_types", None)
    if fields: return {k: plain(getattr(v, k)) for k in fields()}
    if isinstance(v, bytes): return list(v)
    if hasattr(v, "tolist"): return v.tolist()
    return [plain(x) for x in v] if isinstance(v, (list, tuple)) else v
out = {}
for name in json.loads(sys.stdin.read()):
    package, kind, rest = name.split("/")
    path = rest.split("_") if kind == "srv" else rest.split(".")
    cls = importlib.import_module(f"{package}.{kind}")
    for part in path:
        cls = getattr(cls, part)
    out[name] = describe(cls)
print(json.dumps(out))
"""


def test_fields_and_defaults_agree_with_the_native_classes():
    require_ros()
    packages = ("std", "geometry", "sensor", "diagnostic", "nav", "trajectory", "visualization")
    names = [n for n in type_names() if n.split("_msgs/")[0] in packages]
    # The wheels lack tf2_msgs.
    services = [service for service in SERVICES if not service.startswith("tf2_msgs/")]
    names += [f"{service}_{half}" for service in services for half in ("Request", "Response")]
    names += [f"test_msgs/action/Fibonacci.{part}" for part in ACTION_PARTS]
    process = subprocess.run(
        [sys.executable, "-c", NATIVE], input=json.dumps(names), capture_output=True, text=True, cwd=ROOT, check=True
    )
    native = json.loads(process.stdout)
    assert len(native) > 100
    for name in names:
        ros_type, *parts = name.split(".")
        cls = functools.reduce(getattr, parts, load(ros_type))
        fields = {k: v for k, v in native[name]["fields"].items() if k != "structure_needs_at_least_one_member"}
        assert cls.get_fields_and_field_types() == fields, name
        defaults = {k: v for k, v in native[name]["defaults"].items() if k in fields}
        assert _plain(cls()) == defaults, name


def _plain(value):
    if hasattr(value, "FIELDS"):
        return {k: _plain(getattr(value, k)) for k in value.FIELDS}
    if isinstance(value, bytes):
        return list(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return [_plain(v) for v in value] if isinstance(value, list) else value
