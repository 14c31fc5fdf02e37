"""The passive T-maze of Ni et al., "When Do Transformers Shine in RL?" (NeurIPS 2023): one bit, kept for long.

                             up
    start -- corridor -- junction
                            down

The side of the goal is shown in the first observation and never again. The corridor is `length` steps long and
looks the same everywhere; at the junction the agent turns up or down, and the episode ends after `length + 1`
steps, whatever it did. Turning to the goal's side earns 1. Before, every step that leaves the agent behind one
that always went on costs 1 / length, so that the maze asks for memory and not for exploration: returns lie in
[-1, 1], a policy that walks on and guesses gets 0.5, one that remembers gets 1.

Who learns to walk 500 steps without a mistake has forgotten how to turn by then. With `shortest` every episode
has a corridor of its own length, so that turning is learnt in short ones.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import gymnasium
import numpy as np
from gymnasium import spaces

RIGHT, UP, LEFT, DOWN = range(4)
CORRIDOR, JUNCTION, GOAL_UP, GOAL_DOWN = range(4)


class PassiveTMaze(gymnasium.Env[Any, Any]):
    """Observations CORRIDOR, JUNCTION, GOAL_UP, GOAL_DOWN; actions RIGHT, UP, LEFT, DOWN, of which walls stop some.

    The corridor has `length` steps; with `shortest`, in every episode as many as a draw from `shortest` to `length`
    says whose logarithm is uniform. ValueError for lengths below 1 and a `shortest` above `length`.

    Example:
        >>> env = PassiveTMaze(length=2)
        >>> sign, _ = env.reset(seed=0)
        >>> path = [env.step(RIGHT), env.step(RIGHT), env.step(UP if sign == GOAL_UP else DOWN)]
        >>> sum(reward for _, reward, *_ in path)
        1.0
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 -- gymnasium's name and form

    def __init__(self, length: int = 50, shortest: int | None = None, render_mode: str | None = None) -> None:
        self.length = self._longest = checked_length(length)
        self._shortest = checked_shortest(shortest, length)
        self.render_mode = render_mode
        self.observation_space = spaces.Discrete(4)
        self.action_space = spaces.Discrete(4)
        self._x = self._y = self._goal = self._tick = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """To the start; shows the side."""
        super().reset(seed=seed)
        self._x = self._y = self._tick = 0
        self._goal = draw_goal(self.np_random)
        if self._shortest is not None:
            self.length = draw_length(self.np_random, self._shortest, self._longest)
        return (GOAL_UP if self._goal > 0 else GOAL_DOWN), {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Walk, or turn at the junction; `info["is_success"]` at the end says whether it was the right way."""
        self._tick += 1
        at_junction = self._x == self.length
        if action == RIGHT:
            self._x += not at_junction
        elif action == LEFT:
            self._x -= self._x > 0
        elif at_junction:
            # Only the last step can turn: the junction is not reached before.
            self._y = 1 if action == UP else -1
        seen = JUNCTION if self._x == self.length else CORRIDOR
        if self._tick > self.length:
            right = self._y == self._goal
            return seen, float(right), True, False, {"is_success": right}
        return seen, -1.0 / self.length if self._x < self._tick else 0.0, False, False, {}

    def get_state(self) -> dict[str, Any]:
        """Everything that decides how the episode and those after it go on, as plain values."""
        place = {"length": self.length, "x": self._x, "y": self._y, "goal": self._goal, "tick": self._tick}
        return {**place, "random": self.np_random.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on where `get_state` was called."""
        self.length, self._x, self._y, self._goal, self._tick = (
            int(state[k]) for k in ("length", "x", "y", "goal", "tick")
        )
        self.np_random.bit_generator.state = state["random"]

    def render(self) -> np.ndarray:
        """The maze from above, its corridor drawn as long whatever its length, `(96, 288, 3)` uint8."""
        picture = np.full((96, 288, 3), 32, np.uint8)
        for first, last in (((16, 40), (272, 56)), ((256, 8), (272, 88))):
            cv2.rectangle(picture, first, last, (200, 200, 200), -1)
        cv2.circle(picture, (264, 48 - 32 * self._goal), 7, (40, 160, 90), -1)
        cv2.circle(picture, (24 + 240 * self._x // self.length, 48 - 32 * self._y), 5, (46, 134, 193), -1)
        return picture


def checked_length(length: int) -> int:
    """`length`, at least 1; ValueError otherwise."""
    if length < 1:
        raise ValueError(f"length={length} must be at least 1 step")
    return length


def checked_shortest(shortest: int | None, length: int) -> int | None:
    """`shortest`, from 1 to `length` or None; ValueError otherwise."""
    if shortest is not None and not 1 <= shortest <= length:
        raise ValueError(f"shortest={shortest} must be from 1 step to length={length}")
    return shortest


def draw_length(random: np.random.Generator, shortest: int, longest: int) -> int:
    """Steps of a corridor; their logarithm is uniform."""
    return min(int(math.exp(random.uniform(math.log(shortest), math.log(longest + 1)))), longest)


def draw_goal(random: np.random.Generator) -> int:
    """1 for up or -1 for down, as likely."""
    return 2 * int(random.integers(2)) - 1
