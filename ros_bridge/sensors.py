"""Messages to observation arrays, and the mailboxes that hold the newest of each.

The readers take native messages and the bridge's alike. What they cannot read raises `SensorError`,
which says what was expected; the observation then grows stale and the controller stops the robot.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from ros_bridge.action_config import per_entry
from ros_bridge.camera import PictureError, read_picture
from ros_bridge.camera_config import Camera
from ros_bridge.field_paths import PathError
from ros_bridge.observation_sources import Fields, Imu, Joints, LabelImage, NumberArray, Odometry, Scan, Source
from ros_bridge.robot_config import ObservationConfig
from ros_bridge.units import factor

#: Messages over which the smallest delay is remembered: 10 s at 10 Hz.
DELAY_WINDOW = 100


class SensorError(ValueError):
    """A message does not hold what the robot's YAML says."""


def reader(config: ObservationConfig) -> Callable[[Any], np.ndarray]:
    """What makes the observation, of `config.source.shape` and `config.dtype`, of a message or raises `SensorError`."""
    source = config.source
    if isinstance(source, Camera):
        import cv2  # noqa: F401 (missing, that is known now; and the first picture need not wait for it)
    if not config.is_transformed:
        return lambda message: read(source, message)
    scale, offset = (
        np.reshape(per_entry(given if given is not None else default, math.prod(source.shape)), source.shape)
        for given, default in ((config.scale, 1.0), (config.offset, 0.0))
    )
    if config.message_unit:
        # The scale is of the policy's unit.
        scale = scale * factor(config.message_unit, config.unit)
    low, high = config.clip or (-math.inf, math.inf)

    def transformed(message: Any) -> np.ndarray:
        return np.clip(read(source, message) * scale + offset, low, high).astype(np.float32)

    return transformed


def read(source: Source, message: Any) -> np.ndarray:
    """What `source` reads in `message`, of its shape and dtype, as it is there."""
    if isinstance(source, Scan):
        return _scan(source, message)
    if isinstance(source, LabelImage):
        return _labels(source, message)
    if isinstance(source, Camera):
        try:
            return read_picture(source, message)
        except PictureError as error:
            raise SensorError(str(error)) from None
    if isinstance(source, Joints):
        return _joints(source, message)
    if isinstance(source, Odometry):
        return _wheels(source, message)
    if isinstance(source, Imu):
        return _imu(source, message)
    return _numbers(source, message) if isinstance(source, NumberArray) else _fields(source, message)


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
    # REP 117: -inf is too close, +inf no echo, NaN a fault. Natively and in CBOR, which scans are asked for in, they
    # arrive as such. A server that answers in JSON writes null for all three, which is read as NaN.
    nearest_m, farthest_m = max(0.0, float(message.range_min)), source.max_range_m
    limit = min(farthest_m, float(message.range_max) or farthest_m)
    faulty = np.isnan(picked)
    if source.nan == "no_echo" and not faulty.all():
        faulty[:] = False
    with np.errstate(invalid="ignore"):
        seen = (picked <= limit) | faulty
    return np.where(seen, np.maximum(picked, nearest_m), farthest_m).astype(np.float32)


def _labels(source: LabelImage, message: Any) -> np.ndarray:
    if message.encoding not in ("mono8", "8UC1"):
        raise SensorError(f"Image has encoding {message.encoding!r}; class ids need mono8 or 8UC1")
    if message.height != 1 or message.width != source.width:
        raise SensorError(f"Image is {message.width} x {message.height}; it must be {source.width} x 1")
    data = np.frombuffer(bytes(message.data), np.uint8)
    if data.size < source.width:
        raise SensorError(f"Image has {data.size} bytes of data; it must have {source.width}")
    labels = data[: source.width].astype(np.int64)
    if labels.max() >= source.classes:
        raise SensorError(f"Image holds class {labels.max()}; the robot's YAML has {source.classes} classes, from 0 on")
    return labels


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


def _imu(source: Imu, message: Any) -> np.ndarray:
    numbers: list[float] = []
    for part in source.parts:
        value = getattr(message, part)
        # A driver says so that it has no estimate of something.
        if getattr(message, f"{part}_covariance")[0] == -1:
            raise SensorError(f"Imu has no {part}: its covariance begins with -1")
        numbers += [getattr(value, axis) for axis in ("xyzw" if part == "orientation" else "xyz")]
    return np.asarray(numbers, np.float32)


def _numbers(source: NumberArray, message: Any) -> np.ndarray:
    start = int(message.layout.data_offset) + source.start
    data = np.asarray(message.data, np.float32)
    if data.size < start + source.size:
        raise SensorError(f"array has {data.size} numbers; {source.size} from entry {start} on are needed")
    return data[start : start + source.size].reshape(source.shape)


def _fields(source: Fields, message: Any) -> np.ndarray:
    try:
        return np.asarray([number for path in source.paths for number in path.read(message)], np.float32)
    except PathError as error:
        raise SensorError(str(error)) from None


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
    header = getattr(message, "header", None)
    return 0.0 if header is None else float(header.stamp.sec) + header.stamp.nanosec * 1e-9
