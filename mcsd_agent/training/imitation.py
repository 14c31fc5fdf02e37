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

from envs.grid_symmetries import SYMMETRIES, GridSymmetries
from mcsd_agent.errors import UserError, nearest
from mcsd_agent.language import Vocabulary
from mcsd_agent.policy import Policy
from mcsd_agent.spaces import TextSpec
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
    augment: tuple[str, ...] = ()
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
        for name in self.augment:
            if name not in SYMMETRIES:
                raise UserError(f"imitation.augment: {name!r} is not valid{nearest(name, SYMMETRIES)}")
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
    data = _Batches(policy, config.tokens_per_batch, rng, config.augment)
    data.add(episodes)
    fit_statistics(policy, episodes)
    average = copy.deepcopy(policy).eval()
    for module in average.modules():
        if isinstance(module, torch.nn.RNNBase):
            module.flatten_parameters()  # a copy has its weights here and there, which CUDA would gather at every call
    device = next(policy.parameters()).device
    optimisers = make_optimisers(policy, config)
    rounds = config.dagger_rounds if dagger is not None else 0
    pending = [config.dagger_until * (i + 1) / rounds for i in range(rounds)][::-1]
    compile_kernels(policy)
    losses: list[Tensor] = []
    start, dagger_success = time.process_time(), None
    training_seconds, update, fraction = 0.0, 0, 0.0
    while fraction < 1.0:
        began = time.process_time()
        observations, labels, mask = data.next_on(device)
        features, _ = policy.scan(observations, policy.initial_state(len(mask)))
        per_tick = policy.head.imitation_loss(policy.action_net(features), labels)
        loss = (per_tick * mask).sum() / mask.sum()
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
        losses.append(loss.detach())
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
            recent = float(torch.stack(losses).mean())  # not sooner: reading a loss waits for the device
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
    device = next(policy.parameters()).device
    policy.encoder.update_statistics(
        {k: torch.from_numpy(np.concatenate([e.observations[k] for e in episodes])).to(device) for k in names}
    )


def _exchange(policy: Policy, augment: Sequence[str]) -> tuple[tuple[str, ...], GridSymmetries] | None:
    """The names of cells, direction and mission in the observation, and what exchanges them."""
    if not augment:
        return None
    names = (policy.config.encoder.grid, "direction", policy.encoder.text or "")
    if any(name not in policy.observation_specs for name in names) or not isinstance(policy.vocabulary, Vocabulary):
        raise UserError(
            f"imitation.augment={list(augment)} is for views of MiniGrid with direction and mission, read with "
            "policy.encoder.grid and instruction=words; leave it empty"
        )
    return names, GridSymmetries(augment, policy.vocabulary.ids)


class _Batches(Iterator[tuple[dict[str, Tensor], Tensor, Tensor]]):
    """Endless batches `(observations, labels, mask)` of whole episodes, in random order, similar lengths together."""

    _BLOCK = 512  # episodes sorted by length at a time: little padding, yet different neighbours every epoch

    def __init__(self, policy: Policy, tokens: int, rng: np.random.Generator, augment: Sequence[str] = ()) -> None:
        self.specs, self.tokens, self.rng = policy.observation_specs, tokens, rng
        self.collate = Collate(policy.observation_specs, policy.vocabulary)
        self.episodes: list[tuple[dict[str, np.ndarray], np.ndarray]] = []  # observations, labels
        # Every text once: a tick has the number of its text.
        self.numbers: dict[str, int] = {}
        self.texts: list[np.ndarray] = []
        self.queue: list[list[int]] = []
        self.exchange = _exchange(policy, augment)

    def add(self, episodes: Sequence[Episode]) -> None:
        """Episodes join from the next epoch on; that epoch starts at once."""
        for episode in episodes:
            if episode.labels is None:
                raise UserError(f"the episode of seed {episode.seed} has no expert labels; record it with an expert")
            arrays = {k: self._array(k, episode.observations[k]) for k in self.specs}
            self.episodes.append((arrays, np.asarray(episode.labels)))
        self.queue = []

    def _array(self, name: str, values: np.ndarray | list[str]) -> np.ndarray:
        if not isinstance(values, list):
            return values
        for text in dict.fromkeys(values):
            if text not in self.numbers:
                self.numbers[text] = len(self.texts)
                self.texts.append(self.collate.encode(text))
        return np.array([self.numbers[text] for text in values], np.int32)

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
        for name in (k for k, s in self.specs.items() if isinstance(s, TextSpec)):
            observations[name] = self._spoken(observations[name], mask)
        actions = self._pad([labels for _, labels in chosen], longest)
        if self.exchange is not None:
            names, exchange = self.exchange
            cells, directions, missions = (observations[k].numpy() for k in names)
            *seen, done = exchange(cells, directions, missions, actions.numpy(), self.rng)
            observations |= {k: torch.from_numpy(v) for k, v in zip(names, seen, strict=True)}
            actions = torch.from_numpy(done)
        return observations, actions, mask

    def next_on(self, device: torch.device) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """The next batch, moved to a device."""
        observations, labels, mask = next(self)
        return {k: v.to(device) for k, v in observations.items()}, labels.to(device), mask.to(device)

    def _spoken(self, numbers: Tensor, mask: Tensor) -> Tensor:
        """Numbers of texts `(episodes, time)` to what they encode to; nothing is said in the padding."""
        encoded = torch.from_numpy(np.stack([self.texts[i] for i in numbers.flatten().tolist()]))
        encoded[mask.flatten() == 0] = 0
        return encoded.unflatten(0, numbers.shape)

    @staticmethod
    def _pad(arrays: list[np.ndarray], longest: int) -> Tensor:
        first = arrays[0]
        # uint8 images stay as they are; other integers index tables, which wants int64.
        wide = np.int64 if first.dtype.kind in "iu" and first.ndim < 4 else first.dtype
        padded = np.zeros((len(arrays), longest, *first.shape[1:]), wide)
        for row, array in enumerate(arrays):
            padded[row, : len(array)] = array
        return torch.from_numpy(padded)
