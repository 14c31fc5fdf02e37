"""A picture of the navigation task from above, for videos, trajectory plots and live views.

`draw` needs only plain data, so that it also works on a `world_state` that came over the network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from envs.nav_language import COLORS, SHAPES
from envs.nav_world import (
    ARENA,
    BALL_RADIUS,
    BOX_HALF,
    CONE_RADIUS,
    HALF_TRACK,
    NOTHING_LABEL,
    RAY_ANGLES,
    ROBOT_RADIUS,
    WALL_LABEL,
    WHEEL_RADIUS,
)

_RGB = {"red": (214, 64, 58), "green": (64, 160, 88), "blue": (58, 108, 200), "yellow": (236, 186, 48)}
_FLOOR, _TILE, _WALL = (247, 246, 242), (234, 232, 226), (84, 88, 96)
_ROBOT, _WHEEL, _TRAIL = (58, 62, 70), (30, 32, 36), (150, 120, 190)
_BAR, _TEXT, _MUTED = (40, 44, 52), (245, 245, 245), (170, 176, 186)
_DONE, _FAILED = (112, 204, 132), (240, 120, 110)
_WALL_WIDTH = 0.12  # metres, as drawn
_OVERSAMPLE = 2  # drawn larger and shrunk: opencv's antialiasing does not cover filled shapes well
_SHIFT = 4  # fractional bits of opencv coordinates


def draw(
    world_state: dict[str, Any],
    ranges: Sequence[float] | np.ndarray | None = None,
    labels: Sequence[int] | np.ndarray | None = None,
    trail: Sequence[tuple[float, float]] = (),
    size: int = 480,
) -> np.ndarray:
    """The arena with its objects, the robot, its scan, its path so far and what it was told.

    Args:
        world_state: what `NavEnv.world_state()` returns; `objects` may lack `theta`.
        ranges, labels: one scan (31,); None draws no rays.
        trail: positions (x, y) in metres, oldest first.
        size: width in pixels, even.

    Returns:
        uint8 RGB (height, size, 3), where the height is `size` and a bar for the text; both even, as
        video encoders want.

    Raises:
        ValueError: the size is odd or below 160.
    """
    if size < 160 or size % 2:
        raise ValueError(f"size={size}: give an even number of at least 160 pixels")
    bar = 2 * round(size / 18)
    canvas = _Canvas(size * _OVERSAMPLE)
    pose = world_state["pose"]
    _draw_floor(canvas)
    if ranges is not None and labels is not None:
        _draw_rays(canvas, pose, ranges, labels)
    _draw_trail(canvas, trail)
    for placed in world_state["objects"]:
        _draw_object(canvas, placed)
    _draw_robot(canvas, pose)
    view = cv2.resize(canvas.pixels, (size, size), interpolation=cv2.INTER_AREA)
    return np.vstack([_text_bar(world_state, size, bar), view])


class _Canvas:
    """An RGB image whose drawing calls take metres; y points up."""

    def __init__(self, pixels: int) -> None:
        self.pixels = np.full((pixels, pixels, 3), _WALL, np.uint8)
        self.scale = pixels / (ARENA + 2 * _WALL_WIDTH)

    def length(self, metres: float) -> int:
        return max(1, round(metres * self.scale))

    def points(self, xy: Any) -> np.ndarray:
        """Fixed-point pixel coordinates, int32 (n, 2)."""
        half = ARENA / 2 + _WALL_WIDTH
        metres = np.asarray(xy, float).reshape(-1, 2)
        pixels = np.stack([metres[:, 0] + half, half - metres[:, 1]], axis=1) * self.scale
        return np.round(pixels * (1 << _SHIFT)).astype(np.int32)

    def polygon(self, xy: Any, colour: tuple[int, int, int]) -> None:
        cv2.fillPoly(self.pixels, [self.points(xy)], colour, cv2.LINE_AA, _SHIFT)

    def line(self, xy: Any, colour: tuple[int, int, int], width: float, closed: bool = False) -> None:
        cv2.polylines(self.pixels, [self.points(xy)], closed, colour, self.length(width), cv2.LINE_AA, _SHIFT)

    def disc(self, x: float, y: float, radius: float, colour: tuple[int, int, int]) -> None:
        centre = self.points((x, y))[0].tolist()
        fixed = round(radius * self.scale * (1 << _SHIFT))
        cv2.circle(self.pixels, centre, fixed, colour, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _draw_floor(canvas: _Canvas) -> None:
    half = ARENA / 2
    canvas.polygon(_rectangle(0, 0, 0, half, half), _FLOOR)
    for metre in np.arange(-half + 0.5, half, 0.5):
        canvas.line([(metre, -half), (metre, half)], _TILE, 0.01)
        canvas.line([(-half, metre), (half, metre)], _TILE, 0.01)


def _draw_rays(canvas: _Canvas, pose: dict[str, float], ranges: Any, labels: Any) -> None:
    x, y = pose["x"], pose["y"]
    angles = RAY_ANGLES + pose["theta"]
    distances = np.asarray(ranges, float)
    ends = np.stack([x + distances * np.cos(angles), y + distances * np.sin(angles)], axis=1)
    # what is in view, faintly, under the rays themselves
    lit = canvas.pixels.copy()
    cv2.fillPoly(lit, [canvas.points([(x, y), *ends])], (255, 236, 170), cv2.LINE_AA, _SHIFT)
    for end, label in zip(ends, np.asarray(labels).tolist(), strict=True):
        colour = (226, 208, 150) if label >= WALL_LABEL else _RGB[COLORS[label // len(SHAPES)]]
        cv2.polylines(
            lit, [canvas.points([(x, y), end])], False, colour, canvas.length(0.012), cv2.LINE_AA, _SHIFT
        )  # fmt: skip
    cv2.addWeighted(lit, 0.55, canvas.pixels, 0.45, 0, dst=canvas.pixels)
    for end, label in zip(ends, np.asarray(labels).tolist(), strict=True):
        if label != NOTHING_LABEL:
            canvas.disc(
                end[0], end[1], 0.025, _WALL if label == WALL_LABEL else _shade(_RGB[COLORS[label // len(SHAPES)]], 0.7)
            )


def _draw_trail(canvas: _Canvas, trail: Sequence[tuple[float, float]]) -> None:
    if len(trail) > 1:
        canvas.line(trail, _TRAIL, 0.035)
        canvas.disc(trail[0][0], trail[0][1], 0.05, _TRAIL)


def _draw_object(canvas: _Canvas, placed: dict[str, Any]) -> None:
    color, shape = placed["name"].split()
    x, y, theta = placed["x"], placed["y"], placed.get("theta", 0.0)
    fill, edge = _RGB[color], _shade(_RGB[color], 0.72)
    if shape == "ball":
        canvas.disc(x, y, BALL_RADIUS, edge)
        canvas.disc(x, y, BALL_RADIUS - 0.02, fill)
        canvas.disc(x - 0.06, y + 0.07, 0.045, _shade(fill, 1.45))
    elif shape == "box":
        canvas.polygon(_rectangle(x, y, theta, BOX_HALF[0], BOX_HALF[1]), edge)
        canvas.polygon(_rectangle(x, y, theta, BOX_HALF[0] - 0.02, BOX_HALF[1] - 0.02), fill)
        canvas.polygon(_rectangle(x, y, theta, BOX_HALF[0] - 0.07, BOX_HALF[1] - 0.07), _shade(fill, 1.2))
    else:
        # seen from above a cone is a disc; the triangle says what stands there
        canvas.disc(x, y, CONE_RADIUS, _shade(fill, 1.55))
        corners = [(x + 0.17 * math.cos(a), y + 0.17 * math.sin(a)) for a in np.radians([90, 210, 330])]
        canvas.polygon(corners, fill)
        canvas.line(corners, edge, 0.02, closed=True)


def _draw_robot(canvas: _Canvas, pose: dict[str, float]) -> None:
    x, y, theta = pose["x"], pose["y"], pose["theta"]
    cos, sin = math.cos(theta), math.sin(theta)
    for side in (1, -1):
        wx, wy = x - side * (HALF_TRACK + 0.02) * sin, y + side * (HALF_TRACK + 0.02) * cos
        canvas.polygon(_rectangle(wx, wy, theta, WHEEL_RADIUS + 0.015, 0.02), _WHEEL)
    canvas.disc(x, y, ROBOT_RADIUS, (250, 250, 250))
    canvas.disc(x, y, ROBOT_RADIUS - 0.015, _ROBOT)
    nose = [(0.085, 0.0), (-0.03, 0.05), (-0.03, -0.05)]
    canvas.polygon([(x + u * cos - v * sin, y + u * sin + v * cos) for u, v in nose], (250, 250, 250))


def _text_bar(world_state: dict[str, Any], width: int, height: int) -> np.ndarray:
    bar = np.full((height, width, 3), _BAR, np.uint8)
    if world_state.get("success"):
        status, colour = "done", _DONE
    elif world_state.get("failed"):
        status, colour = "wrong object", _FAILED
    else:
        status, colour = f"part {world_state.get('stage', 0) + 1} of {world_state.get('parts', 1)}", _MUTED
    margin = height // 4
    room = width - 3 * margin - _put_text(bar, status, colour, height, right=width - margin, room=width // 3)
    text = world_state.get("instruction") or ""
    _put_text(bar, f'"{text}"' if text else "(no instruction)", _TEXT, height, left=margin, room=room)
    return bar


def _put_text(
    bar: np.ndarray, text: str, colour: tuple[int, int, int], height: int, *, room: int, left: int = 0, right: int = 0
) -> int:
    """Writes one line, shrunk to `room` pixels, from `left` or up to `right`; returns its width."""
    font = cv2.FONT_HERSHEY_DUPLEX if height >= 60 else cv2.FONT_HERSHEY_SIMPLEX
    scale = height / 64
    (width, tall), _ = cv2.getTextSize(text, font, scale, 1)
    if width > room:
        scale *= room / width
        (width, tall), _ = cv2.getTextSize(text, font, scale, 1)
    origin = (right - width if right else left, (height + tall) // 2)
    cv2.putText(bar, text, origin, font, scale, colour, 1, cv2.LINE_AA)
    return width


def _rectangle(x: float, y: float, theta: float, half_x: float, half_y: float) -> list[tuple[float, float]]:
    cos, sin = math.cos(theta), math.sin(theta)
    corners = [(half_x, half_y), (-half_x, half_y), (-half_x, -half_y), (half_x, -half_y)]
    return [(x + u * cos - v * sin, y + u * sin + v * cos) for u, v in corners]


def _shade(colour: tuple[int, int, int], factor: float) -> tuple[int, int, int]:
    """Darker towards black for factors below 1, lighter towards white above (2 is white)."""
    r, g, b = (round(c * factor if factor <= 1 else c + (255 - c) * (factor - 1)) for c in colour)
    return r, g, b
