"""Whatever turns an instruction into what a policy's step takes: word ids, or vectors of a sentence encoder."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from mcsd_agent.language import Vocabulary
from mcsd_agent.runtime.sentences import Sentences


class TextEncoder(Protocol):
    """What encodes text for a policy, in training and on the robot alike."""

    @property
    def size(self) -> int:
        """Known words, or numbers of a vector."""
        ...

    def encode(self, text: str) -> np.ndarray:
        """int64 word ids `(max_words,)` or float32 vectors `(max_tokens, size)`; all zeros where nothing is said."""
        ...

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """Words of `text` that mean nothing to the policy."""
        ...

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `text_encoder` reads back."""
        ...


def read_encoder(data: Any) -> Vocabulary | Sentences:
    """From the `vocabulary` of an artifact; `UserError` for anything else."""
    if isinstance(data, dict) and "encoder" in data:
        return Sentences.from_json(data)
    return Vocabulary.from_json(data)


def text_encoder(data: Any) -> Vocabulary | Sentences:
    """The same, ready to encode: `UserError` where its sentence encoder is missing here, or is another one."""
    encoder = read_encoder(data)
    if isinstance(encoder, Sentences):
        encoder.installed()
    return encoder
