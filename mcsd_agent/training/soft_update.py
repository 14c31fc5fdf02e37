"""One update of soft actor-critic from sequences of a replay, in parallel over time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mcsd_agent.training.sequence_replay import ReplaySequences
from mcsd_agent.training.soft_actor_critic import SequenceCritic, SoftActorCritic
from mcsd_agent.training.temperature import Temperature


@dataclass(frozen=True)
class SoftUpdate:
    """What an update is made with; see `SequenceSAC` for each."""

    burn_in: int
    n_steps: int
    gamma: float
    tau: float
    max_grad_norm: float | None

    def __call__(self, policy: SoftActorCritic, temperature: Temperature, batch: ReplaySequences) -> dict[str, float]:
        """One step of critics, actor and temperature, after which the targets follow; what the log says about it."""
        b, weight = self.burn_in, temperature.value
        everything, all_starts = policy.seen_in(batch), batch.episode_starts
        seen, starts = {k: v[:, b:] for k, v in everything.items()}, all_starts[:, b:]
        states = policy.burn_in({k: v[:, :b] for k, v in everything.items()}, batch.states, all_starts[:, :b])

        features, _ = policy.net.scan(policy.observed(seen), states[0], starts)
        actions, log_prob = policy.density(features)
        with torch.no_grad():
            following = policy.target_q(everything, batch.states, all_starts, actions) - weight * log_prob
            goal = n_step_targets(
                batch.rewards[:, b:-1],
                batch.terminated[:, b:-1],
                batch.final[:, b:-1],
                following,
                self.gamma,
                self.n_steps,
            )
        # The last row is there for its value alone, and in a final one nothing was done.
        share = (~batch.final[:, b:-1]).to(goal.dtype)
        share = share / share.sum().clamp(min=1.0)
        done = policy.unit(batch.actions[:, b:-1])
        first, second = (
            _Valued(critic, critic.scan(seen, before, starts)[0][:, :-1])
            for critic, before in zip(policy.online, states[1:], strict=True)
        )
        q = first(done)
        critic_loss = 0.5 * (((q - goal).square() + (second(done) - goal).square()) * share).sum()
        new, log_prob = actions[:, :-1], log_prob[:, :-1]
        q_new = torch.minimum(first.detached(new), second.detached(new))
        actor_loss = ((weight * log_prob - q_new) * share).sum()

        # Each loss moves its own networks only, and both gradients are of the weights before the step.
        for optimizer, loss in ((policy.critic_optimizer, critic_loss), (policy.optimizer, actor_loss)):
            weights = optimizer.param_groups[0]["params"]
            optimizer.zero_grad()
            loss.backward(inputs=weights)
            if self.max_grad_norm is not None:
                torch.nn.utils.clip_grad_norm_(weights, self.max_grad_norm)
        policy.critic_optimizer.step()
        policy.optimizer.step()
        entropy = -(log_prob.detach() * share).sum()
        temperature.follow(entropy)
        policy.follow(self.tau)
        log = torch.stack([actor_loss, critic_loss, entropy, (q * share).sum()]).tolist()
        names = ("actor_loss", "critic_loss", "entropy", "q_mean")
        return {**dict(zip(names, log, strict=True)), "ent_coef": weight}


@dataclass(frozen=True)
class _Valued:
    """A critic and its features of the rows to learn from."""

    critic: SequenceCritic
    features: Tensor

    def __call__(self, actions: Tensor) -> Tensor:
        return self.critic.q(self.features, actions)

    def detached(self, actions: Tensor) -> Tensor:
        """Gradients flow to the actions only: the critic does not know them when it reads what happened."""
        return self.critic.q(self.features.detach(), actions)


def n_step_targets(
    rewards: Tensor, terminated: Tensor, final: Tensor, values: Tensor, gamma: float, n_steps: int
) -> Tensor:
    """What Q is to be at rows 0 to T - 1 of `(batch, T)`, from soft values `(batch, T + 1)` of rows 0 to T.

        G_t = r_t + γ r_{t+1} + … + γ^k V_{t+k}

    with k = n_steps where the sequence goes on for so long, and else as far as it does: to its last row, or to the
    row where a time limit cut the episode. Nothing follows a termination.
    """
    discount = gamma * (~terminated).to(values.dtype)
    ahead = values
    for _ in range(n_steps):
        # G(k) of row t from G(k - 1) of row t + 1; nothing was done in a final row and in the last one, where the
        # value stands for the rest
        going_on = torch.where(final, values[:, :-1], rewards + discount * ahead[:, 1:])
        ahead = torch.cat([going_on, values[:, -1:]], 1)
    return ahead[:, :-1]
