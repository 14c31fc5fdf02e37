"""Replay of sequences for off-policy training: streams of rows per environment, and recurrent states now and then.

After R2D2 (Kapturowski et al., "Recurrent experience replay in distributed reinforcement learning", 2019). A row
is an observation and what was done in it. Where a time limit cut an episode, its final observation is a row of its
own, in which nothing was done: the state in which its value is asked is then the one that the recurrence arrives
with, and no row is special to the scan. The states that the networks had are kept at every `stride`-th row, which
is where sequences may begin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from mcsd_agent.errors import UserError
from mcsd_agent.spaces import SINGLE


@dataclass(frozen=True)
class ReplaySequences:
    """Tensors `(batch, rows, …)`, and the `states` `(batch, layers, state_size)` before the first row, per network.

    `final` marks rows in which nothing was done, so that action, reward and `terminated` say nothing there; nor
    do the previous action and reward where an episode starts.
    """

    observations: dict[str, Tensor]
    actions: Tensor
    rewards: Tensor
    terminated: Tensor
    final: Tensor
    episode_starts: Tensor
    previous_actions: Tensor
    previous_rewards: Tensor
    states: tuple[Tensor, ...]


class SequenceReplay:
    """The last `buffer_size` rows of `n_envs` environments, of which the oldest are overwritten.

    :param buffer_size: rows in all; each environment has an equal share
    :param rows: length of the sequences that are sampled
    :param stride: a recurrent state is kept at every `stride`-th row; sequences begin there
    :param state_shapes: `(layers, state_size)` of each network whose state is kept

    Raises `UserError` when not even one sequence fits.
    """

    _FLAGS = ("terminated", "final", "episode_starts")

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        n_envs: int,
        rows: int,
        stride: int,
        state_shapes: Sequence[tuple[int, int]],
        device: torch.device | str = "cpu",
    ) -> None:
        capacity = buffer_size // n_envs // stride * stride
        if capacity < rows + stride:
            raise UserError(
                f"buffer_size={buffer_size} must be at least {(rows + stride) * n_envs}: a sequence of {rows} rows and "
                f"{stride} more for each of {n_envs} environments"
            )
        self.capacity, self.n_envs, self.sequence_rows, self.stride = capacity, n_envs, rows, stride
        self.device = torch.device(device)
        shape = (capacity, n_envs)
        entries = {SINGLE: observation_space}
        self._named = isinstance(observation_space, spaces.Dict)
        if isinstance(observation_space, spaces.Dict):
            entries = dict(observation_space.spaces)
        self.entries = {k: np.zeros((*shape, *(s.shape or ())), s.dtype) for k, s in entries.items()}
        self.actions = np.zeros((*shape, *action_space.shape), np.float32)
        self.rewards = np.zeros(shape, np.float32)
        self.terminated, self.final, self.episode_starts = (np.zeros(shape, np.bool_) for _ in self._FLAGS)
        self.states = [np.zeros((capacity // stride, n_envs, *s), np.float32) for s in state_shapes]
        self.count = np.zeros(n_envs, np.int64)  # rows written in all
        self._all = np.arange(n_envs)

    def __len__(self) -> int:
        return int(np.minimum(self.count, self.capacity).sum())

    @property
    def nbytes(self) -> int:
        """Memory when full, in bytes."""
        arrays = (*self.entries.values(), *self.states, self.actions, self.rewards)
        return sum(a.nbytes for a in arrays) + sum(getattr(self, k).nbytes for k in self._FLAGS)

    def add(
        self,
        observations: dict[str, np.ndarray],
        actions: np.ndarray,
        rewards: np.ndarray,
        terminated: np.ndarray,
        episode_starts: np.ndarray,
        states: Sequence[Tensor],
    ) -> None:
        """One step of all environments: arrays `(n_envs, …)`, and the states before the step."""
        place = self._begin(self._all, observations, states)
        self.actions[place], self.rewards[place] = actions, rewards
        self.terminated[place], self.final[place] = terminated, False
        self.episode_starts[place] = episode_starts

    def add_final(self, env: int, observation: dict[str, np.ndarray], states: Sequence[Tensor]) -> None:
        """The observation after a time limit in environment `env`, with the states `(1, …)` it is met in."""
        place = self._begin(np.array([env]), {k: np.asarray(v)[None] for k, v in observation.items()}, states)
        self.actions[place], self.rewards[place] = 0.0, 0.0
        self.terminated[place], self.final[place], self.episode_starts[place] = False, True, False

    def _begin(
        self, envs: np.ndarray, observations: dict[str, np.ndarray], states: Sequence[Tensor]
    ) -> tuple[np.ndarray, np.ndarray]:
        row = self.count[envs] % self.capacity
        for name, array in self.entries.items():
            array[row, envs] = observations[name]
        kept = np.flatnonzero(row % self.stride == 0)
        if kept.size:
            for store, state in zip(self.states, states, strict=True):
                store[row[kept] // self.stride, envs[kept]] = state.numpy(force=True)[kept]
        self.count[envs] += 1
        return row, envs

    def cut(self) -> None:
        """The environments were left in the middle of an episode: the last row of each becomes a final one.

        Its action is forgotten, since what came of it is not known; the row before is still learned from.
        """
        written = np.flatnonzero(self.count)
        row = (self.count[written] - 1) % self.capacity
        self.final[row, written] |= ~self.terminated[row, written]

    def available(self) -> np.ndarray:
        """How many sequences could be drawn from each environment, `(n_envs,)`."""
        first, last = self._limits()
        return np.maximum(last - first + 1, 0)

    def _limits(self) -> tuple[np.ndarray, np.ndarray]:
        # The row before a sequence is read too, for what was done in it; before row 0 there is none, and an
        # episode starts there.
        oldest = np.where(self.count > self.capacity, self.count - self.capacity + 1, 0)
        return -(-oldest // self.stride), (self.count - self.sequence_rows) // self.stride

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplaySequences:
        """`batch_size` sequences, uniformly; observations and rewards normalised as `env` does now."""
        available = self.available()
        ends = np.cumsum(available)
        if not ends[-1]:
            raise UserError(f"the replay holds no sequence of {self.sequence_rows} rows yet; collect more steps first")
        drawn = torch.randint(int(ends[-1]), (batch_size,)).numpy()
        envs = np.searchsorted(ends, drawn, side="right")
        blocks = self._limits()[0][envs] + drawn - (ends - available)[envs]
        return self.sequences(blocks, envs, env)

    def sequences(self, blocks: np.ndarray, envs: np.ndarray, env: VecNormalize | None = None) -> ReplaySequences:
        """The sequences that begin at rows `blocks * stride` of the streams of `envs`, rows counted from the first."""
        rows = blocks[:, None] * self.stride + np.arange(-1, self.sequence_rows)
        with_previous = (rows % self.capacity, envs[:, None])
        place = (with_previous[0][:, 1:], envs[:, None])
        observations: Any = {k: v[place] for k, v in self.entries.items()}
        actions, rewards = self.actions[with_previous], self.rewards[with_previous]
        if env is not None:
            observations = env.normalize_obs(observations if self._named else observations[SINGLE])
            observations = observations if self._named else {SINGLE: observations}
            rewards = env.normalize_reward(rewards).astype(np.float32)
        return ReplaySequences(
            observations={k: self._tensor(v) for k, v in observations.items()},
            actions=self._tensor(actions[:, 1:]),
            rewards=self._tensor(rewards[:, 1:]),
            terminated=self._tensor(self.terminated[place]),
            final=self._tensor(self.final[place]),
            episode_starts=self._tensor(self.episode_starts[place]),
            previous_actions=self._tensor(actions[:, :-1]),
            previous_rewards=self._tensor(rewards[:, :-1]),
            states=tuple(self._tensor(s[blocks % len(s), envs]) for s in self.states),
        )

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    # --- keeping it ------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Tensors of what has been written, for `load_state_dict`."""
        used = int(min(self.count.max(), self.capacity))
        blocks = -(-used // self.stride)
        return {
            "capacity": self.capacity,
            "stride": self.stride,
            "count": torch.from_numpy(self.count.copy()),
            "entries": {k: torch.from_numpy(v[:used].copy()) for k, v in self.entries.items()},
            "states": [torch.from_numpy(s[:blocks].copy()) for s in self.states],
            **{k: torch.from_numpy(getattr(self, k)[:used].copy()) for k in ("actions", "rewards", *self._FLAGS)},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises `UserError` when `state` is of a replay of other sizes or spaces."""
        try:
            if (state["capacity"], state["stride"]) != (self.capacity, self.stride):
                raise ValueError
            count = state["count"].numpy()
            used = int(min(count.max(), self.capacity))
            pairs = [(self.entries[k], state["entries"][k]) for k in self.entries]
            pairs += [(getattr(self, k), state[k]) for k in ("actions", "rewards", *self._FLAGS)]
            pairs = [(a[:used], b) for a, b in pairs]
            blocks = -(-used // self.stride)
            pairs += [(a[:blocks], b) for a, b in zip(self.states, state["states"], strict=True)]
            if count.shape != self.count.shape or any(a.shape != tuple(b.shape) for a, b in pairs):
                raise ValueError
        except (KeyError, ValueError, AttributeError, TypeError):
            raise UserError(
                "the stored replay is of other spaces or sizes; give buffer_size, n_envs, sequence_length, burn_in, "
                "stride and policy_kwargs of the run that stored it"
            ) from None
        for mine, stored in pairs:
            mine[...] = stored.numpy()
        self.count[...] = count
