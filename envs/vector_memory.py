"""The memory tasks for many environments at once: one NumPy call steps them all.

Row i is the environment with seed `seed + i`, tick by tick: the same observations, rewards and ends. What is
drawn at random is drawn from a generator per row, in the order in which the single environment draws it.
Episodes begin anew in the step that ends them; their last observation is in `infos["final_obs"]`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from envs.card_games import NOTHING_DUE, SUITS, make_game
from envs.passive_tmaze import (
    CORRIDOR,
    DOWN,
    GOAL_DOWN,
    GOAL_UP,
    JUNCTION,
    LEFT,
    RIGHT,
    UP,
    checked_length,
    checked_shortest,
    draw_goal,
    draw_length,
)


class VectorMemoryTask(VectorEnv[Any, Any, Any]):
    """Many episodes of one length, or each of its own: `_ticks` is a number or one per row."""

    _ticks: int | np.ndarray

    metadata = {"render_modes": [], "render_fps": 10, "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(
        self, num_envs: int, ticks: int, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
    ) -> None:
        self.num_envs, self._ticks, self.render_mode = num_envs, ticks, None
        self.single_observation_space, self.single_action_space = observation_space, action_space
        self.observation_space = batch_space(observation_space, num_envs)
        self.action_space = batch_space(action_space, num_envs)
        self._rows = np.arange(num_envs)
        self._tick = np.zeros(num_envs, np.int64)
        self._random: list[np.random.Generator] = []

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin all episodes; row i draws from a generator with seed `seed + i`, or `seed[i]`."""
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
        if seeds is None:
            seeds = [None] * self.num_envs
        fresh = not self._random
        if fresh:
            self._random = [seeding.np_random()[0] for _ in seeds]
        for i, one in enumerate(seeds):
            if one is not None:
                self._random[i] = seeding.np_random(one)[0]
        self._begin(self._rows)
        return self._first(self._rows), {}

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Observations `(n, …)`, rewards `(n,)` float64, terminated, truncated `(n,)`, infos."""
        self._tick += 1
        done = self._tick == self._ticks
        observations, rewards, infos = self._advance(np.asarray(actions), done)
        truncated = np.zeros(self.num_envs, bool)
        if not done.any():
            return observations, rewards, done, truncated, {}
        ended = np.flatnonzero(done)
        infos |= {"final_obs": observations, "_final_obs": done}
        observations = observations.copy()
        self._begin(ended)
        observations[ended] = self._first(ended)
        return observations, rewards, done, truncated, infos

    def get_states(self) -> list[dict[str, Any]]:
        """What `get_state` of each row's single environment would say."""
        return [
            {**self._row_state(i), "tick": int(self._tick[i]), "random": self._random[i].bit_generator.state}
            for i in range(self.num_envs)
        ]

    def set_states(self, states: Sequence[dict[str, Any]], rows: Sequence[int] | None = None) -> None:
        """Go on where `get_states` was called; `rows` says which, if not all."""
        if not self._random:
            self._random = [seeding.np_random()[0] for _ in self._rows]
        for i, state in zip(range(self.num_envs) if rows is None else rows, states, strict=True):
            self._set_row_state(i, state)
            self._tick[i] = state["tick"]
            self._random[i].bit_generator.state = state["random"]

    def _begin(self, rows: np.ndarray) -> None:
        self._tick[rows] = 0
        for i in rows:
            self._draw(int(i), self._random[i])

    @abstractmethod
    def _draw(self, row: int, random: np.random.Generator) -> None:
        """Draw what an episode of one row is about."""

    @abstractmethod
    def _first(self, rows: np.ndarray) -> np.ndarray:
        """The observations with which episodes of `rows` begin, and everything else at its start."""

    @abstractmethod
    def _advance(self, actions: np.ndarray, done: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        """Observations, rewards and infos after `actions`; `_tick` counts them already."""

    @abstractmethod
    def _row_state(self, row: int) -> dict[str, Any]: ...

    @abstractmethod
    def _set_row_state(self, row: int, state: dict[str, Any]) -> None: ...


class VectorCardGame(VectorMemoryTask):
    """Many games of `envs.card_games`.

    Example:
        >>> env = VectorCardGame(num_envs=3, game="repeat_first", decks=1)
        >>> first, _ = env.reset(seed=0)
        >>> env.step(first)[1].round(4).tolist()
        [0.0196, 0.0196, 0.0196]
    """

    def __init__(self, num_envs: int, game: str, decks: int, k: int | None = None) -> None:
        self.game = make_game(game, decks, k)
        super().__init__(num_envs, self.game.ticks, self.game.observation_space, spaces.Discrete(SUITS))
        shape = self.single_observation_space.shape or ()
        self._suits = np.zeros((num_envs, self.game.cards), np.int64)
        # Time first: what is read at one tick lies together.
        self._shown = np.zeros((self.game.ticks + 1, num_envs, *shape), np.int64)
        self._due = np.zeros((self.game.ticks, num_envs), np.int64)
        self._reward = 1.0 / self.game.answers

    def _draw(self, row: int, random: np.random.Generator) -> None:
        self._deal(row, self.game.shuffle(random))

    def _deal(self, row: int, suits: np.ndarray) -> None:
        self._suits[row] = suits
        self._shown[:, row], self._due[:, row] = self.game.script(suits)

    def _first(self, rows: np.ndarray) -> np.ndarray:
        return self._shown[0, rows]

    def _advance(self, actions: np.ndarray, done: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        due = self._due[self._tick - 1, self._rows]
        rewards = np.where(actions == due, self._reward, -self._reward)
        rewards[due == NOTHING_DUE] = 0.0
        return self._shown[self._tick, self._rows], rewards, {}

    def _row_state(self, row: int) -> dict[str, Any]:
        return {"suits": self._suits[row].tolist()}

    def _set_row_state(self, row: int, state: dict[str, Any]) -> None:
        self._deal(row, np.array(state["suits"], np.int64))


class VectorPassiveTMaze(VectorMemoryTask):
    """Many mazes of `envs.passive_tmaze`."""

    def __init__(self, num_envs: int, length: int = 50, shortest: int | None = None) -> None:
        self._longest, self._shortest = checked_length(length), checked_shortest(shortest, length)
        super().__init__(num_envs, length + 1, spaces.Discrete(4), spaces.Discrete(4))
        self.length = np.full(num_envs, length)
        self._x, self._y, self._goal = (np.zeros(num_envs, np.int64) for _ in range(3))

    def _draw(self, row: int, random: np.random.Generator) -> None:
        self._goal[row] = draw_goal(random)
        if self._shortest is not None:
            self.length[row] = draw_length(random, self._shortest, self._longest)
            self._ticks = self.length + 1

    def _first(self, rows: np.ndarray) -> np.ndarray:
        self._x[rows] = self._y[rows] = 0
        return np.where(self._goal[rows] > 0, GOAL_UP, GOAL_DOWN)

    def _advance(self, actions: np.ndarray, done: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        at_junction = self._x == self.length
        self._x += (actions == RIGHT) & ~at_junction
        self._x -= (actions == LEFT) & (self._x > 0)
        self._y += at_junction * ((actions == UP).astype(np.int64) - (actions == DOWN))
        right = done & (self._y == self._goal)
        rewards = right.astype(np.float64)
        behind = ~done & (self._x < self._tick)
        rewards[behind] = -1.0 / self.length[behind]
        infos = {"is_success": right, "_is_success": done} if done.any() else {}
        return np.where(self._x == self.length, JUNCTION, CORRIDOR), rewards, infos

    def _row_state(self, row: int) -> dict[str, Any]:
        places = {"length": self.length, "x": self._x, "y": self._y, "goal": self._goal}
        return {name: int(values[row]) for name, values in places.items()}

    def _set_row_state(self, row: int, state: dict[str, Any]) -> None:
        self.length[row], self._x[row], self._y[row], self._goal[row] = (state[k] for k in ("length", "x", "y", "goal"))
        self._ticks = self.length + 1
