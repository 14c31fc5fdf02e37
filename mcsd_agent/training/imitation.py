"""Behaviour cloning on whole episodes, with DAgger: the learner drives, the expert says what it would have done.

Episodes of similar length form a batch of about `tokens_per_batch` ticks, padded at the end; the
loss leaves the padding out. What is exported is an exponential moving average of the weights.
DAgger: Ross, Gordon, Bagnell, arXiv 1011.0686.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor

from mcsd_agent.errors import UserError
from mcsd_agent.policy import Policy
from mcsd_agent.training.episodes import Collate, Episode


@dataclass(frozen=True)
class ImitationConfig:
    """The optimisation. It ends after `updates` or `cpu_seconds` of this process, whichever comes first.

    The learning rate warms up, then falls linearly to `final_learning_rate` of its peak, by whichever of the
    two limits is nearer. DAgger rounds are spread evenly over the first `dagger_until` of the run.
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
    dagger_rounds: int = 5
    dagger_episodes: int = 300
    dagger_until: float = 0.75

    def __post_init__(self) -> None:
        for name in ("updates", "tokens_per_batch", "learning_rate", "max_grad_norm"):
            if getattr(self, name) <= 0:
                raise UserError(f"imitation.{name}={getattr(self, name)} must be positive")
        if self.cpu_seconds is not None and self.cpu_seconds <= 0:
            raise UserError(f"imitation.cpu_seconds={self.cpu_seconds} must be positive, or null for no limit")
        if not 0.0 <= self.ema < 1.0:
            raise UserError(f"imitation.ema={self.ema} must be in [0, 1)")
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


#: Runs the learner under the expert's eyes: `(policy, round) -> labelled episodes`.
DaggerRollout = Callable[[Policy, int], list[Episode]]


def train_by_imitation(
    policy: Policy,
    episodes: Sequence[Episode],
    config: ImitationConfig,
    *,
    seed: int = 0,
    dagger: DaggerRollout | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    report_every: int = 50,
) -> Policy:
    """Fit `policy` in place to the labels of `episodes`; returns the averaged policy, to be used and exported.

    CPU-seconds count this process, DAgger roll-outs in it included, and not what is compiled once per machine.
    """
    if not episodes:
        raise UserError("there are no demonstrations to imitate; record some first")
    rng = np.random.default_rng(seed)
    data = _Batches(policy, config.tokens_per_batch, rng)
    data.add(episodes)
    fit_statistics(policy, episodes)
    average = copy.deepcopy(policy).eval()
    optimisers = make_optimisers(policy, config)
    rounds = config.dagger_rounds if dagger is not None else 0
    pending = [config.dagger_until * (i + 1) / rounds for i in range(rounds)][::-1]
    compile_kernels(policy)
    start, losses, dagger_success = time.process_time(), [], None
    training_seconds, update, fraction = 0.0, 0, 0.0
    while fraction < 1.0:
        began = time.process_time()
        observations, labels, mask = next(data)
        features, _ = policy.scan(observations, policy.initial_state(len(mask)))
        per_tick = policy.head.imitation_loss(policy.action_net(features), labels)
        loss = (per_tick * mask).sum() / mask.sum()
        if not torch.isfinite(loss):
            raise UserError(f"the imitation loss became {loss.item()} at update {update}; lower learning_rate")
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
        losses.append(loss.item())
        training_seconds += time.process_time() - began

        fraction = update / config.updates
        if config.cpu_seconds is not None:
            fraction = max(fraction, (time.process_time() - start) / config.cpu_seconds)
        if pending and fraction >= pending[-1] and dagger is not None:
            pending.pop()
            fresh = dagger(average, rounds - len(pending) - 1)
            data.add(fresh)
            dagger_success = float(np.mean([bool(e.success) for e in fresh]))
        if update % report_every == 0 or fraction >= 1.0:
            on_progress(
                Progress(
                    update,
                    min(1.0, fraction),
                    float(np.mean(losses[-report_every:])),
                    len(data.episodes),
                    time.process_time() - start,
                    update / training_seconds,
                    dagger_success,
                )
            )
            dagger_success = None
    policy.load_state_dict(average.state_dict())
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
    policy.encoder.update_statistics(
        {k: torch.from_numpy(np.concatenate([e.observations[k] for e in episodes])) for k in names}
    )


class _Batches(Iterator[tuple[dict[str, Tensor], Tensor, Tensor]]):
    """Endless batches `(observations, labels, mask)` of whole episodes, in random order, similar lengths together."""

    _BLOCK = 512  # episodes sorted by length at a time: little padding, yet different neighbours every epoch

    def __init__(self, policy: Policy, tokens: int, rng: np.random.Generator) -> None:
        self.specs, self.tokens, self.rng = policy.observation_specs, tokens, rng
        self.collate = Collate(policy.observation_specs, policy.vocabulary)
        self.episodes: list[tuple[dict[str, np.ndarray], np.ndarray]] = []  # observations, labels
        self.queue: list[list[int]] = []

    def add(self, episodes: Sequence[Episode]) -> None:
        """Episodes join from the next epoch on; that epoch starts at once."""
        for episode in episodes:
            if episode.labels is None:
                raise UserError(f"the episode of seed {episode.seed} has no expert labels; record it with an expert")
            arrays = {k: self._array(k, episode.observations[k]) for k in self.specs}
            self.episodes.append((arrays, np.asarray(episode.labels)))
        self.queue = []

    def _array(self, name: str, values: np.ndarray | list[str]) -> np.ndarray:
        return self.collate.stack(name, values).astype(np.int16) if isinstance(values, list) else values

    def _plan(self) -> None:
        order = self.rng.permutation(len(self.episodes))
        lengths = np.array([len(self.episodes[i][1]) for i in order])
        for begin in range(0, len(order), self._BLOCK):
            block = order[begin : begin + self._BLOCK]
            block = block[np.argsort(lengths[begin : begin + self._BLOCK], kind="stable")]
            batch: list[int] = []
            for i in block:  # ascending length, so the newest episode is the longest of its batch
                if batch and (len(batch) + 1) * len(self.episodes[i][1]) > self.tokens:
                    self.queue.append(batch)
                    batch = []
                batch.append(int(i))
            self.queue.append(batch)
        self.rng.shuffle(self.queue)

    def __next__(self) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        if not self.queue:
            self._plan()
        chosen = [self.episodes[i] for i in self.queue.pop()]
        longest = max(len(labels) for _, labels in chosen)
        mask = torch.zeros(len(chosen), longest)
        for row, (_, labels) in enumerate(chosen):
            mask[row, : len(labels)] = 1.0
        observations = {k: self._pad([arrays[k] for arrays, _ in chosen], longest) for k in self.specs}
        return observations, self._pad([labels for _, labels in chosen], longest), mask

    @staticmethod
    def _pad(arrays: list[np.ndarray], longest: int) -> Tensor:
        first = arrays[0]
        # uint8 images stay as they are; other integers index tables, which wants int64.
        wide = np.int64 if first.dtype.kind in "iu" and first.ndim < 4 else first.dtype
        padded = np.zeros((len(arrays), longest, *first.shape[1:]), wide)
        for row, array in enumerate(arrays):
            padded[row, : len(array)] = array
        return torch.from_numpy(padded)
