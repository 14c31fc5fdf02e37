"""A simulated environment as a robot in this process, for machines without ROS and for tests.

import gymnasium
import envs
from mcsd_agent.runtime import Controller, EnvRobot, Stream, VirtualClock

clock = VirtualClock()                                   # as fast as possible; leave it out for real time
robot = EnvRobot(gymnasium.make("mcsd/Nav-v0"), clock=clock)
robot.reset(seed=7)
Controller(Stream.load("nav.mcsd"), robot, clock=clock, sleep=clock.sleep).run(robot.finished)
print(robot.info["is_success"], robot.total_reward)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.runtime.robot import Reading
from mcsd_agent.spaces import SINGLE


class VirtualClock:
    """Time that passes only when somebody sleeps: a loop paced by it runs as fast as it can."""

    def __init__(self, now: float = 0.0) -> None:
        self._now = now

    def __call__(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass at once."""
        self._now += max(0.0, seconds)


class EnvRobot:
    """Steps a Gymnasium-like environment with the action sent, once per tick.

    Anything with `reset(seed=, options=)`, `step(action)` and `action_space` will do. When an episode
    ends, `finished` is set and the robot reads as disconnected until the next `reset`.
    """

    def __init__(
        self, env: Any, *, clock: Callable[[], float] = time.monotonic, stop_action: np.ndarray | int | None = None
    ) -> None:
        """`stop_action` stands still; the default is zero, as near as the action space's bounds allow."""
        self.env = env
        self._clock = clock
        space = env.action_space
        if stop_action is not None:
            self._stop_action: Any = stop_action
        elif hasattr(space, "low"):
            self._stop_action = np.clip(np.zeros(space.shape, space.dtype), space.low, space.high)
        else:
            raise UserError(f"action space {type(space).__name__} has no natural way to stand still; give stop_action")
        self.finished = threading.Event()
        self.finished.set()
        self._observation: Any = None
        self._stamp = 0.0
        self._clear()

    def _clear(self) -> None:
        self.info: dict[str, Any] = {}
        self.total_reward = 0.0
        self.steps = 0
        self.terminated = self.truncated = False

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> dict[str, Any]:
        """Begins an episode and returns its `info`. Whoever controls the robot resets the policy's memory."""
        self._clear()
        self._observation, self.info = self.env.reset(seed=seed, options=options)
        self._stamp = self._clock()
        self.finished.clear()
        return self.info

    def observe(self) -> Reading:
        """The observation after the last step, as old as that step."""
        values = self._observation if isinstance(self._observation, Mapping) else {SINGLE: self._observation}
        return Reading(values, dict.fromkeys(values, self._stamp), connected=not self.finished.is_set())

    def send(self, action: np.ndarray) -> np.ndarray:
        """One step with `action`."""
        self._step(action)
        return action

    def stop(self, reason: str) -> None:
        """One step of standing still; nothing once the episode or the loop has ended."""
        if not self.finished.is_set() and reason != "shutdown":
            self._step(self._stop_action)

    def _step(self, action: Any) -> None:
        self._observation, reward, self.terminated, self.truncated, self.info = self.env.step(action)
        self._stamp = self._clock()
        self.total_reward += float(reward)
        self.steps += 1
        if self.terminated or self.truncated:
            self.finished.set()
