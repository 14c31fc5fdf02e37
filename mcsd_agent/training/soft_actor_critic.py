"""The networks of sequence soft actor-critic: one actor, two critics and their slowly following targets.

Haarnoja et al., arXiv 1812.05905. Actor and critics have an encoder and a backbone each, and the critics see the
previous action and reward beside the observation: Ni, Eysenbach and Salakhutdinov, "Recurrent model-free RL can
be a strong baseline for many POMDPs" (2022), found the first decisive and the second helpful. The critics are not
deployed, so that what they see costs the actor nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from gymnasium import spaces
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from mcsd_agent.errors import UserError
from mcsd_agent.heads import SquashedGaussianHead
from mcsd_agent.kernels.linear import Linear
from mcsd_agent.policy import PolicyConfig, SequenceEncoder
from mcsd_agent.runtime.text_encoders import TextEncoder
from mcsd_agent.spaces import BoxSpec, Spec
from mcsd_agent.training.actor_critic import SequenceActorCritic
from mcsd_agent.training.sequence_replay import ReplaySequences

#: What critics see beside the observation: the previous action in [-1, 1], then the previous reward.
_PREVIOUS = "critic.previous"


class SequenceCritic(SequenceEncoder):
    """Q of an action given all that has been observed, done and rewarded before it in the episode."""

    def __init__(
        self, observation: dict[str, Spec], dims: int, config: PolicyConfig, vocabulary: TextEncoder | None
    ) -> None:
        super().__init__({**observation, _PREVIOUS: BoxSpec((dims + 1,))}, config, vocabulary)
        width = config.width
        self.q_net = nn.Sequential(
            Linear(width + dims, 2 * width), nn.SiLU(), Linear(2 * width, 2 * width), nn.SiLU(), Linear(2 * width, 1)
        )

    def q(self, features: Tensor, action: Tensor) -> Tensor:
        """`(…,)` from features `(…, width)` and actions `(…, dims)` in [-1, 1]."""
        return self.q_net(torch.cat([features, action], -1)).squeeze(-1)


class SoftActorCritic(SequenceActorCritic):
    """`net` is the actor; `policy_kwargs` are those of `SequenceActorCritic`, and shape the critics as well."""

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        use_sde: bool = False,
        **policy_kwargs: Any,
    ) -> None:
        policy_kwargs.pop("share_backbone", None)  # they never share one here
        if policy_kwargs.get("head", "gaussian") not in ("gaussian", "squashed"):
            raise UserError(
                f"policy_kwargs: head={policy_kwargs['head']!r} is not for SequenceSAC; use head='squashed'"
            )
        policy_kwargs["head"] = "squashed"  # a Gaussian, the default of PolicyConfig, is squashed here
        super().__init__(observation_space, action_space, lr_schedule, use_sde, **policy_kwargs)
        net = self.net
        critics = [SequenceCritic(net.observation_specs, self.head.dims, net.config, net.vocabulary) for _ in range(2)]
        self.critics = nn.ModuleList(critics)
        self.targets = nn.ModuleList(copy.deepcopy(critics)).requires_grad_(False)
        rate = lr_schedule(1)
        self.optimizer = torch.optim.Adam(net.parameters(), lr=rate, fused=True)
        self.critic_optimizer = torch.optim.Adam(self.critics.parameters(), lr=rate, fused=True)

    @property
    def head(self) -> SquashedGaussianHead:
        """The actor's distribution."""
        return cast(SquashedGaussianHead, self.net.head)

    @property
    def online(self) -> Sequence[SequenceCritic]:
        """The critics that learn."""
        return cast(Sequence[SequenceCritic], self.critics)

    @property
    def networks(self) -> tuple[SequenceEncoder, ...]:
        """Actor and critics: those whose states are kept in the replay, in this order."""
        return (self.net, *self.online)

    def unit(self, actions: Tensor) -> Tensor:
        """Actions in physical units as the critics see them, in [-1, 1]."""
        return (actions - self.head.centre) / self.head.half_range

    def seen(
        self, observations: dict[str, Tensor], previous_actions: Tensor, previous_rewards: Tensor, starts: Tensor
    ) -> dict[str, Tensor]:
        """What the critics see; at an episode's start there is no previous action and reward."""
        previous = torch.cat([self.unit(previous_actions), previous_rewards.unsqueeze(-1)], -1)
        return {**observations, _PREVIOUS: previous.masked_fill(starts.unsqueeze(-1), 0.0)}

    def seen_in(self, batch: ReplaySequences) -> dict[str, Tensor]:
        """What the critics see in sequences of the replay."""
        return self.seen(batch.observations, batch.previous_actions, batch.previous_rewards, batch.episode_starts)

    @torch.no_grad()
    def explore(self, seen: dict[str, Tensor], states: Sequence[Tensor], starts: Tensor) -> tuple[Tensor, list[Tensor]]:
        """One tick: random actions `(n_envs, dims)` in physical units, and the next state of each network."""
        features, state = self.net.step(self.observed(seen), states[0], starts)
        critics = zip(self.online, states[1:], strict=True)
        after = [critic.step(seen, before, starts)[1] for critic, before in critics]
        return self.head.sample(self.net.action_net(features)), [state, *after]

    def observed(self, seen: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the actor sees of what the critics see."""
        return {k: seen[k] for k in self.net.observation_specs}

    @torch.no_grad()
    def burn_in(self, seen: dict[str, Tensor], states: Sequence[Tensor], starts: Tensor) -> list[Tensor]:
        """The state of each network after a scan of what was seen, `(batch, time, …)`."""
        if not starts.shape[1]:
            return list(states)
        critics = zip(self.online, states[1:], strict=True)
        actor = self.net.scan(self.observed(seen), states[0], starts)[1]
        return [actor, *(critic.scan(seen, before, starts)[1] for critic, before in critics)]

    @torch.no_grad()
    def target_q(self, seen: dict[str, Tensor], states: Sequence[Tensor], starts: Tensor, actions: Tensor) -> Tensor:
        """The smaller of both targets' Q `(batch, rows)` of actions in [-1, 1] in the last `rows` of what was seen.

        The targets begin with the states of the critics that they follow.
        """
        rows = actions.shape[1]
        found = [
            target.q(target.scan(seen, before, starts)[0][:, -rows:], actions)
            for target, before in zip(cast(Sequence[SequenceCritic], self.targets), states[1:], strict=True)
        ]
        return torch.minimum(*found)

    def density(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Random actions `(…, dims)` in [-1, 1], through which gradients flow, and their log-densities there.

        Densities are those of actions in [-1, 1], so that entropies do not depend on the units of the environment.
        """
        actions, log_prob = self.head.rsample_with_log_prob(self.net.action_net(features))
        return self.unit(actions), log_prob + self.head.half_range.log().sum()

    def update_statistics(self, seen: dict[str, Tensor]) -> None:
        """Scales of what is seen follow fresh data `(n, …)`, between updates only."""
        for network in self.networks:
            network.encoder.update_statistics(seen)
        for target, source in zip(self.targets.buffers(), self.critics.buffers(), strict=True):
            target.copy_(source)

    @torch.no_grad()
    def follow(self, tau: float) -> None:
        """Targets move the fraction `tau` of the way to the critics (Polyak averaging)."""
        torch._foreach_lerp_(list(self.targets.parameters()), list(self.critics.parameters()), tau)
