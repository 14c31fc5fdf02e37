"""The rollout buffer of sequence training: what each environment went through, in order, and states to begin from.

A rollout is kept as sequences of `sequence_length` steps with the recurrent state before each; a minibatch is a
set of sequences. Nothing is padded and nothing is cut at episode ends: episode starts are handled inside the
recurrence.
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
    """Tensors `(sequences, sequence_length, …)`, and the first `state` `(sequences, layers, state_size)`."""

    observations: dict[str, Tensor]
    actions: Tensor
    masks: Tensor | None
    old_values: Tensor
    old_log_prob: Tensor
    advantages: Tensor
    returns: Tensor
    episode_starts: Tensor
    state: Tensor
    #: Action parameters of the policy to stay close to, where there is one.
    reference: Tensor | None = None


class SequenceRolloutBuffer(RolloutBuffer):
    """Stores observations in their own dtypes; returns and advantages are computed by stable-baselines3.

    `sequence_length` must divide the number of steps; None is one sequence per environment.
    """

    def __init__(self, *args: Any, sequence_length: int | None = None, **kwargs: Any) -> None:
        self.sequence_length = sequence_length
        super().__init__(*args, **kwargs)

    def reset(self) -> None:
        """Forget everything."""
        shape = (self.buffer_size, self.n_envs)
        space = self.observation_space
        entries = dict(space.spaces) if isinstance(space, spaces.Dict) else {SINGLE: space}
        self.entries = {k: np.zeros((*shape, *(s.shape or ())), s.dtype) for k, s in entries.items()}
        is_box = isinstance(self.action_space, spaces.Box)
        self.actions = np.zeros((*shape, *(self.action_space.shape or ())), np.float32 if is_box else np.int64)
        self.masks: np.ndarray | None = None
        #: Action parameters `(n_steps, n_envs, size)` of the policy to stay close to; whoever has one sets it.
        self.reference: np.ndarray | None = None
        for name in ("rewards", "returns", "episode_starts", "values", "log_probs", "advantages"):
            setattr(self, name, np.zeros(shape, np.float32))
        self.states: list[Tensor] = []
        self.pos, self.full, self.generator_ready = 0, False, False

    @property
    def length(self) -> int:
        """Steps per sequence."""
        return self.sequence_length or self.buffer_size

    def add(  # type: ignore[override]
        self,
        obs: Any,
        action: Any,
        reward: Any,
        episode_start: Any,
        value: np.ndarray,
        log_prob: np.ndarray,
        state: Tensor,
        masks: np.ndarray | None = None,
    ) -> None:
        """One step of all environments; `state` `(n_envs, layers, state_size)` is the one before the step."""
        if self.pos % self.length == 0:
            self.states.append(state.clone())
        for name, array in self.entries.items():
            array[self.pos] = obs[name] if isinstance(obs, dict) else obs
        self.actions[self.pos] = action
        self.rewards[self.pos] = reward
        self.episode_starts[self.pos] = episode_start
        self.values[self.pos] = value
        self.log_probs[self.pos] = log_prob
        if masks is not None:
            if self.masks is None:
                self.masks = np.ones((self.buffer_size, *masks.shape), bool)
            self.masks[self.pos] = masks
        self.pos += 1
        self.full = self.pos == self.buffer_size

    def sequences(self, n_minibatches: int) -> Iterator[Sequences]:
        """The rollout in `n_minibatches` random groups of sequences."""
        assert self.full, "the rollout is not complete"
        states = torch.stack(self.states)  # (pieces, n_envs, layers, state_size)
        order = np.random.permutation(len(self.states) * self.n_envs)  # noqa: NPY002 -- SB3 seeds it
        for chosen in np.array_split(order, n_minibatches):
            piece, env = chosen // self.n_envs, chosen % self.n_envs
            pick = lambda array, piece=piece, env=env: self._batch_first(array, piece, env)  # noqa: E731
            yield Sequences(
                observations={k: pick(v) for k, v in self.entries.items()},
                actions=pick(self.actions),
                masks=None if self.masks is None else pick(self.masks),
                old_values=pick(self.values),
                old_log_prob=pick(self.log_probs),
                advantages=pick(self.advantages),
                returns=pick(self.returns),
                episode_starts=pick(self.episode_starts),
                state=states[torch.from_numpy(piece), torch.from_numpy(env)],
                reference=None if self.reference is None else pick(self.reference),
            )

    def _batch_first(self, array: np.ndarray, piece: np.ndarray, env: np.ndarray) -> Tensor:
        """`(n_steps, n_envs, …)` to `(chosen, sequence_length, …)` on the device."""
        pieces = array.reshape(-1, self.length, *array.shape[1:])
        return torch.from_numpy(pieces[piece, :, env]).to(self.device)
