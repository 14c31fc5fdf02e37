"""Messages to observations: geometry, no-echo rules, names, and how old a value really is."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros_bridge.codec import from_json
from ros_bridge.messages import load
from ros_bridge.observation_sources import Joints, LabelImage, Odometry, Scan
from ros_bridge.robot_config import ObservationConfig
from ros_bridge.sensors import Mailbox, SensorError, read, reader, stamp_seconds

LaserScan = load("sensor_msgs/msg/LaserScan")
Image = load("sensor_msgs/msg/Image")
JointState = load("sensor_msgs/msg/JointState")
FORWARD = Scan(start_deg=60, stop_deg=-60, rays=5, max_range_m=4.0)


def scan(ranges, first_deg: float, last_deg: float, **fields) -> object:
    first, last = math.radians(first_deg), math.radians(last_deg)
    step = (last - first) / (len(ranges) - 1)
    return LaserScan(
        ranges=np.float32(ranges),
        angle_min=first,
        angle_max=last,
        angle_increment=step,
        **{"range_max": 10.0, **fields},
    )


def test_first_ray_is_the_left_most_whichever_way_the_scanner_turns():
    counter_clockwise = scan([1.0, 2.0, 3.0, 3.5, 4.0], -60, 60)
    clockwise = scan([4.0, 3.5, 3.0, 2.0, 1.0], 60, -60)
    expected = np.float32([4.0, 3.5, 3.0, 2.0, 1.0])
    assert np.array_equal(read(FORWARD, counter_clockwise), expected)
    assert np.array_equal(read(FORWARD, clockwise), expected)


@pytest.mark.parametrize(("first", "last"), [(0, 359), (-180, 179), (180, -179)])
def test_full_circle_scanner_is_sampled_at_the_right_angles(first, last):
    angles = np.linspace(first, last, 360)
    wrapped = (angles + 180) % 360 - 180
    ranges = 2 + wrapped / 180  # 3 m to the left, 1 m to the right
    observed = read(FORWARD, scan(ranges, first, last))
    assert observed == pytest.approx([2 + a / 180 for a in (60, 30, 0, -30, -60)], abs=1e-3)


@pytest.mark.parametrize("nothing", [math.inf, 9.0, 4.5])
def test_no_echo_reads_as_the_largest_range(nothing):
    assert read(FORWARD, scan([1.0, nothing, 3.0, 3.0, 3.0], -60, 60))[3] == 4.0
    assert read(FORWARD, scan([nothing] * 5, -60, 60)).tolist() == [4.0] * 5


@given(st.lists(st.sampled_from([math.nan, math.inf, -math.inf, 0.01, 1.0, 9.0]), min_size=5, max_size=5))
def test_a_faulty_ray_is_never_free_and_leaves_the_others_as_they_are(ranges):
    message = scan(ranges[::-1], -60, 60, range_min=0.1)
    expected = {math.inf: 4.0, -math.inf: 0.1, 0.01: 0.1, 1.0: 1.0, 9.0: 4.0}
    for rays in (read(FORWARD, message), reader(ObservationConfig("/scan", 1.0, scan=FORWARD, scale=1.0))(message)):
        for given_m, read_m in zip(ranges, rays, strict=True):
            assert math.isnan(read_m) if math.isnan(given_m) else read_m == np.float32(expected[given_m])


def test_scanner_that_writes_nan_for_no_echo_is_believed_unless_it_says_nothing_else():
    lenient = dataclasses.replace(FORWARD, nan="no_echo")
    assert read(lenient, scan([1.0, math.nan, 3.0, 3.0, 3.0], -60, 60)).tolist() == [3.0, 3.0, 3.0, 4.0, 1.0]
    assert np.isnan(read(lenient, scan([math.nan] * 5, -60, 60))).all()
    # What the policy sees counts, not what the scanner sees behind the robot.
    assert np.isnan(read(lenient, scan([1.0, 1.0] + [math.nan] * 5 + [1.0, 1.0], -120, 120))).all()


def test_scan_from_json_cannot_tell_no_echo_from_a_fault_and_is_read_as_the_fault():
    data = {"ranges": [1.0, None, 3.0, 3.0, 3.0], "angle_min": -math.pi / 3, "angle_increment": math.pi / 6}
    message = from_json(LaserScan, {**data, "range_min": 0.0, "range_max": None})
    assert np.isnan(read(FORWARD, message)).tolist() == [False, False, False, True, False]
    assert read(dataclasses.replace(FORWARD, nan="no_echo"), message)[3] == 4.0


def test_beyond_the_scanners_own_range_is_no_echo():
    assert read(FORWARD, scan([3.0, 3.0, 3.0, 3.0, 3.0], -60, 60, range_max=2.5)).tolist() == [4.0] * 5


def test_too_close_reads_as_the_smallest_range_and_never_as_free():
    observed = read(FORWARD, scan([-math.inf, 0.01, 1.0, 1.0, 1.0], -60, 60, range_min=0.1))
    assert observed[4] == observed[3] == np.float32(0.1)


def test_scanner_that_looks_elsewhere_is_an_error_that_says_so():
    with pytest.raises(SensorError, match="covers -30 to 30 degrees; the robot's YAML asks for 60 to -60"):
        read(FORWARD, scan([1.0] * 5, -30, 30))
    with pytest.raises(SensorError, match="0 ranges"):
        read(FORWARD, LaserScan())


def test_labels_come_from_one_row_of_bytes():
    image = Image(height=1, width=3, step=3, encoding="mono8", data=[0, 12, 13])
    labels = read(LabelImage(3), image)
    assert labels.dtype == np.int64
    assert labels.tolist() == [0, 12, 13]


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"encoding": "rgb8"}, "class ids need mono8"),
        ({"width": 4}, "must be 3 x 1"),
        ({"data": [1]}, "1 bytes of data; it must have 3"),
    ],
)
def test_other_images_are_refused(fields, part):
    image = Image(**{"height": 1, "width": 3, "encoding": "mono8", "data": [0, 1, 2], **fields})
    with pytest.raises(SensorError, match=part):
        read(LabelImage(3), image)


def test_joints_are_found_by_name_in_any_order():
    message = JointState(name=["right", "arm", "left"], velocity=[2.0, 9.0, 1.0])
    assert read(Joints(("left", "right")), message).tolist() == [1.0, 2.0]
    with pytest.raises(SensorError, match="no joint 'wheel'; it has right, arm, left"):
        read(Joints(("wheel",)), message)
    with pytest.raises(SensorError, match="3 names but 0 values of effort"):
        read(Joints(("left",), "effort"), message)


def test_wheel_speeds_from_odometry_are_those_of_a_differential_drive():
    odometry = load("nav_msgs/msg/Odometry")()
    odometry.twist.twist.linear.x, odometry.twist.twist.angular.z = 0.5, 1.0
    left, right = read(Odometry(wheel_radius_m=0.1, track_m=0.4), odometry)
    assert (left, right) == (pytest.approx(3.0), pytest.approx(7.0))


def test_mailbox_holds_the_newest_only():
    box = Mailbox()
    assert box.get() is None
    box.put(np.float32([1]), 10.0, 0.0)
    box.put(np.float32([2]), 11.0, 0.0)
    value, at = box.get()
    assert value.tolist() == [2.0]
    assert at == 11.0


@pytest.mark.parametrize("offset", [-50.0, 0.0, 1.8e9])
def test_message_that_waited_in_a_queue_counts_as_old_whatever_the_clocks_say(offset):
    box = Mailbox()
    for i in range(10):
        box.put(np.float32([i]), 100.0 + 0.1 * i, offset + 100.0 + 0.1 * i)
    # Measured at 101.0, delivered 0.7 s later.
    box.put(np.float32([10]), 101.7, offset + 101.0)
    assert box.get()[1] == pytest.approx(101.0, abs=1e-3)


def test_clock_that_jumps_back_is_forgiven_after_the_window():
    box = Mailbox()
    for i in range(300):
        stamp = 5000.0 + 0.1 * i - (3600.0 if i >= 100 else 0.0)
        box.put(np.float32([i]), 0.1 * i, stamp)
    assert box.get()[1] == pytest.approx(29.9)


def test_stamp_is_read_in_seconds():
    message = JointState()
    message.header.stamp.sec, message.header.stamp.nanosec = 7, 500_000_000
    assert stamp_seconds(message) == 7.5
