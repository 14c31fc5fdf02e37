"""What is expected on an observation's topic, and how it is read: the source blocks of a robot's YAML.

    scan         sensor_msgs/msg/LaserScan         rays at given angles
    label_image  sensor_msgs/msg/Image             one row of class ids
    camera       sensor_msgs/msg/CompressedImage   pixels, see `camera_config`
    joints       sensor_msgs/msg/JointState        one quantity of named joints
    odometry     nav_msgs/msg/Odometry             wheel speeds of a differential drive
    imu          sensor_msgs/msg/Imu               orientation, angular velocity, linear acceleration
    array        std_msgs/msg/Float64MultiArray    numbers of a given shape
    fields       any                               numbers by their paths in the message

Each class says which message types it can read (the first is the default; none: it must be stated), the shape
and the dtype of what it gives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ros_bridge.camera_config import Camera
from ros_bridge.config_checks import require
from ros_bridge.field_paths import FieldPath, parse_path


@dataclass(frozen=True)
class Scan:
    """`rays` ranges in metres, the first at `start_deg`, the last at `stop_deg` (counter-clockwise positive).

    No echo (infinity) and anything beyond `max_range_m` reads as `max_range_m`. `nan` says what NaN is: a fault, or,
    from scanners and links that have no infinity, no echo as well, unless there is nothing else.
    """

    start_deg: float
    stop_deg: float
    rays: int
    max_range_m: float
    nan: Literal["fault", "no_echo"] = "fault"

    message_types = ("sensor_msgs/msg/LaserScan",)
    dtype = "float32"

    def __post_init__(self) -> None:
        require(self.rays >= 2, "scan.rays", self.rays, "at least 2")
        require(self.max_range_m > 0, "scan.max_range_m", self.max_range_m, "above 0")
        require(self.start_deg != self.stop_deg, "scan.stop_deg", self.stop_deg, "different from start_deg")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.rays,)


@dataclass(frozen=True)
class LabelImage:
    """`width` class ids below `classes` in one row of an 8-bit image, column 0 left-most."""

    width: int
    classes: int = 256

    message_types = ("sensor_msgs/msg/Image",)
    dtype = "int64"

    def __post_init__(self) -> None:
        require(self.width >= 1, "label_image.width", self.width, "at least 1")
        require(1 <= self.classes <= 256, "label_image.classes", self.classes, "from 1 to 256")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.width,)


@dataclass(frozen=True)
class Joints:
    """One quantity (rad, rad/s, N m; or their linear kin) of the joints called `names`, in this order."""

    names: tuple[str, ...]
    quantity: Literal["position", "velocity", "effort"] = "velocity"

    message_types = ("sensor_msgs/msg/JointState",)
    dtype = "float32"

    def __post_init__(self) -> None:
        require(len(self.names) > 0, "joints.names", list(self.names), "a list of at least one joint")

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.names),)


@dataclass(frozen=True)
class Odometry:
    """Left and right wheel speed in rad/s, worked out from a differential drive's twist."""

    wheel_radius_m: float
    track_m: float

    message_types = ("nav_msgs/msg/Odometry",)
    dtype = "float32"

    def __post_init__(self) -> None:
        require(self.wheel_radius_m > 0, "odometry.wheel_radius_m", self.wheel_radius_m, "above 0")
        require(self.track_m > 0, "odometry.track_m", self.track_m, "above 0")

    @property
    def shape(self) -> tuple[int, ...]:
        return (2,)


#: How many numbers each part of an Imu has: the orientation is a quaternion x, y, z, w.
IMU_PARTS = {"orientation": 4, "angular_velocity": 3, "linear_acceleration": 3}


@dataclass(frozen=True)
class Imu:
    """Parts of an Imu in this order: orientation x, y, z, w; angular_velocity (rad/s); linear_acceleration (m/s^2)."""

    parts: tuple[Literal["orientation", "angular_velocity", "linear_acceleration"], ...] = (
        "angular_velocity",
        "linear_acceleration",
    )

    message_types = ("sensor_msgs/msg/Imu",)
    dtype = "float32"

    def __post_init__(self) -> None:
        require(0 < len(self.parts) == len(set(self.parts)), "imu.parts", list(self.parts), "distinct parts")

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(IMU_PARTS[part] for part in self.parts),)


@dataclass(frozen=True)
class NumberArray:
    """Numbers of an array message in the given shape, row by row, from entry `start` on."""

    shape: tuple[int, ...]
    start: int = 0

    message_types = ("std_msgs/msg/Float64MultiArray", "std_msgs/msg/Float32MultiArray")
    dtype = "float32"

    def __post_init__(self) -> None:
        good = len(self.shape) > 0 and min(self.shape) >= 1
        require(good, "array.shape", list(self.shape), "a list of numbers of at least 1")
        require(self.start >= 0, "array.start", self.start, "at least 0")

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Fields:
    """Numbers and truth values of any message, by path: `pose.position.x`, `ranges[3]`, `data[0:6]`."""

    paths: tuple[FieldPath, ...]

    message_types = ()
    dtype = "float32"

    @classmethod
    def of(cls, texts: tuple[str, ...]) -> Fields:
        """Raises `UserError` for a path that makes no sense."""
        require(0 < len(texts) == len(set(texts)), "fields", list(texts), "a list of distinct paths")
        return cls(tuple(parse_path(text) for text in texts))

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(path.count for path in self.paths),)

    def check(self, message: object) -> None:
        """`UserError` unless messages like this one, as its class makes it, can have these numbers."""
        for path in self.paths:
            path.check(message)


Source: TypeAlias = Scan | LabelImage | Camera | Joints | Odometry | Imu | NumberArray | Fields
