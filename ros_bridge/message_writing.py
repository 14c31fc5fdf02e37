"""Observations to sensor messages: the way back of `sensors`, for bags made of demonstrations.

Every message is read back before it counts. What does not come back is refused, so that a bag never says something
else than the demonstrations it was made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mcsd_agent.errors import UserError
from ros_bridge.action_config import per_entry
from ros_bridge.camera_config import Camera
from ros_bridge.field_paths import FieldPath
from ros_bridge.messages import load
from ros_bridge.observation_sources import IMU_PARTS, Fields, Imu, Joints, LabelImage, NumberArray, Odometry, Scan
from ros_bridge.robot_config import ObservationConfig
from ros_bridge.sensors import SensorError, reader
from ros_bridge.units import factor

#: What rounding may change, as a part of the value.
_ROUNDING = 1e-6


class TopicWriter:
    """Makes the messages of one topic, on which one observation or several are."""

    def __init__(self, observations: Mapping[str, ObservationConfig]) -> None:
        """`observations` by name, all of one topic. Raises `UserError` when they expect different types there."""
        self._observations = dict(observations)
        first = next(iter(self._observations.values()))
        self.topic, self.ros_type = first.topic, first.message_type
        for name, observation in self._observations.items():
            if observation.message_type != self.ros_type:
                raise UserError(
                    f"observations.{name} expects {observation.message_type} on {self.topic}, "
                    f"and another one {self.ros_type}"
                )
        self._readers = {name: reader(o) for name, o in self._observations.items()}

    def message(self, values: Mapping[str, np.ndarray], stamp: Any) -> Any:
        """The message that holds these values; `stamp` is a builtin_interfaces/msg/Time.

        Raises `UserError` for what cannot be written, or would be read as something else.
        """
        message = load(self.ros_type)()
        if hasattr(message, "header"):
            message.header.stamp = stamp
        for name, observation in self._observations.items():
            _fill(name, observation, message, np.asarray(values[name]))
        for name, read in self._readers.items():
            try:
                found = read(message)
            except SensorError as error:
                raise UserError(f"observation {name!r} cannot be written as {self.ros_type}: {error}") from None
            if not np.allclose(found, values[name], rtol=_ROUNDING, atol=_ROUNDING):
                first, back = (np.ravel(v)[:4].tolist() for v in (values[name], found))
                raise UserError(
                    f"observation {name!r} cannot be written as {self.ros_type}: {first}... would be read as {back}..."
                )
        return message


def _fill(name: str, config: ObservationConfig, message: Any, value: np.ndarray) -> None:
    source = config.source
    if isinstance(source, LabelImage):
        labels = value.astype(np.uint8)
        message.height, message.width, message.encoding, message.step = 1, labels.size, "mono8", labels.size
        message.data = labels
        return
    if isinstance(source, Camera):
        _fill_picture(name, config, source, message, value)
        return
    numbers = np.ravel(_as_sent(config, value)).astype(np.float64)
    if isinstance(source, Scan):
        _fill_scan(source, message, numbers)
    elif isinstance(source, Joints):
        message.name = list(source.names)
        setattr(message, source.quantity, numbers)
    elif isinstance(source, Odometry):
        left, right = (numbers * np.float64(np.float32(source.wheel_radius_m))).tolist()
        message.twist.twist.linear.x = (left + right) / 2
        message.twist.twist.angular.z = (right - left) / source.track_m
    elif isinstance(source, Imu):
        at = 0
        for part in source.parts:
            for axis in "xyzw" if part == "orientation" else "xyz":
                setattr(getattr(message, part), axis, float(numbers[at]))
                at += 1
        assert at == sum(IMU_PARTS[part] for part in source.parts)
    elif isinstance(source, NumberArray):
        message.data = np.concatenate([np.zeros(source.start), numbers])
    else:
        assert isinstance(source, Fields)
        _fill_fields(name, source.paths, message, numbers.tolist())


def _as_sent(config: ObservationConfig, value: np.ndarray) -> np.ndarray:
    """The numbers before `scale`, `offset` and `message_unit`."""
    if not config.is_transformed:
        return value
    scale, offset = (
        np.reshape(per_entry(default if given is None else given, value.size), value.shape)
        for given, default in ((config.scale, 1.0), (config.offset, 0.0))
    )
    if config.message_unit:
        scale = scale * factor(config.message_unit, config.unit)
    return (value - offset) / scale


def _fill_scan(source: Scan, message: Any, numbers: np.ndarray) -> None:
    first, last = np.deg2rad([source.start_deg, source.stop_deg]).tolist()
    # A LaserScan counts counter-clockwise, as drivers do.
    message.angle_min, message.angle_max = min(first, last), max(first, last)
    message.angle_increment = (message.angle_max - message.angle_min) / (source.rays - 1)
    message.range_max = float(source.max_range_m)
    message.ranges = numbers if first < last else numbers[::-1].copy()


def _fill_fields(name: str, paths: tuple[FieldPath, ...], message: Any, numbers: list[float]) -> None:
    for path, number in zip(paths, numbers, strict=False):
        *parents, (field, _, _) = path.steps
        if any(first is not None for _, first, _ in path.steps):
            raise UserError(f"observation {name!r} reads {path.text!r}: entries of sequences cannot be written")
        target = message
        for parent, _, _ in parents:
            target = getattr(target, parent)
        kind = type(getattr(target, field))
        setattr(target, field, kind(number))


def _fill_picture(name: str, config: ObservationConfig, camera: Camera, message: Any, value: np.ndarray) -> None:
    import cv2

    if camera.crop is not None or camera.undistort is not None or config.is_transformed:
        raise UserError(f"observation {name!r}: a picture that was cropped, undistorted or scaled cannot be restored")
    picture = value if camera.layout == "hwc" else value.transpose(1, 2, 0)
    if camera.colour == "rgb":
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    if camera.flip != "none":
        picture = cv2.flip(picture, {"horizontal": 1, "vertical": 0, "both": -1}[camera.flip])
    picture = np.ascontiguousarray(picture)
    if hasattr(message, "encoding"):
        message.height, message.width = picture.shape[:2]
        message.encoding = "mono8" if camera.colour == "gray" else "bgr8"
        message.step = message.width * camera.channels
        message.data = picture.ravel()
    else:
        message.format = "png"  # which loses nothing
        message.data = np.ravel(cv2.imencode(".png", picture)[1])
