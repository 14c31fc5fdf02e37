"""What a robot can know about its arena: wheel odometry, and every object it has seen so far.

Uses observations only. Positions are in the odometry frame: the robot's first pose is (0, 0, 0).
"""

from __future__ import annotations

import math
from typing import Any

from envs.nav_language import SHAPES
from envs.nav_world import (
    BALL_RADIUS,
    BOX_HALF,
    CLASSES,
    CONE_HEIGHT,
    CONE_RADIUS,
    HALF_TRACK,
    RAY_ANGLES,
    RAYS,
    SCAN_HEIGHT,
    TICK_S,
    WHEEL_RADIUS,
)

_COS = [math.cos(a) for a in RAY_ANGLES]
_SIN = [math.sin(a) for a in RAY_ANGLES]

# A disc of radius R is seen as an arc whose mean depth lies R pi/4 before its centre. The discs are the
# objects' sections at the height of the scan; for a box, between its flat and its corner.
_RADII = {
    "ball": math.sqrt(BALL_RADIUS**2 - (SCAN_HEIGHT - BALL_RADIUS) ** 2),
    "box": 1.25 * BOX_HALF[0],
    "cone": CONE_RADIUS * (1 - SCAN_HEIGHT / CONE_HEIGHT),
}
_DEPTHS = [_RADII[SHAPES[label % len(SHAPES)]] * math.pi / 4 for label in range(CLASSES)]

# a neighbouring ray that ends this much earlier hides part of the object
_OCCLUSION = 0.05
# a remembered distance that is wrong by this much was not measured badly
_SLIP = 0.35
_RAY_STEP = float(RAY_ANGLES[0] - RAY_ANGLES[1])


class NavMap:
    """Odometry and remembered objects; feed every observation to `update` exactly once.

    Attributes:
        x, y, theta: estimated pose, metres and radians, in the frame of the first one.
        speed, turn_rate: from the wheels, m/s and rad/s.
        objects: label -> estimated (x, y) of every object seen since `reset` and not forgotten.
        visible: label -> number of rays on it in the last scan.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.x = self.y = self.theta = 0.0
        self.speed = self.turn_rate = 0.0
        self.turned = self.driven = 0.0  # by the last tick: radians, metres
        self.objects: dict[int, tuple[float, float]] = {}
        self.visible: dict[int, int] = {}
        self.ranges: list[float] = []
        self._sharp: set[int] = set()  # objects that were once seen whole
        self._started = False

    def update(self, observation: dict[str, Any]) -> None:
        self._move(*observation["wheel_velocities"].tolist())
        self.ranges = observation["ranges"].tolist()
        self._see(observation["labels"].tolist())

    def forget(self, label: int) -> None:
        self.objects.pop(label, None)
        self._sharp.discard(label)

    def towards(self, label: int) -> tuple[float, float]:
        """Estimated `(distance, bearing)` of a remembered object."""
        u, v = self.objects[label]
        dx, dy = u - self.x, v - self.y
        return math.hypot(dx, dy), math.remainder(math.atan2(dy, dx) - self.theta, 2 * math.pi)

    def _move(self, left: float, right: float) -> None:
        speed = (left + right) * WHEEL_RADIUS / 2
        turn_rate = (right - left) * WHEEL_RADIUS / (2 * HALF_TRACK)
        if self._started:
            # wheels are read once a tick: trapezoids between readings, chord at the middle heading
            self.driven = (speed + self.speed) / 2 * TICK_S
            self.turned = (turn_rate + self.turn_rate) / 2 * TICK_S
            heading = self.theta + self.turned / 2
            self.x += self.driven * math.cos(heading)
            self.y += self.driven * math.sin(heading)
            self.theta += self.turned
        self._started = True
        self.speed, self.turn_rate = speed, turn_rate

    def _see(self, labels: list[int]) -> None:
        ranges = self.ranges
        spans: dict[int, list[int]] = {}
        for ray, label in enumerate(labels):
            if label < CLASSES:
                spans.setdefault(label, []).append(ray)
        self.visible = {label: len(rays) for label, rays in spans.items()}
        cos, sin = math.cos(self.theta), math.sin(self.theta)
        for label, rays in spans.items():
            first, last = rays[0], rays[-1]
            whole = (
                first > 0
                and last < RAYS - 1
                and ranges[first - 1] > ranges[first] - _OCCLUSION
                and ranges[last + 1] > ranges[last] - _OCCLUSION
            )
            n = len(rays)
            px = sum(ranges[i] * _COS[i] for i in rays) / n
            py = sum(ranges[i] * _SIN[i] for i in rays) / n
            near = max(math.hypot(px, py), 1e-6)
            if whole:
                self._sharp.add(label)
            elif label in self._sharp:
                # half an object tells its place badly, but well enough to notice that odometry has slipped
                distance, bearing = self.towards(label)
                slack = 0.2 / near + _RAY_STEP
                if (
                    RAY_ANGLES[last] - slack < bearing < RAY_ANGLES[first] + slack
                    and abs(distance - near - _DEPTHS[label]) < _SLIP
                ):
                    continue
                self._sharp.discard(label)
            stretch = 1 + _DEPTHS[label] / near
            px, py = px * stretch, py * stretch
            self.objects[label] = (self.x + cos * px - sin * py, self.y + sin * px + cos * py)
