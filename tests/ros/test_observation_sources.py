"""Numbers of any message, arrays and IMUs as observations, and what is made of them on the way."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mcsd_agent.errors import UserError
from mcsd_agent.spaces import BoxSpec
from mcsd_agent.strict import build
from ros_bridge.field_paths import PathError, parse_path
from ros_bridge.messages import load
from ros_bridge.robot_config import ObservationConfig, check_fit
from ros_bridge.sensors import SensorError, reader, stamp_seconds

PoseStamped = load("geometry_msgs/msg/PoseStamped")
Imu = load("sensor_msgs/msg/Imu")
Float64MultiArray = load("std_msgs/msg/Float64MultiArray")


def observation(**keys) -> ObservationConfig:
    return build(ObservationConfig, {"topic": "/x", "max_age_s": 1.0, **keys})


def pose(x=0.0, y=0.0, w=1.0) -> object:
    message = PoseStamped()
    message.pose.position.x, message.pose.position.y, message.pose.orientation.w = x, y, w
    return message


def test_fields_are_read_in_their_order():
    config = observation(message="geometry_msgs/msg/PoseStamped", fields=["pose.orientation.w", "pose.position.x"])
    assert config.source.shape == (2,)
    assert reader(config)(pose(x=3.0, w=0.5)).tolist() == [0.5, 3.0]


def test_entries_ranges_and_truth_values_are_fields_too():
    scan = load("sensor_msgs/msg/LaserScan")(ranges=np.float32([1, 2, 3, 4]))
    config = observation(message="sensor_msgs/msg/LaserScan", fields=["ranges[3]", "ranges[0:2]"])
    assert reader(config)(scan).tolist() == [4.0, 1.0, 2.0]
    button = observation(message="std_msgs/msg/Bool", fields=["data"])
    assert reader(button)(load("std_msgs/msg/Bool")(data=True)).tolist() == [1.0]
    path = load("nav_msgs/msg/Path")(poses=[pose(), pose(y=7.0)])
    assert parse_path("poses[1].pose.position.y").read(path) == [7.0]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("ranges[9]", "ranges has 4 entries; 'ranges.9.' asks for entry 9"),
        ("ranges", "no number; give an entry like"),
        ("range", "LaserScan has no field 'range'; did you mean 'ranges'"),
        ("header.frame_id", "is str, no number"),
        ("angle_min[0]", "has no entries"),
    ],
)
def test_path_that_leads_nowhere_says_where_it_ends(text, part):
    scan = load("sensor_msgs/msg/LaserScan")(ranges=np.float32([1, 2, 3, 4]))
    with pytest.raises(PathError, match=part):
        parse_path(text).read(scan)


def test_path_is_checked_against_the_type_before_any_message():
    parse_path("ranges[7]").check(load("sensor_msgs/msg/LaserScan")())
    parse_path("pose.position.x").check(PoseStamped())
    for text, part in (
        ("pose.positon.x", "no 'positon'; did you mean 'position'"),
        ("pose.position", "no number; its"),
    ):
        with pytest.raises(UserError, match=part):
            parse_path(text).check(PoseStamped())


@pytest.mark.parametrize("text", ["", "a..b", "a[", "a[2:2]", "a[1:3].b", "a[-1]", "1a"])
def test_path_that_is_none_is_refused(text):
    with pytest.raises(UserError, match=r"must read like pose\.position\.x"):
        parse_path(text)


def test_units_scale_offset_and_clip_in_this_order():
    config = observation(
        message="geometry_msgs/msg/PoseStamped",
        fields=["pose.position.x", "pose.position.y"],
        message_unit="mm",
        unit="m",
        scale=[1, -1],
        offset=0.5,
        clip=[-1, 1],
    )
    assert reader(config)(pose(x=250.0, y=100.0)).tolist() == pytest.approx([0.75, 0.4])
    assert reader(config)(pose(x=9000.0, y=9000.0)).tolist() == [1.0, -1.0]


def test_imu_parts_and_what_a_driver_does_not_know():
    message = Imu()
    message.angular_velocity.z, message.linear_acceleration.x = 2.0, 9.0
    assert reader(observation(imu={}))(message).tolist() == [0, 0, 2, 9, 0, 0]
    oriented = observation(imu={"parts": ["orientation"]})
    assert oriented.source.shape == (4,)
    assert reader(oriented)(message).tolist() == [0, 0, 0, 1]
    message.orientation_covariance = np.full(9, -1.0)
    with pytest.raises(SensorError, match="no orientation"):
        reader(oriented)(message)


def test_array_has_the_shape_that_was_asked_for():
    config = observation(array={"shape": [2, 2], "start": 1})
    assert reader(config)(Float64MultiArray(data=[9.0, 1.0, 2.0, 3.0, 4.0])).tolist() == [[1, 2], [3, 4]]
    with pytest.raises(SensorError, match="array has 3 numbers; 4 from entry 1 on"):
        reader(config)(Float64MultiArray(data=[9.0, 1.0, 2.0]))
    single = observation(array={"shape": [1]}, message="std_msgs/msg/Float32MultiArray")
    assert reader(single)(load("std_msgs/msg/Float32MultiArray")(data=[0.5])).tolist() == [0.5]


def test_message_without_header_has_no_stamp():
    assert stamp_seconds(Float64MultiArray()) == 0.0


@pytest.mark.parametrize(
    ("keys", "part"),
    [
        ({"fields": ["a"]}, "with fields it must be a type like"),
        ({"fields": ["a", "a"], "message": "a/msg/B"}, "distinct paths"),
        ({"imu": {}, "message": "sensor_msgs/msg/Image"}, "imu reads sensor_msgs/msg/Imu"),
        ({"imu": {}, "fields": ["a"]}, "has 2 sources"),
        ({"imu": {"parts": []}}, "imu.parts is"),
        ({"array": {"shape": []}}, "array.shape is"),
        ({"array": {"shape": [3]}, "scale": [1, 2]}, "scale is .* one number, or 3"),
        ({"array": {"shape": [3]}, "clip": [1, 0]}, "clip is"),
        ({"array": {"shape": [3]}, "message_unit": "deg"}, "unit is ''; it must be given with message_unit"),
        ({"array": {"shape": [3]}, "message_unit": "deg", "unit": "m"}, "'deg' cannot be converted to 'm'"),
        ({"label_image": {"width": 3}, "scale": 2}, "label_image gives class ids"),
    ],
)
def test_source_that_makes_no_sense_is_refused(keys, part):
    with pytest.raises(UserError, match=part):
        observation(**keys)


@pytest.mark.parametrize(("unit", "target", "value"), [("deg", "rad", math.pi / 180), ("km/h", "m/s", 1 / 3.6)])
def test_units_are_what_they_are_called(unit, target, value):
    config = observation(array={"shape": [1]}, message_unit=unit, unit=target)
    assert reader(config)(Float64MultiArray(data=[1.0])).tolist() == pytest.approx([value])


def test_pixels_fit_pixels_and_scaled_pixels_fit_numbers():
    from ros_bridge.robot_config import ActionConfig, RobotConfig

    def fits(spec: BoxSpec, **keys) -> None:
        camera = observation(camera={"width": 4, "height": 2}, **keys)
        action = ActionConfig("/cmd", ("linear.x",), (-1.0,), (1.0,))
        check_fit({"image": spec}, BoxSpec((1,)), 10.0, RobotConfig("r", 10.0, 0.3, {"image": camera}, action))

    fits(BoxSpec((2, 4, 3), "uint8"))
    fits(BoxSpec((2, 4, 3)), scale=1 / 255)
    with pytest.raises(UserError, match=r"box of float32 .* uint8 pixels"):
        fits(BoxSpec((2, 4, 3)))
    with pytest.raises(UserError, match=r"box of uint8 .* numbers"):
        fits(BoxSpec((2, 4, 3), "uint8"), scale=1 / 255)
