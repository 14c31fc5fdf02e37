"""A `Policy` as stable-baselines3 sees it: spaces in, `predict` with a recurrent state out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor

from mcsd_agent.errors import UserError
from mcsd_agent.policy import Policy, PolicyConfig
from mcsd_agent.spaces import SINGLE, spec_from_space
from mcsd_agent.strict import build
from mcsd_agent.training.episodes import Collate
from mcsd_agent.training.instructions import policy_specs


class SequenceActorCritic(BasePolicy):
    """`policy_kwargs` are the keys of `PolicyConfig`, for example `dict(backbone="gru", width=64)`."""

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        use_sde: bool = False,
        **policy_kwargs: Any,
    ) -> None:
        super().__init__(observation_space, action_space)
        if use_sde:
            raise UserError("use_sde=True is not supported by sequence policies; leave it False")
        self.policy_kwargs = policy_kwargs
        specs, vocabulary = policy_specs(observation_space)
        config = build(PolicyConfig, policy_kwargs, "policy_kwargs")
        self.net = Policy(specs, spec_from_space(action_space), config, vocabulary)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=lr_schedule(1), eps=1e-5)
        self.collate = Collate(specs, vocabulary)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "lr_schedule": lambda _: 0.0,  # the optimiser's state is loaded over it
            **self.policy_kwargs,
        }

    def tensors(self, observation: Any) -> dict[str, Tensor]:
        """Arrays `(n_envs, *shape)`, alone or in a dict, to tensors by name."""
        entries = observation if isinstance(observation, dict) else {SINGLE: observation}
        return {k: torch.as_tensor(v, device=self.device) for k, v in entries.items()}

    def forward(self, observation: dict[str, Tensor], state: Tensor, starts: Tensor) -> tuple[Tensor, ...]:
        """One tick of exploration: actions, values, log-probabilities and the next state."""
        features, state = self.net.step(observation, state, starts)
        parameters = self.net.action_net(features)
        actions = self.net.head.sample(parameters)
        return actions, self.net.values(features), self.net.head.log_prob(parameters, actions), state

    def evaluate_sequences(
        self, observations: dict[str, Tensor], actions: Tensor, state: Tensor, starts: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values, log-probabilities and entropies `(batch, time)` of whole rollouts."""
        features, _ = self.net.scan(observations, state, starts)
        parameters = self.net.action_net(features)
        return self.net.values(features), self.net.head.log_prob(parameters, actions), self.net.head.entropy(parameters)

    def predict_values(self, observation: dict[str, Tensor], state: Tensor, starts: Tensor | None) -> Tensor:
        """Values `(n_envs,)`."""
        return self.net.values(self.net.step(observation, state, starts)[0])

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        raise NotImplementedError("a sequence policy needs its state; call predict(observation, state, episode_start)")

    def predict(  # type: ignore[override]
        self,
        observation: Any,
        state: np.ndarray | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Actions and the next state `(n_envs, layers, state_size)`.

        Accepts one observation or a batch, like every stable-baselines3 policy. Pass the returned state
        back in; `state=None` begins anew, and so do the rows where `episode_start` is true.
        """
        self.set_training_mode(False)
        batched, vectorised = self._as_batch(observation)
        tensors = {k: torch.as_tensor(v, device=self.device) for k, v in batched.items()}
        n = len(next(iter(tensors.values())))
        with torch.no_grad():
            before = self.net.initial_state(n) if state is None else torch.as_tensor(state, device=self.device)
            starts = None if episode_start is None else torch.as_tensor(episode_start, device=self.device)
            features, after = self.net.step(tensors, before, starts)
            parameters = self.net.action_net(features)
            chosen = self.net.head.mode(parameters) if deterministic else self.net.head.sample(parameters)
        actions = chosen.cpu().numpy()
        if isinstance(self.action_space, spaces.Box):
            actions = np.clip(actions, self.action_space.low, self.action_space.high)
        return (actions if vectorised else actions[0]), after.cpu().numpy()

    def _as_batch(self, observation: Any) -> tuple[dict[str, np.ndarray], bool]:
        entries = observation if isinstance(observation, dict) else {SINGLE: observation}
        encoded = {k: self.collate.encode(v) if isinstance(v, str) else np.asarray(v) for k, v in entries.items()}
        name, spec = next(iter(self.net.observation_specs.items()))
        vectorised = encoded[name].ndim == len(spec.shape) + 1
        return {k: v if vectorised else v[None] for k, v in encoded.items()}, vectorised
