"""A `Policy` as stable-baselines3 sees it: spaces in, `predict` with a recurrent state out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from mcsd_agent.errors import UserError
from mcsd_agent.policy import Policy, PolicyConfig, SequenceEncoder, value_net
from mcsd_agent.spaces import SINGLE, spec_from_space
from mcsd_agent.strict import build
from mcsd_agent.training.episodes import Collate
from mcsd_agent.training.foresight import Foresight
from mcsd_agent.training.instructions import policy_specs
from mcsd_agent.training.resume_state import check_weights
from mcsd_agent.training.value_scale import ValueScale

#: Keys that scripts for sb3-contrib's recurrent policies use, by ours, and those that say nothing about this network.
_LSTM_KEYS = {"lstm_hidden_size": "width", "n_lstm_layers": "layers", "shared_lstm": "share_backbone"}
_NOT_OURS = ("activation_fn", "log_std_init", "lstm_kwargs", "net_arch", "ortho_init")

#: Enough for control tasks, and a quarter of the work of `PolicyConfig`'s own.
_WIDTH = 64


class SequenceActorCritic(BasePolicy):
    """`policy_kwargs` are the keys of `PolicyConfig`, for example `dict(backbone="gru", layers=1)`; the width is 64
    unless they say otherwise.

    With `share_backbone=False` the state has the critic's layers after the actor's. One that `foresees` also learns to
    predict observations.
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        use_sde: bool = False,
        foresees: bool = False,
        **policy_kwargs: Any,
    ) -> None:
        super().__init__(observation_space, action_space)
        if use_sde:
            raise UserError("use_sde=True is not supported by sequence policies; leave it False")
        self.policy_kwargs = _our_keys(policy_kwargs)
        specs, vocabulary = policy_specs(observation_space)
        config = build(PolicyConfig, {"width": _WIDTH, **self.policy_kwargs}, "policy_kwargs")
        self.net = Policy(specs, spec_from_space(action_space), config, vocabulary)
        self.critic: SequenceEncoder | None = None
        if not config.share_backbone:
            self.critic = SequenceEncoder(specs, config, vocabulary)
            self.net.value_net = value_net(config.width)
        self.value_scale = ValueScale()
        # The last to be made, so that all others begin as they do without it.
        self.foresight = Foresight(specs, self.net.action_spec, config.width) if foresees else None
        # One pass over all weights a step; the values are those of the plain form.
        self.optimizer = torch.optim.Adam(self.parameters(), lr=lr_schedule(1), eps=1e-5, fused=True)
        self.collate = Collate(specs, vocabulary)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "lr_schedule": self._dummy_schedule,  # a policy alone is not trained on; unlike a lambda it can be pickled
            **({} if self.foresight is None else {"foresees": True}),
            **self.policy_kwargs,
        }

    @property
    def value_layer(self) -> nn.Linear:
        """The value network's last layer."""
        last = self.net.value_net[-1]
        assert isinstance(last, nn.Linear)
        return last

    def initial_state(self, batch: int) -> Tensor:
        """Zeros `(batch, layers, state_size)`, the critic's layers included."""
        state = self.net.initial_state(batch)
        return state if self.critic is None else torch.cat([state, self.critic.initial_state(batch)], 1)

    def host_tensors(self, observation: Any) -> dict[str, Tensor]:
        """Arrays `(n_envs, *shape)`, alone or in a dict, to tensors by name."""
        entries = observation if isinstance(observation, dict) else {SINGLE: observation}
        return {k: torch.as_tensor(v) for k, v in entries.items()}

    def tensors(self, observation: Any) -> dict[str, Tensor]:
        """`host_tensors` on the policy's device."""
        return {k: v.to(self.device) for k, v in self.host_tensors(observation).items()}

    def _features(
        self, form: str, observation: dict[str, Tensor], state: Tensor, starts: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Features for the action and for the value, and the next state, by `step` or `scan`."""
        if self.critic is None:
            features, state = getattr(self.net, form)(observation, state, starts)
            return features, features, state
        layers = self.net.state_shape[0]
        features, actor = getattr(self.net, form)(observation, state[:, :layers], starts)
        valued, critic = getattr(self.critic, form)(observation, state[:, layers:], starts)
        return features, valued, torch.cat([actor, critic], 1)

    def _action_parameters(self, features: Tensor, masks: Tensor | None) -> Tensor:
        """Of the distribution over actions; `masks` `(…, logits)` is false where an action is not available."""
        parameters = self.net.action_net(features)
        return parameters if masks is None else self.net.head.masked(parameters, masks)

    def _values(self, features: Tensor) -> Tensor:
        return self.value_scale(self.net.values(features))

    def forward(
        self,
        observation: dict[str, Tensor],
        state: Tensor,
        starts: Tensor,
        masks: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """One tick of exploration: actions, values, log-probabilities and the next state."""
        features, valued, state = self._features("step", observation, state, starts)
        parameters = self._action_parameters(features, masks)
        head = self.net.head
        actions = head.sample(parameters) if noise is None else head.sample(parameters, noise)  # type: ignore[call-arg]
        return actions, self._values(valued), self.net.head.log_prob(parameters, actions), state

    def evaluate_sequences(
        self,
        observations: dict[str, Tensor],
        actions: Tensor,
        state: Tensor,
        starts: Tensor,
        masks: Tensor | None = None,
        reference: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Values, log-probabilities, entropies, and divergences from action parameters `reference`
        `(batch, time, size)`, all `(batch, time)`, of whole sequences, and the error `()` of what was foreseen.
        Without a reference there is no divergence, without foresight no error."""
        features, valued, _ = self._features("scan", observations, state, starts)
        parameters = self._action_parameters(features, masks)
        head, values = self.net.head, self._values(valued)
        divergences = torch.zeros_like(values)
        if reference is not None:
            divergences = head.divergence(parameters, reference if masks is None else head.masked(reference, masks))
        error = values.new_zeros(())
        if self.foresight is not None:
            error = self.foresight(features, actions, observations, starts)
        return values, head.log_prob(parameters, actions), head.entropy(parameters), divergences, error

    def value_parameters(self) -> list[nn.Parameter]:
        """Those of which no action depends."""
        return [*self.net.value_net.parameters(), *(self.critic.parameters() if self.critic is not None else ())]

    def predict_values(self, observation: dict[str, Tensor], state: Tensor, starts: Tensor | None) -> Tensor:
        """Values `(n_envs,)`."""
        return self._values(self._features("step", observation, state, starts)[1])

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        raise NotImplementedError("a sequence policy needs its state; call predict(observation, state, episode_start)")

    def predict(  # type: ignore[override]
        self,
        observation: Any,
        state: np.ndarray | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Actions and the next state `(n_envs, layers, state_size)`.

        Accepts one observation or a batch, like every stable-baselines3 policy. Pass the returned state
        back in; `state=None` begins anew, and so do the rows where `episode_start` is true.
        """
        self.set_training_mode(False)
        batched, vectorised = self.as_batch(observation)
        tensors = {k: torch.as_tensor(v, device=self.device) for k, v in batched.items()}
        n = len(next(iter(tensors.values())))
        with torch.no_grad():
            before = self.net.initial_state(n) if state is None else torch.as_tensor(state, device=self.device)
            if before.shape != (n, *self.net.state_shape):
                raise UserError(
                    f"state of shape {tuple(before.shape)} must be {(n, *self.net.state_shape)}: the one that predict "
                    f"returned for the {n} observations before, or None to begin anew"
                )
            starts = None if episode_start is None else torch.as_tensor(episode_start, device=self.device).reshape(n)
            features, after = self.net.step(tensors, before, starts)
            masks = None if action_masks is None else torch.as_tensor(action_masks, device=self.device).reshape(n, -1)
            parameters = self._action_parameters(features, masks)
            chosen = self.net.head.mode(parameters) if deterministic else self.net.head.sample(parameters)
        actions = chosen.cpu().numpy()
        if isinstance(self.action_space, spaces.Box):
            actions = np.clip(actions, self.action_space.low, self.action_space.high)
        return (actions if vectorised else actions[0]), after.cpu().numpy()

    def as_batch(self, observation: Any) -> tuple[dict[str, np.ndarray], bool]:
        """Arrays `(batch, *shape)` by name from one observation or a batch of them, and whether it was a batch."""
        entries = observation if isinstance(observation, dict) else {SINGLE: observation}
        encoded = {k: self.collate.encode(v) if isinstance(v, str) else np.asarray(v) for k, v in entries.items()}
        first, spec = next(iter(self.net.observation_specs.items()))
        vectorised = first in encoded and encoded[first].ndim == len(spec.shape) + 1
        for name, spec in self.net.observation_specs.items():
            if name not in encoded:
                raise UserError(f"the observation has no entry {name!r}; it has {', '.join(sorted(encoded))}")
            if encoded[name].shape[vectorised:] != spec.shape:
                raise UserError(f"{name!r} of shape {encoded[name].shape} must be {spec.shape}, alone or in a batch")
        return {k: v if vectorised else v[None] for k, v in encoded.items()}, vectorised

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As torch's; `UserError` naming the first difference when `strict` and of another policy."""
        if strict:
            check_weights(self, dict(state_dict))
        return super().load_state_dict(state_dict, strict, assign)


def _our_keys(policy_kwargs: dict[str, Any]) -> dict[str, Any]:
    """Those of `PolicyConfig` that mean the same; a warning for what scripts say of another network."""
    ours = {_LSTM_KEYS.get(k, k): v for k, v in policy_kwargs.items()}
    if "enable_critic_lstm" in ours:
        own = ours.pop("enable_critic_lstm")
        ours.setdefault("share_backbone", not own)
    ignored = [k for k in _NOT_OURS if k in ours]
    if ignored:
        warnings.warn(
            f"policy_kwargs: {', '.join(ignored)} shape sb3-contrib's network and are ignored here", stacklevel=2
        )
    return {k: v for k, v in ours.items() if k not in ignored}
