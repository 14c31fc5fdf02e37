"""Decides, tick by tick, how far an instruction has been carried out. Ground truth only, no physics.

    go     within 0.5 m of the object and heading for it within 0.5 rad
    face   heading for the object within 0.15 rad, seeing it, nearly still, for 5 ticks (0.5 s)
    stop   nearly still for 10 ticks (1 s)

With `wrong_object_ends` an instruction fails as soon as a wrong object is reached in the sense of `go`, or,
while the goal is to face something, is faced in the sense of `face`. Wrong is every object but the
current goal and those already done. Order therefore counts: the second object of an instruction is a wrong
one until the first is done. Objects that the robot is already at when a goal becomes current (where an
earlier instruction ended, say) are excused until it has once been clear of them: more than 0.7 m away, or
turned more than 0.3 rad aside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from envs.nav_language import Goal, Task

REACH_DISTANCE = 0.5
REACH_BEARING = 0.5
FACE_BEARING = 0.15
FACE_TICKS = 5
STOP_TICKS = 10
STILL_LINEAR = 0.05
STILL_ANGULAR = 0.1
CLEAR_DISTANCE = 0.7
CLEAR_BEARING = 0.3


@dataclass(frozen=True, slots=True)
class Situation:
    """What the referee looks at: positions and pose in metres and radians, speeds in m/s and rad/s."""

    objects: Mapping[int, tuple[float, float]]  # label -> (x, y)
    pose: tuple[float, float, float]
    speeds: tuple[float, float]
    labels: np.ndarray  # the scan's classes, (31,)

    def still(self) -> bool:
        return self.speeds[0] < STILL_LINEAR and abs(self.speeds[1]) < STILL_ANGULAR

    def towards(self, label: int) -> tuple[float, float]:
        """`(distance, bearing)` of an object, bearing in [-pi, pi], positive to the left."""
        x, y, theta = self.pose
        u, v = self.objects[label]
        # remainder() wraps to [-pi, pi]
        return math.hypot(u - x, v - y), math.remainder(math.atan2(v - y, u - x) - theta, 2 * math.pi)

    def reaches(self, label: int) -> bool:
        distance, bearing = self.towards(label)
        return distance < REACH_DISTANCE and abs(bearing) < REACH_BEARING

    def faces(self, label: int) -> bool:
        return abs(self.towards(label)[1]) <= FACE_BEARING and self.still() and bool((self.labels == label).any())


@dataclass(frozen=True, slots=True)
class Progress:
    """Where an instruction stands. `stage` counts the goals that are done."""

    task: Task
    stage: int = 0
    failed: bool = False
    held: int = 0  # ticks for which the goal's condition has held
    wrong_held: int = 0  # ticks for which a wrong object has been faced
    near: frozenset[int] = frozenset()  # objects excused from being reached
    ahead: frozenset[int] = frozenset()  # objects excused from being faced

    @property
    def succeeded(self) -> bool:
        return self.stage == len(self.task.goals)

    @property
    def over(self) -> bool:
        return self.failed or self.succeeded

    @property
    def goal(self) -> Goal:
        """The current goal; the last one when all are done."""
        return self.task.goals[min(self.stage, len(self.task.goals) - 1)]


def begin(task: Task, now: Situation, stage: int = 0) -> Progress:
    """Starts goal `stage` of `task` where the robot is now."""
    seen = [(label, *now.towards(label)) for label in now.objects]
    return Progress(
        task,
        stage,
        near=frozenset(label for label, distance, _ in seen if distance < CLEAR_DISTANCE),
        ahead=frozenset(label for label, _, bearing in seen if abs(bearing) < CLEAR_BEARING),
    )


def judge(progress: Progress, now: Situation, wrong_object_ends: bool) -> Progress:
    """The progress after one more tick; `progress` itself when nothing changed."""
    if progress.over:
        return progress
    goal = progress.goal
    if goal.verb == "go":
        held, needed = int(now.reaches(goal.label)), 1
    elif goal.verb == "face":
        held, needed = (progress.held + 1 if now.faces(goal.label) else 0), FACE_TICKS
    else:
        held, needed = (progress.held + 1 if now.still() else 0), STOP_TICKS
    if held >= needed:
        return begin(progress.task, now, progress.stage + 1)
    if wrong_object_ends and goal.verb != "stop":
        progress = _watch_wrong_objects(progress, goal, now)
    return progress if held == progress.held else replace(progress, held=held)


def _watch_wrong_objects(progress: Progress, goal: Goal, now: Situation) -> Progress:
    near, ahead = progress.near, progress.ahead
    reached = faced = False
    allowed = [g.label for g in progress.task.goals[: progress.stage + 1]]
    for label in now.objects:
        if label in allowed:
            continue
        distance, bearing = now.towards(label)
        if label in near:
            near = near - {label} if distance > CLEAR_DISTANCE else near
        elif distance < REACH_DISTANCE and abs(bearing) < REACH_BEARING:
            reached = True
        if label in ahead:
            ahead = ahead - {label} if abs(bearing) > CLEAR_BEARING else ahead
        elif goal.verb == "face" and abs(bearing) <= FACE_BEARING and now.faces(label):
            faced = True
    wrong_held = progress.wrong_held + 1 if faced else 0
    failed = reached or wrong_held >= FACE_TICKS
    if (near, ahead, wrong_held, failed) == (progress.near, progress.ahead, progress.wrong_held, False):
        return progress
    return replace(progress, near=near, ahead=ahead, wrong_held=wrong_held, failed=failed)
