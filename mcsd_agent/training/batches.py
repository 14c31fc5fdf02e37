"""Whole episodes as batches to imitate: similar lengths together, padded at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from envs.grid_symmetries import GridSymmetries
from mcsd_agent.errors import UserError
from mcsd_agent.language import Vocabulary
from mcsd_agent.policy import Policy
from mcsd_agent.spaces import TextSpec
from mcsd_agent.training.episodes import Collate, Episode
from mcsd_agent.training.mirror import Mirror
from mcsd_agent.training.success_labels import UNKNOWN, success_labels


class Batch(NamedTuple):
    """Whole episodes: everything is `(episodes, time, …)`, padded with zeros."""

    observations: dict[str, Tensor]
    labels: Tensor
    #: 1 where there is an action to imitate.
    mask: Tensor
    #: 1, 0 or `UNKNOWN`: whether the instruction had been carried out; None where the policy does not predict it.
    success: Tensor | None


class _Stored(NamedTuple):
    """One episode, ready to be padded. There may be one observation more than actions."""

    observations: dict[str, np.ndarray]
    labels: np.ndarray
    actions: int
    success: np.ndarray | None


class Batches(Iterator[Batch]):
    """Endless batches of whole episodes, in random order, similar lengths together."""

    _BLOCK = 512  # episodes sorted by length at a time: little padding, yet different neighbours every epoch

    def __init__(
        self,
        policy: Policy,
        tokens: int,
        rng: np.random.Generator,
        augment: Sequence[str] = (),
        mirror: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        self.specs, self.tokens, self.rng = policy.observation_specs, tokens, rng
        self.collate = Collate(policy.observation_specs, policy.vocabulary)
        self.predicts_success = policy.success_net is not None
        self.shows_success = False
        self.episodes: list[_Stored] = []
        # Every text once: a tick has the number of its text.
        self.numbers: dict[str, int] = {}
        self.texts: list[np.ndarray] = []
        self.encoded = np.zeros((0,))  # the same as one array, which is indexed by ticks
        self.queue: list[list[int]] = []
        self.exchange = _exchange(policy, augment, mirror or {})

    def add(self, episodes: Sequence[Episode]) -> None:
        """Episodes join from the next epoch on; that epoch starts at once."""
        for episode in episodes:
            if episode.labels is None:
                raise UserError(f"the episode of seed {episode.seed} has no expert labels; record it with an expert")
            self.episodes.append(self._stored(episode, np.asarray(episode.labels)))
        self.queue = []

    def _stored(self, episode: Episode, labels: np.ndarray) -> _Stored:
        observations, actions = episode.observations, len(labels)
        if not self.predicts_success:
            return _Stored({k: self._array(k, observations[k]) for k in self.specs}, labels, actions, None)
        success, final = success_labels(episode), episode.final
        self.shows_success = self.shows_success or bool((success == 1.0).any())
        arrays = {k: self._array(k, observations[k], None if final is None else final[k]) for k in self.specs}
        if final is not None:
            labels = np.concatenate([labels, labels[-1:]])  # which the mask leaves out
        return _Stored(arrays, labels, actions, success)

    def _array(
        self, name: str, values: np.ndarray | list[str], last: np.ndarray | list[str] | None = None
    ) -> np.ndarray:
        if not isinstance(values, list):
            return values if last is None else np.concatenate([values, np.asarray(last)])
        values = [*values, *(() if last is None else last)]
        for text in dict.fromkeys(values):
            if text not in self.numbers:
                self.numbers[text] = len(self.texts)
                self.texts.append(self.collate.encode(text))
        return np.array([self.numbers[text] for text in values], np.int32)

    def _plan(self) -> None:
        order = self.rng.permutation(len(self.episodes))
        lengths = np.array([len(self.episodes[i].labels) for i in order])
        for begin in range(0, len(order), self._BLOCK):
            block = order[begin : begin + self._BLOCK]
            block = block[np.argsort(lengths[begin : begin + self._BLOCK], kind="stable")]
            batch: list[int] = []
            for i in block:  # ascending length, so the newest episode is the longest of its batch
                if batch and (len(batch) + 1) * len(self.episodes[i].labels) > self.tokens:
                    self.queue.append(batch)
                    batch = []
                batch.append(int(i))
            self.queue.append(batch)
        self.rng.shuffle(self.queue)

    def __next__(self) -> Batch:
        if not self.queue:
            self._plan()
        chosen = [self.episodes[i] for i in self.queue.pop()]
        longest = max(len(e.labels) for e in chosen)
        mask, seen = torch.zeros(len(chosen), longest), torch.zeros(len(chosen), longest)
        for row, episode in enumerate(chosen):
            mask[row, : episode.actions] = 1.0
            seen[row, : len(episode.labels)] = 1.0
        observations = {k: self._pad([e.observations[k] for e in chosen], longest) for k in self.specs}
        for name in (k for k, s in self.specs.items() if isinstance(s, TextSpec)):
            observations[name] = self._spoken(observations[name], seen)
        actions = self._pad([e.labels for e in chosen], longest)
        if self.exchange is not None:
            names, exchange = self.exchange
            *views, done = exchange(*(observations[k].numpy() for k in names), actions.numpy(), self.rng)
            observations |= {k: torch.from_numpy(v) for k, v in zip(names, views, strict=True)}
            actions = torch.from_numpy(done)
        success = None
        if self.predicts_success:
            success = self._pad([e.success for e in chosen if e.success is not None], longest)
            success[seen == 0] = UNKNOWN
        return Batch(observations, actions, mask, success)

    def next_on(self, device: torch.device) -> Batch:
        """The next batch, moved to a device."""
        observations, labels, mask, success = next(self)
        return Batch(
            {k: v.to(device) for k, v in observations.items()},
            labels.to(device),
            mask.to(device),
            None if success is None else success.to(device),
        )

    def _spoken(self, numbers: Tensor, seen: Tensor) -> Tensor:
        """Numbers of texts `(episodes, time)` to what they encode to; nothing is said in the padding."""
        if len(self.encoded) < len(self.texts):
            self.encoded = np.stack(self.texts)
        encoded = torch.from_numpy(self.encoded[numbers.flatten().numpy()])
        encoded[seen.flatten() == 0] = 0
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


def _exchange(
    policy: Policy, augment: Sequence[str], mirror: Mapping[str, Sequence[int]]
) -> tuple[tuple[str, ...], Callable[..., tuple[Any, ...]]] | None:
    """The names of what is exchanged in the observation (of cells, direction and mission), and what exchanges them."""
    if mirror and augment:
        raise UserError("imitation.augment is for views of cells and imitation.mirror for vectors; give one of them")
    if mirror:
        turned = Mirror(policy, mirror)
        return turned.names, turned
    if not augment:
        return None
    names = (policy.config.encoder.grid, "direction", policy.encoder.text or "")
    if any(name not in policy.observation_specs for name in names) or not isinstance(policy.vocabulary, Vocabulary):
        raise UserError(
            f"imitation.augment={list(augment)} is for views of MiniGrid with direction and mission, read with "
            "policy.encoder.grid and instruction=words; leave it empty"
        )
    return names, GridSymmetries(augment, policy.vocabulary.ids)
