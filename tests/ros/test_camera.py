"""Pictures to observations: colours, rows, sizes, crops, flips, and a lens made straight."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from mcsd_agent.errors import UserError
from ros_bridge.camera import PictureError, read_picture
from ros_bridge.camera_config import Camera, Crop, Undistort
from ros_bridge.messages import load

Image = load("sensor_msgs/msg/Image")
CompressedImage = load("sensor_msgs/msg/CompressedImage")
RED, GREEN = (250, 10, 20), (10, 240, 30)
AS_IS = Camera(width=4, height=2)


def picture() -> np.ndarray:
    """Left half red, right half green; red, green, blue."""
    array = np.zeros((2, 4, 3), np.uint8)
    array[:, :2], array[:, 2:] = RED, GREEN
    return array


def raw(array: np.ndarray, encoding: str, *, padding: int = 0) -> object:
    rows = array.reshape(array.shape[0], -1)
    padded = np.concatenate([rows, np.full((len(rows), padding), 99, np.uint8)], axis=1)
    size = {"height": array.shape[0], "width": array.shape[1], "step": padded.shape[1]}
    return Image(encoding=encoding, data=padded.ravel(), **size)


def png(array: np.ndarray) -> object:
    bgr = array[..., ::-1] if array.ndim == 3 else array
    return CompressedImage(format="png", data=cv2.imencode(".png", np.ascontiguousarray(bgr))[1].ravel())


@pytest.mark.parametrize(
    ("encoding", "order"), [("rgb8", [0, 1, 2]), ("bgr8", [2, 1, 0]), ("rgba8", [0, 1, 2, 2]), ("bgra8", [2, 1, 0, 0])]
)
@pytest.mark.parametrize("padding", [0, 5])
def test_every_encoding_gives_the_same_picture(encoding, order, padding):
    message = raw(picture()[..., order], encoding, padding=padding)
    assert np.array_equal(read_picture(AS_IS, message), picture())


def test_compressed_is_read_like_raw():
    assert np.array_equal(read_picture(AS_IS, png(picture())), picture())


def test_native_messages_hold_array_array():
    import array

    class Native:
        encoding, height, width, step = "rgb8", 2, 4, 12
        data = array.array("B", picture().tobytes())

    assert np.array_equal(read_picture(AS_IS, Native()), picture())


def test_colour_and_layout():
    bgr = read_picture(Camera(4, 2, colour="bgr", layout="chw"), png(picture()))
    assert bgr.shape == (3, 2, 4)
    assert np.array_equal(bgr, picture()[..., ::-1].transpose(2, 0, 1))
    gray = read_picture(Camera(4, 2, colour="gray"), png(picture()))
    assert gray.shape == Camera(4, 2, colour="gray").shape == (2, 4, 1)
    expected = picture() @ [0.299, 0.587, 0.114]
    assert gray[..., 0] == pytest.approx(expected, abs=1)


def test_gray_pictures_become_any_colour():
    gray = np.arange(8, dtype=np.uint8).reshape(2, 4)
    for message in (raw(gray[..., None], "mono8"), png(gray)):
        assert np.array_equal(read_picture(AS_IS, message), np.repeat(gray[..., None], 3, axis=2))
        assert np.array_equal(read_picture(Camera(4, 2, colour="gray"), message)[..., 0], gray)


def test_crop_comes_before_the_size_and_the_flip_after():
    left = Camera(2, 2, crop=Crop(left=1, top=0, width=2, height=2))
    assert np.array_equal(read_picture(left, png(picture())), picture()[:, 1:3])
    flipped = Camera(2, 2, crop=left.crop, flip="horizontal")
    assert np.array_equal(read_picture(flipped, png(picture())), picture()[:, 1:3][:, ::-1])
    small = read_picture(Camera(2, 1), png(picture()))
    assert small.tolist() == [[list(RED), list(GREEN)]]
    turned = read_picture(Camera(4, 2, flip="both"), png(picture()))
    assert np.array_equal(turned, picture()[::-1, ::-1])


def test_lens_is_made_straight():
    # A straight line, bent by the lens as its model says, must be straight again.
    matrix, distortion = np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]]), np.array([-0.3, 0.1, 0, 0, 0])
    ys, xs = np.mgrid[0:240, 0:320].astype(np.float32)
    points = cv2.undistortPoints(np.stack([xs, ys], -1).reshape(-1, 1, 2), matrix, distortion, P=matrix)
    seen_x = points[:, 0, 0].reshape(240, 320)
    bent = np.where(np.abs(seen_x - 40) < 3, 255, 0).astype(np.uint8)
    message = raw(bent[..., None], "mono8")
    lens = Undistort(tuple(matrix.ravel()), tuple(distortion))

    def places(camera: Camera) -> np.ndarray:
        """Where the line is in every fourth row."""
        rows = read_picture(camera, message)[..., 0].astype(float)[4:-4:4]
        return (rows * np.arange(320)).sum(1) / rows.sum(1)

    as_seen = places(Camera(320, 240, colour="gray"))
    straight = places(Camera(320, 240, colour="gray", undistort=lens))
    assert np.ptp(as_seen) > 5
    assert np.ptp(straight) < 1
    assert straight.mean() == pytest.approx(40, abs=1)


@pytest.mark.parametrize(
    ("message", "part"),
    [
        (Image(height=2, width=4, step=8, encoding="yuv422", data=[0] * 16), "encoding 'yuv422'"),
        (Image(height=2, width=4, step=12, encoding="rgb8", data=[0] * 12), "has 12 bytes of data"),
        (Image(height=0, width=4, encoding="rgb8"), "has 0 bytes"),
        (CompressedImage(format="jpeg", data=[1, 2, 3]), "3 bytes, format 'jpeg': no picture"),
        (CompressedImage(format="jpeg"), "0 bytes"),
    ],
)
def test_what_is_no_picture_is_refused_in_words(message, part):
    with pytest.raises(PictureError, match=part):
        read_picture(AS_IS, message)


def test_crop_outside_the_picture_is_refused():
    with pytest.raises(PictureError, match="picture is 4 x 2; the crop to 9 x 9 at 1, 0 does not lie in it"):
        read_picture(Camera(2, 2, crop=Crop(1, 0, 9, 9)), png(picture()))


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: Camera(0, 2), "camera.width is 0"),
        (lambda: Crop(-1, 0, 2, 2), "camera.crop.left is -1"),
        (lambda: Undistort((1.0,) * 4, (0.0,) * 5), "9 numbers, row by row"),
        (lambda: Undistort((1.0, 0, 0, 0, 1, 0, 0, 0, 2), (0.0,) * 5), r"\[fx, 0, cx, 0, fy, cy, 0, 0, 1\]"),
        (lambda: Undistort((1.0, 0, 0, 0, 1, 0, 0, 0, 1), (0.0,) * 5, "fisheye"), "4 numbers for fisheye"),
    ],
)
def test_camera_that_makes_no_sense_is_refused(make, part):
    with pytest.raises(UserError, match=part):
        make()
