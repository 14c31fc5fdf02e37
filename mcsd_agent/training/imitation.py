"""Behaviour cloning on whole episodes, with DAgger: the learner drives, the expert says what it would have done.

Episodes of similar length form a batch of about `tokens_per_batch` ticks, padded at the end; the
loss leaves the padding out. A policy that predicts success learns it as the second part of the loss, also from
what is seen after the last action, where there is nothing to imitate. What is exported is an exponential moving
average of the weights.
DAgger: Ross, Gordon, Bagnell, arXiv 1011.0686.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor

from envs.grid_symmetries import SYMMETRIES
from mcsd_agent.errors import UserError, nearest
from mcsd_agent.heads import LabelLoss
from mcsd_agent.policy import Policy
from mcsd_agent.training.batches import Batches
from mcsd_agent.training.episodes import Episode
from mcsd_agent.training.success_labels import success_loss
from mcsd_agent.training.validation import Score, Validation


@dataclass(frozen=True)
class ImitationConfig:
    """The optimisation. It ends after `updates` or `cpu_seconds` of this process, whichever comes first.

    The learning rate warms up, then falls linearly to `final_learning_rate` of its peak, by whichever of the
    two limits is nearer. DAgger rounds are spread evenly over the first `dagger_until` of the run, each driven by
    `dagger_processes`, whose time `cpu_seconds` does not count where they are several. In them the expert does what it
    says at `dagger_expert_share` of the ticks.
    `mirror` says which numbers of vectors, and of `action`, change their sign where left and right are exchanged.
    `huber` is the error of a Gaussian's mean, in half ranges, beyond which it counts in proportion and not squared.
    `label_smoothing` is the share of a label that is spread over all choices, for discrete and binned actions.
    With `validate_every` the averaged policy is judged after so many updates, on `validate_episodes` seeds of their
    own; what is kept is the best of them, and `patience` of them without a better one end the run.
    `success_weight` is that of success prediction beside the actions, where the policy predicts it.
    """

    updates: int = 4000
    cpu_seconds: float | None = None
    learning_rate: float = 2e-3
    final_learning_rate: float = 0.03
    warmup_updates: int = 50
    weight_decay: float = 0.01
    tokens_per_batch: int = 3000
    max_grad_norm: float = 1.0
    ema: float = 0.99
    optimizer: Literal["adamw", "muon"] = "adamw"
    augment: tuple[str, ...] = ()
    mirror: dict[str, tuple[int, ...]] = field(default_factory=dict)
    dagger_rounds: int = 5
    dagger_episodes: int = 300
    dagger_until: float = 0.75
    dagger_expert_share: float = 0.0
    dagger_processes: int = 1
    label_smoothing: float = 0.0
    huber: float = 0.5
    validate_every: int = 0
    validate_episodes: int = 100
    patience: int = 0
    success_weight: float = 0.5

    def __post_init__(self) -> None:
        for name in ("updates", "tokens_per_batch", "learning_rate", "max_grad_norm", "success_weight", "huber"):
            if getattr(self, name) <= 0:
                raise UserError(f"imitation.{name}={getattr(self, name)} must be positive")
        if self.cpu_seconds is not None and self.cpu_seconds <= 0:
            raise UserError(f"imitation.cpu_seconds={self.cpu_seconds} must be positive, or null for no limit")
        if not 0.0 <= self.ema < 1.0:
            raise UserError(f"imitation.ema={self.ema} must be in [0, 1)")
        for name in self.augment:
            if name not in SYMMETRIES:
                raise UserError(f"imitation.augment: {name!r} is not valid{nearest(name, SYMMETRIES)}")
        if not 0.0 <= self.label_smoothing < 1.0:
            raise UserError(f"imitation.label_smoothing={self.label_smoothing} must be in [0, 1)")
        if self.validate_every < 0 or self.validate_episodes < 1 or self.patience < 0:
            raise UserError(
                f"imitation: validate_every={self.validate_every}, validate_episodes={self.validate_episodes}, "
                f"patience={self.patience} must be at least 0, at least 1 and at least 0"
            )
        if self.patience and not self.validate_every:
            raise UserError(f"imitation.patience={self.patience} counts validations; set imitation.validate_every")
        if not 0.0 <= self.dagger_expert_share < 1.0:
            raise UserError(f"imitation.dagger_expert_share={self.dagger_expert_share} must be in [0, 1)")
        if self.dagger_processes < 1:
            raise UserError(f"imitation.dagger_processes={self.dagger_processes} must be at least 1")
        if self.dagger_rounds < 0 or self.dagger_episodes < 1 or not 0.0 < self.dagger_until <= 1.0:
            raise UserError(
                f"imitation: dagger_rounds={self.dagger_rounds}, dagger_episodes={self.dagger_episodes}, "
                f"dagger_until={self.dagger_until} must be at least 0, at least 1 and in (0, 1]"
            )


@dataclass(frozen=True)
class Progress:
    """What is reported now and then during training."""

    update: int
    fraction: float
    loss: float
    episodes: int
    cpu_seconds: float
    updates_per_cpu_second: float
    dagger_success: float | None = None
    validation: float | None = None
    #: The part of `loss` that is about success, before its weight.
    success_loss: float | None = None


#: Runs the learner under the expert's eyes: `(policy, round) -> labelled episodes`.
DaggerRollout = Callable[[Policy, int], list[Episode]]


def train_by_imitation(
    policy: Policy,
    episodes: Sequence[Episode],
    config: ImitationConfig,
    *,
    seed: int = 0,
    dagger: DaggerRollout | None = None,
    score: Score | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    report_every: int = 50,
) -> Policy:
    """Fit `policy` in place to the labels of `episodes`; returns the averaged policy, to be used and exported.

    `score` judges it for `config.validate_every`.

    CPU-seconds count this process, DAgger roll-outs in it included, and not what is compiled once per machine.
    """
    if not episodes:
        raise UserError("there are no demonstrations to imitate; record some first")
    how = LabelLoss(config.label_smoothing, config.huber)
    rng = np.random.default_rng(seed)
    data = Batches(policy, config.tokens_per_batch, rng, config.augment, config.mirror)
    data.add(episodes)
    if policy.success_net is not None and not data.shows_success:
        raise UserError(
            "policy.predict_success=true, and no demonstration shows what is seen once its instruction is carried out; "
            "record them again, in an environment that says is_success"
        )
    fit_statistics(policy, episodes)
    average = policy.copied().eval()
    policy.encoder.blur_instructions(True)
    device = next(policy.parameters()).device
    optimisers = make_optimisers(policy, config)
    rounds = config.dagger_rounds if dagger is not None else 0
    pending = [config.dagger_until * (i + 1) / rounds for i in range(rounds)][::-1]
    compile_kernels(policy)
    losses: list[tuple[Tensor, ...]] = []
    validation = Validation(score, config.patience) if score is not None and config.validate_every else None
    start, dagger_success, validated = time.process_time(), None, None
    training_seconds, update, fraction = 0.0, 0, 0.0
    while fraction < 1.0:
        began = time.process_time()
        batch = data.next_on(device)
        features, _ = policy.scan(batch.observations, policy.initial_state(len(batch.mask)))
        per_tick = policy.head.imitation_loss(policy.action_net(features), batch.labels, how)
        loss = (per_tick * batch.mask).sum() / batch.mask.sum()
        parts: tuple[Tensor, ...] = ()
        if batch.success is not None:
            parts = (success_loss(policy.success_logits(features), batch.success),)
            loss = loss + config.success_weight * parts[0]
        peak = config.learning_rate * min(1.0, (update + 1) / max(1, config.warmup_updates))
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = peak * max(config.final_learning_rate, 1.0 - fraction)
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), config.max_grad_norm)
        for optimiser in optimisers:
            optimiser.step()
        update += 1
        decay = min(config.ema, update / (update + 10.0))  # the average forgets its random beginning
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(policy.parameters()), 1.0 - decay)
        losses.append((loss.detach(), *(part.detach() for part in parts)))
        training_seconds += time.process_time() - began

        fraction = update / config.updates
        if config.cpu_seconds is not None:
            fraction = max(fraction, (time.process_time() - start) / config.cpu_seconds)
        if pending and fraction >= pending[-1] and dagger is not None:
            pending.pop()
            fresh = dagger(average, rounds - len(pending) - 1)
            data.add(fresh)
            dagger_success = float(np.mean([bool(e.success) for e in fresh]))
        if validation is not None and (update % config.validate_every == 0 or fraction >= 1.0):
            validated = validation.try_out(average)
            if validation.should_end:
                fraction = 1.0
        if update % report_every == 0 or fraction >= 1.0:
            # Not sooner: reading a loss waits for the device.
            recent, *recent_parts = [float(torch.stack(part).mean()) for part in zip(*losses, strict=True)]
            losses.clear()
            if not np.isfinite(recent):
                raise UserError(f"the imitation loss became {recent} by update {update}; lower learning_rate")
            on_progress(
                Progress(
                    update,
                    min(1.0, fraction),
                    recent,
                    len(data.episodes),
                    time.process_time() - start,
                    update / training_seconds,
                    dagger_success,
                    validated,
                    *recent_parts,
                )
            )
            dagger_success, validated = None, None
    if validation is not None:
        validation.restore(average)
    policy.load_state_dict(average.state_dict())
    policy.encoder.blur_instructions(False)
    return average


def compile_kernels(policy: Policy) -> None:
    """Have the backbone's kernels compiled, which takes half a minute the first time and nothing after that."""
    for backbone in (policy.listener, policy.backbone):
        if backbone is not None:
            zeros = policy.initial_state().new_zeros
            xs, state = zeros(1, 2, policy.config.width), zeros(1, backbone.layers, backbone.state_size)
            backbone.scan(xs, state)[0].sum().backward()
            with torch.no_grad():
                backbone.step(xs[:, 0], state)
    policy.zero_grad(set_to_none=True)


