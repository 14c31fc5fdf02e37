"""Messages to observation arrays, and the mailboxes that hold the newest of each.

The readers take native messages and the bridge's alike. What they cannot read raises `SensorError`,
which says what was expected; the observation then grows stale and the controller stops the robot.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np

from ros_bridge.robot_config import Joints, LabelImage, Odometry, Scan, Source

#: Messages over which the smallest delay is remembered: 10 s at 10 Hz.
DELAY_WINDOW = 100


class SensorError(ValueError):
    """A message does not hold what the robot's YAML says."""


def read(source: Source, message: Any) -> np.ndarray:
    """The observation in `message`, of `source.shape`: float32, or int64 for labels."""
    if isinstance(source, Scan):
        return _scan(source, message)
    if isinstance(source, LabelImage):
        return _labels(source, message)
    if isinstance(source, Joints):
        return _joints(source, message)
    return _wheels(source, message)


def _scan(source: Scan, message: Any) -> np.ndarray:
    ranges = np.asarray(message.ranges, np.float32)
    first, step = float(message.angle_min), float(message.angle_increment)
    if ranges.size == 0 or not math.isfinite(first) or not math.isfinite(step) or step == 0:
        raise SensorError(f"LaserScan has {ranges.size} ranges at angle_increment {step}")
    angles = np.deg2rad(np.linspace(source.start_deg, source.stop_deg, source.rays))
    steps = (angles - first) / step
    circle = 2 * math.pi / abs(step)
    if ranges.size > circle - 1:  # all around: every angle is on it
        steps %= circle
    index = np.rint(steps).astype(np.int64)
    if ranges.size > circle - 1:
        index %= ranges.size
    if index.min() < 0 or index.max() >= ranges.size:
        last = math.degrees(first + step * (ranges.size - 1))
        raise SensorError(
            f"LaserScan covers {math.degrees(first):.0f} to {last:.0f} degrees; the robot's YAML asks for"
            f" {source.start_deg:g} to {source.stop_deg:g}"
        )
    picked = ranges[index]
    # REP 117: -inf is too close, +inf no echo, NaN a fault. Over rosbridge all three arrive as NaN.
    nearest_m, farthest_m = max(0.0, float(message.range_min)), source.max_range_m
    limit = min(farthest_m, float(message.range_max) or farthest_m)
    with np.errstate(invalid="ignore"):
        seen = picked <= limit
    return np.where(seen, np.maximum(picked, nearest_m), farthest_m).astype(np.float32)


def _labels(source: LabelImage, message: Any) -> np.ndarray:
    if message.encoding not in ("mono8", "8UC1"):
        raise SensorError(f"Image has encoding {message.encoding!r}; class ids need mono8 or 8UC1")
    if message.height != 1 or message.width != source.width:
        raise SensorError(f"Image is {message.width} x {message.height}; it must be {source.width} x 1")
    data = np.frombuffer(bytes(message.data), np.uint8)
    if data.size < source.width:
        raise SensorError(f"Image has {data.size} bytes of data; it must have {source.width}")
    return data[: source.width].astype(np.int64)


def _joints(source: Joints, message: Any) -> np.ndarray:
    names, values = list(message.name), getattr(message, source.quantity)
    if len(values) != len(names):
        raise SensorError(f"JointState has {len(names)} names but {len(values)} values of {source.quantity}")
    missing = [name for name in source.names if name not in names]
    if missing:
        raise SensorError(f"JointState has no joint {missing[0]!r}; it has {', '.join(names) or 'none'}")
    return np.asarray([values[names.index(name)] for name in source.names], np.float32)


def _wheels(source: Odometry, message: Any) -> np.ndarray:
    twist = message.twist.twist
    turn = twist.angular.z * source.track_m / 2
    return np.asarray([twist.linear.x - turn, twist.linear.x + turn], np.float32) / np.float32(source.wheel_radius_m)


class Mailbox:
    """The newest value and when it was measured. One writer, any readers, never more than one value.

    The time is `time.monotonic()` at arrival, less the delay that the message's own stamp betrays: how
    much longer it was on its way than the quickest of the last `DELAY_WINDOW`. So a message that waited
    in some queue counts as old, whatever the offset between the two clocks. Unstamped messages count
    from arrival.
    """

    def __init__(self) -> None:
        self._slot: tuple[np.ndarray, float] | None = None
        self._delays: deque[float] = deque(maxlen=DELAY_WINDOW)

    def put(self, value: np.ndarray, arrival_s: float, stamp_s: float) -> None:
        """`arrival_s` on the monotonic clock, `stamp_s` on the sender's clock (0: not stamped)."""
        late_s = 0.0
        if stamp_s > 0:
            delay = arrival_s - stamp_s
            self._delays.append(delay)
            late_s = delay - min(self._delays)
        self._slot = (value, arrival_s - late_s)

    def get(self) -> tuple[np.ndarray, float] | None:
        """`(value, measured at)`, or None when nothing has arrived yet."""
        return self._slot


def stamp_seconds(message: Any) -> float:
    """The header's stamp in seconds; 0 when there is none."""
    stamp = message.header.stamp
    return float(stamp.sec) + stamp.nanosec * 1e-9
