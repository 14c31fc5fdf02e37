"""The simulated robot without ROS: the Nav world stepped by hand, and the robot's own watchdog."""

from __future__ import annotations

from typing import Any

import numpy as np

#: What is said to the world while nobody has said anything: a robot that stands still is right.
SILENCE = "stop"


class CommandWatch:
    """The newest command and the watchdog. Times are seconds of the monotonic clock."""

    def __init__(self, watchdog_s: float) -> None:
        self.watchdog_s = watchdog_s
        self.received = self.stops = 0
        self._command = (0.0, 0.0)
        self._at: float | None = None
        self._stopped = True

    def command(self, linear: float, angular: float, now: float) -> None:
        """A command arrived."""
        self.received += 1
        self._command, self._at = (linear, angular), now

    def forget(self) -> None:
        """No command was ever given: in a new arena the robot stands still."""
        self._command, self._at, self._stopped = (0.0, 0.0), None, True

    def drive(self, now: float) -> tuple[float, float]:
        """What the wheels do now: the newest command, or nothing when it is too old."""
        fresh = self._at is not None and now - self._at < self.watchdog_s
        if not fresh and not self._stopped:
            self.stops += 1
        self._stopped = not fresh
        return self._command if fresh else (0.0, 0.0)

    @property
    def is_stopped(self) -> bool:
        """Whether the watchdog holds the wheels."""
        return self._stopped

    def age_s(self, now: float) -> float | None:
        """Age of the newest command; None when there was none."""
        return None if self._at is None else now - self._at


class World:
    """The Nav environment, stepped by hand, with the words it hears kept apart from what it is set up with."""

    def __init__(self) -> None:
        from envs.nav import NavEnv

        self.env = NavEnv()
        self.task = ""
        self.heard = 0
        self.instruction = self.error = ""
        self.observation: dict[str, Any] = {}
        self.new_task({"task": "", "seed": 0})

    def new_task(self, task: dict[str, Any]) -> None:
        """A fresh arena; `error` says why not when `task` makes no sense."""
        name = str(task.get("task", ""))
        if name and name == self.task:
            return
        options = {k: task[k] for k in ("n_objects", "instruction") if task.get(k) is not None}
        try:
            unknown = sorted(set(task) - {"task", "seed", "n_objects", "instruction"})
            if unknown:
                raise ValueError(f"unknown key {unknown[0]!r} in the task")
            self.observation, _ = self.env.reset(seed=task.get("seed"), options=options)
        except (ValueError, TypeError) as error:
            self.error = str(error)
            return
        self.env.set_instruction(SILENCE)
        self.task, self.heard, self.instruction, self.error = name, 0, "", ""

    def hear(self, text: str) -> None:
        """An instruction from the topic; the judging starts over."""
        self.heard += 1
        self.instruction = text
        try:
            self.env.set_instruction(text)
            self.error = ""
        except ValueError as error:
            self.error = str(error)

    def step(self, linear: float, angular: float) -> None:
        """One tick of 0.1 s."""
        self.observation, *_ = self.env.step(np.array([linear, angular], np.float32))

    def state(self) -> dict[str, Any]:
        """The truth; `success` and `failed` only count for something that was heard."""
        truth = self.env.world_state()
        judged = self.heard > 0 and not self.error
        speed, turn = self.env.world.speeds()
        return truth | {
            "task": self.task,
            "instruction": self.instruction,
            "heard": self.heard,
            "error": self.error,
            "success": bool(truth["success"]) and judged,
            "failed": bool(truth["failed"]) and judged,
            "speed": speed,
            "turn_rate": turn,
            "ranges": [round(r, 3) for r in self.observation["ranges"].tolist()],
            "labels": self.observation["labels"].tolist(),
        }
