"""A scripted expert for the navigation tasks. It acts on what was observed and what is meant, as a policy must.

It turns until it has looked all around, goes to what it was told if it has seen it, and otherwise
turns on to the next open view, drives up to 1.8 m and looks again: where to search depends on what is in sight, which
a policy can learn, and not on a map of where it has been. Objects stay in its map once seen, also across
instructions, and it keeps a wide berth of those it was not sent to. An instruction is remembered when it
can no longer be heard, and a new one replaces it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import gymnasium
import numpy as np

from envs import nav_referee
from envs.nav_corrections import understand
from envs.nav_language import Goal, Task
from envs.nav_map import NavMap
from envs.nav_phrasings import TRAINED
from envs.nav_world import FIELD_OF_VIEW, MAX_ANGULAR, MAX_LINEAR, RAY_ANGLES, RAYS

if TYPE_CHECKING:
    from envs.nav import NavEnv

# Its own criteria are stricter than the referee's, because its map is only an estimate.
_ARRIVED_DISTANCE, _ARRIVED_BEARING = 0.44, 0.4
_FACED_BEARING = 0.1
_HOLD_MARGIN = 1  # ticks

# Searching: look around, drive a leg, look around again.
_LOOK = 2 * math.pi - FIELD_OF_VIEW + 0.2  # a turn of this much has seen every direction
_OPEN = 2.0  # metres free ahead for a leg to begin; it goes on turning until then
_LEG = 1.8  # metres
_WALL = 0.6  # a leg ends where less than this is free ahead

# Steering.
_GAIN = 2.5  # rad/s per rad
_SLOW_BEARING = 0.7  # further off course than this it turns on the spot
_BERTH = 0.48  # radius kept free around objects that are not the goal
_PASSAGE = 0.3  # free metres needed beyond the point where an object is passed
_KEEP = 0.8  # reluctance to change sides while passing

# Doubting the map.
_SURE_RANGE = 2.5  # nearer than this an object cannot hide between rays
_HIDDEN_BEARING, _PLAIN_RAYS = 0.12, 3  # not seen though straight ahead; in plain sight again
_TOUCH, _PUSHED_TICKS, _RELEASED = 0.16, 8, 0.45  # metres ahead that mean contact; for how long; free again

_RAY_STEP = FIELD_OF_VIEW / (RAYS - 1)
_FRONT = slice(12, 19)  # the rays within 12 degrees of straight ahead
_BUMPER = slice(4, 27)  # within 44 degrees


class NavExpert:
    """`reset()` before every episode, then one `act(observation)` per tick.

    It reads instructions, or is told by `env`, which it then has to drive, what is meant by them, whatever the wording.

    Raises:
        ValueError: `env` words instructions in a way that is kept for the evaluation; from `act`, the instruction is
            not in the grammar, and nobody says what it means.

    Example:
        >>> from envs.nav import NavEnv
        >>> env, expert = NavEnv(), NavExpert()
        >>> observation, info = env.reset(seed=1)
        >>> done = False
        >>> while not done:
        ...     observation, _, terminated, truncated, info = env.step(expert.act(observation))
        ...     done = terminated or truncated
        >>> info["is_success"]
        True
    """

    def __init__(self, env: gymnasium.Env[Any, Any] | None = None) -> None:
        self._env = None if env is None else cast("NavEnv", env.unwrapped)
        if self._env is not None and self._env.config.wording not in TRAINED:
            raise ValueError(
                f"wording={self._env.config.wording!r} is kept for the evaluation; set it to {' or '.join(TRAINED)}"
            )
        self._map = NavMap()
        self._approaching = False  # driving up to something hidden that it is to face
        self.reset()

    def reset(self) -> None:
        """Forgets everything."""
        self._map.reset()
        self._heard = ""
        self._goals: tuple[Goal, ...] = ()
        self._stage = 0
        self._held = 0
        self._detour: float | None = None  # heading chosen to pass an object, None when the way is clear
        self._pushed = 0  # ticks
        self._escape = 0.0  # turn rate away from what it ran into, 0 when free
        self._search_again()

    @property
    def finished(self) -> bool:
        """Whether it believes that everything it was told is done; it stands still then."""
        return self._stage == len(self._goals)

    def act(self, observation: dict[str, Any]) -> np.ndarray:
        """The action, float32 (2,): m/s and rad/s within the robot's limits."""
        self._map.update(observation)
        self._listen(observation["instruction"])
        linear, angular = self._drive()
        return np.array([linear, angular], np.float32)

    def _listen(self, instruction: str) -> None:
        if instruction and instruction != self._heard:
            self._goals = self._meaning(instruction).goals
            self._stage = 0
            self._held = 0
            self._search_again()
        # silence is remembered too: the same words after it are a new instruction
        self._heard = instruction

    def _meaning(self, instruction: str) -> Task:
        if self._env is not None:
            return self._env.task
        return understand(instruction, Task(self._goals) if self._goals else None)

    def _drive(self) -> tuple[float, float]:
        while not self.finished:
            goal = self._goals[self._stage]
            command = self._stop() if goal.verb == "stop" else self._pursue(goal)
            if command is not None:
                return command
            self._stage += 1
            self._held = 0
            self._search_again()
        return 0.0, 0.0

    # ------------------------------------------------------------------------- the three verbs
    # Each returns a command, or None when its goal is done.

    def _stop(self) -> tuple[float, float] | None:
        self._held = self._held + 1 if self._still() else 0
        return None if self._held > nav_referee.STOP_TICKS + _HOLD_MARGIN else (0.0, 0.0)

    def _pursue(self, goal: Goal) -> tuple[float, float] | None:
        label = goal.label
        if self._escaping():
            return 0.0, self._escape
        if label in self._map.objects and self._contradicted(label):
            self._map.forget(label)
            self._search_again()
        if label not in self._map.objects:
            return self._search()
        distance, bearing = self._map.towards(label)
        if goal.verb == "go":
            if distance < _ARRIVED_DISTANCE and abs(bearing) < _ARRIVED_BEARING:
                return None
            return self._steer(bearing, distance, label)
        rays = self._map.visible.get(label, 0)
        # something stands in the way: go nearer until it is in plain sight
        hidden = rays == 0 and abs(bearing) < _HIDDEN_BEARING
        self._approaching = hidden or (self._approaching and rays < _PLAIN_RAYS)
        if self._approaching:
            return self._steer(bearing, distance, label)
        self._held = self._held + 1 if abs(bearing) < _FACED_BEARING and self._still() else 0
        if self._held > nav_referee.FACE_TICKS + _HOLD_MARGIN:
            return None
        return 0.0, _turn(bearing)

    def _still(self) -> bool:
        return self._map.speed < nav_referee.STILL_LINEAR and abs(self._map.turn_rate) < nav_referee.STILL_ANGULAR

    def _contradicted(self, label: int) -> bool:
        """Whether the scan looks straight through the place where the object should be."""
        distance, bearing = self._map.towards(label)
        ray = round((RAY_ANGLES[0] - bearing) / _RAY_STEP)
        if label in self._map.visible or distance > _SURE_RANGE or not 1 <= ray < RAYS - 1:
            return False
        return min(self._map.ranges[ray - 1 : ray + 2]) > distance + 0.4

    def _escaping(self) -> bool:
        """Whether it is still turning away from what it ran into."""
        if self._escape and min(self._map.ranges[_BUMPER]) > _RELEASED:
            self._escape = 0.0
        return self._escape != 0

    def _notice_pushing(self, linear: float, goal: int | None) -> bool:
        """Gives up the course, and the map, after driving against something for a while.

        No course that it plans leads there: its odometry must have slipped.
        """
        seen = self._map
        pushing = linear > 0 and min(seen.ranges[_BUMPER]) < _TOUCH and goal not in seen.visible
        self._pushed = self._pushed + 1 if pushing else 0
        if self._pushed < _PUSHED_TICKS:
            return False
        self._pushed = 0
        middle = RAYS // 2
        left_is_freer = sum(seen.ranges[:middle]) > sum(seen.ranges[middle + 1 :])
        self._escape = MAX_ANGULAR if left_is_freer else -MAX_ANGULAR
        for label in list(seen.objects):
            if label not in seen.visible:
                seen.forget(label)
        self._search_again()
        return True

    # ------------------------------------------------------------------------------- searching

    def _search_again(self) -> None:
        self._looked = 0.0  # radians turned in this look around
        self._approaching = False
        self._leg: float | None = None  # metres driven since, None while looking

    def _search(self) -> tuple[float, float]:
        seen = self._map
        free = min(seen.ranges[_FRONT])
        if self._leg is None:
            self._looked += seen.turned
            if self._looked < _LOOK or (free < _OPEN and self._looked < _LOOK + 2 * math.pi):
                return 0.0, MAX_ANGULAR
            self._leg = 0.0
        self._leg += seen.driven
        if self._leg > _LEG or free < _WALL:
            self._search_again()
            return 0.0, MAX_ANGULAR
        return self._steer(0.0, _LEG, None)

    # -------------------------------------------------------------------------------- steering

    def _steer(self, bearing: float, distance: float, goal: int | None) -> tuple[float, float]:
        course = self._clear_course(bearing, distance, goal)
        linear = MAX_LINEAR * max(0.0, 1 - abs(course) / _SLOW_BEARING)
        if self._notice_pushing(linear, goal):
            return 0.0, self._escape
        if goal is not None:
            linear *= max(0.3, min(1.0, (distance - 0.2) / 0.5))
        return linear, _turn(course)

    def _clear_course(self, bearing: float, distance: float, goal: int | None) -> float:
        """The bearing nearest to the wanted one that passes every other nearer object at `_BERTH`."""
        seen = self._map
        blocked: list[tuple[float, float, float]] = []  # bearing, half width, metres until it is passed
        for label in seen.objects:
            if label != goal:
                away, towards = seen.towards(label)
                if away < distance:
                    if away > _BERTH:
                        half, way = math.asin(_BERTH / away), math.sqrt(away**2 - _BERTH**2)
                    else:  # too near already: only courses that lead away, the more the nearer
                        half, way = math.pi / 2 + 1.2 * (1 - away / _BERTH), 0.0
                    blocked.append((towards, half, way))
        if all(abs(_wrap(bearing - centre)) >= half for centre, half, _ in blocked):
            self._detour = None
            return bearing
        edges = [
            edge
            for centre, half, way in blocked
            for edge in (_wrap(centre + half + 0.02), _wrap(centre - half - 0.02))
            if all(abs(_wrap(edge - other)) >= width for other, width, _ in blocked) and self._open(edge, way)
        ]
        last = 0.0 if self._detour is None else _wrap(self._detour - seen.theta)

        def cost(edge: float) -> float:
            return abs(_wrap(edge - bearing)) + _KEEP * abs(_wrap(edge - last))

        course = min(edges, key=cost, default=bearing)
        self._detour = seen.theta + course
        return course

    def _open(self, bearing: float, way: float) -> bool:
        """Whether no wall in sight ends the course before it has passed the object `way` metres off."""
        ray = round((RAY_ANGLES[0] - bearing) / _RAY_STEP)
        return not 0 <= ray < RAYS or self._map.ranges[ray] > way + _PASSAGE


def _turn(bearing: float) -> float:
    return max(-MAX_ANGULAR, min(MAX_ANGULAR, _GAIN * bearing))


def _wrap(angle: float) -> float:
    return math.remainder(angle, 2 * math.pi)