def make_optimisers(policy: Policy, config: ImitationConfig) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon for the matrices of the backbone and AdamW for the rest."""
    matrices: list[torch.nn.Parameter] = []
    if config.optimizer == "muon":
        backbones = [cast(torch.nn.Module, b) for b in (policy.listener, policy.backbone) if b is not None]
        matrices = [
            p for b in backbones for p in b.parameters() if p.dim() == 2 and min(p.shape) > policy.config.channels
        ]
    chosen = {id(p) for p in matrices}
    rest = [p for p in policy.parameters() if id(p) not in chosen]
    decay = config.weight_decay
    optimisers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, config.learning_rate, weight_decay=decay, betas=(0.9, 0.98))
    ]
    if matrices:
        # Its update has the size of AdamW's, so that one learning rate serves both.
        optimisers.append(
            torch.optim.Muon(matrices, config.learning_rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
        )
    return optimisers


def fit_statistics(policy: Policy, episodes: Sequence[Episode]) -> None:
    """Running scales of vector observation entries, from all ticks of `episodes`."""
    names = [k for k in policy.observation_specs if not isinstance(episodes[0].observations[k], list)]
    device = next(policy.parameters()).device
    policy.encoder.update_statistics(
        {k: torch.from_numpy(np.concatenate([e.observations[k] for e in episodes])).to(device) for k in names}
    )
