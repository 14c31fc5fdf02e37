"""Pictures of a camera to arrays, by opencv, which is imported when the first one comes."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ros_bridge.camera_config import Camera, Undistort

_FLIPS = {"horizontal": 1, "vertical": 0, "both": -1}
#: Channels of the encodings that are read, and how opencv brings them to blue, green, red (None: they are so, or gray).
_ENCODINGS: dict[str, tuple[int, str | None]] = {
    "rgb8": (3, "COLOR_RGB2BGR"),
    "bgr8": (3, None),
    "rgba8": (4, "COLOR_RGBA2BGR"),
    "bgra8": (4, "COLOR_BGRA2BGR"),
    "mono8": (1, None),
    "8UC1": (1, None),
    "8UC3": (3, None),
}


class PictureError(ValueError):
    """A picture that cannot be read as the robot's YAML says."""


def read_picture(camera: Camera, message: Any) -> np.ndarray:
    """The observation in an Image or CompressedImage: uint8 of `camera.shape`. Raises `PictureError`."""
    import cv2

    picture = _raw(message) if hasattr(message, "encoding") else _compressed(message)
    if camera.undistort is not None:
        picture = cv2.remap(picture, *_maps(camera.undistort, picture.shape[1], picture.shape[0]), cv2.INTER_LINEAR)
    if camera.crop is not None:
        crop, (height, width) = camera.crop, picture.shape[:2]
        if crop.left + crop.width > width or crop.top + crop.height > height:
            raise PictureError(
                f"picture is {width} x {height}; the crop to {crop.width} x {crop.height} at {crop.left}, {crop.top}"
                " does not lie in it"
            )
        picture = picture[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
    if picture.shape[:2] != (camera.height, camera.width):
        smaller = camera.height * camera.width < picture.shape[0] * picture.shape[1]
        way = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        picture = cv2.resize(picture, (camera.width, camera.height), interpolation=way)
    if camera.flip != "none":
        picture = cv2.flip(picture, _FLIPS[camera.flip])
    picture = _coloured(picture, camera.colour).reshape(camera.height, camera.width, camera.channels)
    return np.ascontiguousarray(picture if camera.layout == "hwc" else picture.transpose(2, 0, 1))


def _compressed(message: Any) -> np.ndarray:
    """Gray or blue, green, red, as the file has it."""
    import cv2

    data = np.frombuffer(message.data, np.uint8)
    try:
        picture = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    except cv2.error:
        picture = None
    if picture is None:
        raise PictureError(f"CompressedImage of {data.size} bytes, format {message.format!r}: no picture in it")
    if picture.dtype != np.uint8:
        raise PictureError(f"CompressedImage holds {picture.dtype} pixels; 8 bits per channel are read")
    return cv2.cvtColor(picture, cv2.COLOR_BGRA2BGR) if picture.ndim == 3 and picture.shape[2] == 4 else picture


def _raw(message: Any) -> np.ndarray:
    """Gray or blue, green, red; rows may be padded."""
    import cv2

    if message.encoding not in _ENCODINGS:
        raise PictureError(f"Image has encoding {message.encoding!r}; {', '.join(_ENCODINGS)} are read")
    channels, conversion = _ENCODINGS[message.encoding]
    height, width, row = message.height, message.width, message.width * channels
    step = message.step or row
    data = np.frombuffer(message.data, np.uint8)
    if not height or not width or step < row or data.size < height * step:
        raise PictureError(
            f"Image of {width} x {height} {message.encoding}, step {step}, has {data.size} bytes of data"
        )
    picture = data[: height * step].reshape(height, step)[:, :row].reshape(height, width, channels)
    if conversion is not None:
        return cv2.cvtColor(picture, getattr(cv2, conversion))
    return picture[:, :, 0] if channels == 1 else picture


def _coloured(picture: np.ndarray, colour: str) -> np.ndarray:
    import cv2

    is_gray = picture.ndim == 2
    if colour == "gray":
        return picture if is_gray else cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    if is_gray:
        return np.repeat(picture[:, :, None], 3, axis=2)
    return picture if colour == "bgr" else cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


@functools.lru_cache(maxsize=8)
def _maps(lens: Undistort, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of the straightened picture comes from."""
    import cv2

    matrix = np.array(lens.camera_matrix, np.float64).reshape(3, 3)
    distortion = np.array(lens.distortion, np.float64)
    make = cv2.fisheye.initUndistortRectifyMap if lens.model == "fisheye" else cv2.initUndistortRectifyMap
    return make(matrix, distortion, np.eye(3), matrix, (width, height), cv2.CV_16SC2)
