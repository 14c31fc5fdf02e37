"""Whether an evaluation asks for what was shown: the same instruction and the same first view as a demonstration."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from mcsd_agent.training.episodes import Episode


class Beginnings:
    """How the demonstrations began; call it with an episode to hear whether one of them began so, too."""

    def __init__(self, demonstrations: Iterable[Episode]) -> None:
        self._known = {beginning(episode) for episode in demonstrations}

    def __call__(self, episode: Episode) -> bool:
        return beginning(episode) in self._known


def beginning(episode: Episode) -> bytes:
    """A digest of all that is observed at the first tick."""
    digest = hashlib.blake2b(digest_size=16)
    for name, values in sorted(episode.observations.items()):
        digest.update(name.encode() + b"\0")
        first = values[0]
        # integers are stored in whatever type holds an episode's
        whole = np.asarray(first).dtype.kind in "iu"
        told = isinstance(first, str)
        digest.update(first.encode() if told else np.asarray(first, "<i8" if whole else None).tobytes())
    return digest.digest()
