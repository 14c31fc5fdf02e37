"""How the pictures of a camera become an observation: the `camera` block of a robot's YAML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ros_bridge.config_checks import require

#: Numbers of distortion coefficients that OpenCV's models have.
_COEFFICIENTS = {"plumb_bob": (4, 5, 8, 12, 14), "fisheye": (4,)}


@dataclass(frozen=True)
class Crop:
    """A rectangle of the camera's picture, in its pixels, before it is resized."""

    left: int
    top: int
    width: int
    height: int

    def __post_init__(self) -> None:
        for key in ("left", "top"):
            require(getattr(self, key) >= 0, f"camera.crop.{key}", getattr(self, key), "at least 0")
        for key in ("width", "height"):
            require(getattr(self, key) >= 1, f"camera.crop.{key}", getattr(self, key), "at least 1")


@dataclass(frozen=True)
class Undistort:
    """A lens's calibration, as `camera_calibration` writes it: the matrix row by row, in pixels of the whole picture.

    `model` plumb_bob (k1, k2, p1, p2, k3 ...) or fisheye (k1 to k4).
    """

    camera_matrix: tuple[float, ...]
    distortion: tuple[float, ...]
    model: Literal["plumb_bob", "fisheye"] = "plumb_bob"

    def __post_init__(self) -> None:
        matrix, counts = self.camera_matrix, _COEFFICIENTS[self.model]
        require(len(matrix) == 9, "camera.undistort.camera_matrix", list(matrix), "9 numbers, row by row")
        good = matrix[0] > 0 and matrix[4] > 0 and matrix[6:] == (0, 0, 1)
        require(good, "camera.undistort.camera_matrix", list(matrix), "[fx, 0, cx, 0, fy, cy, 0, 0, 1]")
        allowed = " or ".join(map(str, counts))
        key = "camera.undistort.distortion"
        require(len(self.distortion) in counts, key, list(self.distortion), f"{allowed} numbers for {self.model}")


@dataclass(frozen=True)
class Camera:
    """Undistorted, cropped, resized to `width` x `height`, flipped, in `colour` and `layout`; uint8.

    `flip`: horizontal mirrors left and right, vertical stands it on its head, both is half a turn.
    """

    width: int
    height: int
    colour: Literal["rgb", "bgr", "gray"] = "rgb"
    layout: Literal["hwc", "chw"] = "hwc"
    crop: Crop | None = None
    flip: Literal["none", "horizontal", "vertical", "both"] = "none"
    undistort: Undistort | None = None

    message_types = ("sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image")
    dtype = "uint8"

    def __post_init__(self) -> None:
        for key in ("width", "height"):
            require(getattr(self, key) >= 1, f"camera.{key}", getattr(self, key), "at least 1 pixel")

    @property
    def channels(self) -> int:
        return 1 if self.colour == "gray" else 3

    @property
    def shape(self) -> tuple[int, ...]:
        size = (self.height, self.width)
        return (*size, self.channels) if self.layout == "hwc" else (self.channels, *size)
