"""The rollout buffer of sequence training: whole rollouts per environment and the state each began with.

A minibatch is a set of environments. Nothing is padded and nothing is cut: episode starts are handled
inside the recurrence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from torch import Tensor

from mcsd_agent.spaces import SINGLE


@dataclass(frozen=True)
class Sequences:
    """Tensors `(environments, n_steps, …)`, and `state` `(environments, layers, state_size)` before the first step."""

    observations: dict[str, Tensor]
    actions: Tensor
    old_values: Tensor
    old_log_prob: Tensor
    advantages: Tensor
    returns: Tensor
    episode_starts: Tensor
    state: Tensor


class SequenceRolloutBuffer(RolloutBuffer):
    """Stores observations in their own dtypes; returns and advantages are computed by stable-baselines3."""

    def reset(self) -> None:
        """Forget everything."""
        shape = (self.buffer_size, self.n_envs)
        space = self.observation_space
        entries = dict(space.spaces) if isinstance(space, spaces.Dict) else {SINGLE: space}
        self.entries = {k: np.zeros((*shape, *(s.shape or ())), s.dtype) for k, s in entries.items()}
        kept = (
            (np.int64, ()) if isinstance(self.action_space, spaces.Discrete) else (np.float32, self.action_space.shape)
        )
        self.actions = np.zeros((*shape, *(kept[1] or ())), kept[0])
        for name in ("rewards", "returns", "episode_starts", "values", "log_probs", "advantages"):
            setattr(self, name, np.zeros(shape, np.float32))
        self.state: Tensor | None = None
        self.pos, self.full, self.generator_ready = 0, False, False

    def begin(self, state: Tensor) -> None:
        """Remember the state `(n_envs, layers, state_size)` before the rollout's first step."""
        self.state = state.clone()

    def add(self, obs: Any, action: Any, reward: Any, episode_start: Any, value: Tensor, log_prob: Tensor) -> None:
        """One step of all environments."""
        for name, array in self.entries.items():
            array[self.pos] = obs[name] if isinstance(obs, dict) else obs
        self.actions[self.pos] = action
        self.rewards[self.pos] = reward
        self.episode_starts[self.pos] = episode_start
        self.values[self.pos] = value.cpu().numpy()
        self.log_probs[self.pos] = log_prob.cpu().numpy()
        self.pos += 1
        self.full = self.pos == self.buffer_size

    def sequences(self, n_minibatches: int) -> Iterator[Sequences]:
        """The rollout in `n_minibatches` random groups of environments."""
        assert self.full, "the rollout is not complete"
        assert self.state is not None, "begin() was not called"
        for chosen in np.array_split(np.random.permutation(self.n_envs), n_minibatches):  # noqa: NPY002 -- SB3 seeds it
            yield Sequences(
                observations={k: self._batch_first(v, chosen) for k, v in self.entries.items()},
                actions=self._batch_first(self.actions, chosen),
                old_values=self._batch_first(self.values, chosen),
                old_log_prob=self._batch_first(self.log_probs, chosen),
                advantages=self._batch_first(self.advantages, chosen),
                returns=self._batch_first(self.returns, chosen),
                episode_starts=self._batch_first(self.episode_starts, chosen),
                state=self.state[torch.from_numpy(chosen).to(self.state.device)],
            )

    def _batch_first(self, array: np.ndarray, chosen: np.ndarray) -> Tensor:
        """`(n_steps, n_envs, …)` to `(chosen, n_steps, …)` on the device."""
        return torch.from_numpy(np.ascontiguousarray(array[:, chosen].swapaxes(0, 1))).to(self.device)
