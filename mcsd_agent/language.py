"""Instruction text to word ids, the same in training and on the robot (NumPy alone).

A `Vocabulary` is the list of words a policy was trained on. Id 0 is padding and id 1 any other
word; one with a wrong letter is read as the known word that it is nearest to. Ids are padded on the left, so that the
last word is always at the last position.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.spelling import put_right

PADDING, UNKNOWN = 0, 1
_FIRST_WORD_ID = 2
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?|,")


def split_words(text: str) -> list[str]:
    """Lower-case words of `text`; commas count as words (they separate parts), other marks do not."""
    return _WORD.findall(text.lower())


@dataclass(frozen=True)
class Vocabulary:
    """Known words and the length of an encoded instruction.

    >>> vocabulary = Vocabulary.from_texts(["go to the red ball"], max_words=6)
    >>> vocabulary.encode("Go to the blue ball!").tolist()
    [0, 3, 6, 5, 1, 2]
    """

    words: tuple[str, ...]
    max_words: int = 24
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.max_words < 1:
            raise UserError(f"max_words={self.max_words} must be at least 1")
        if len(set(self.words)) != len(self.words):
            raise UserError("vocabulary words must be distinct; export the artifact again")
        object.__setattr__(self, "_ids", {w: i + _FIRST_WORD_ID for i, w in enumerate(self.words)})

    @classmethod
    def from_texts(cls, texts: Iterable[str], max_words: int = 24) -> Vocabulary:
        """The vocabulary of all words in `texts`, in alphabetical order."""
        return cls(tuple(sorted({w for text in texts for w in split_words(text)})), max_words)

    @property
    def ids(self) -> dict[str, int]:
        """The id of each known word."""
        return dict(self._ids)

    @property
    def size(self) -> int:
        """Number of ids, padding and unknown included."""
        return len(self.words) + _FIRST_WORD_ID

    def encode(self, text: str) -> np.ndarray:
        """Ids of the first `max_words` words, int64 `(max_words,)`, padded on the left with 0."""
        ids = [self._id(w) for w in split_words(text)[: self.max_words]]
        encoded = np.zeros(self.max_words, np.int64)
        if ids:
            encoded[-len(ids) :] = ids
        return encoded

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """Words of `text` that the policy was not trained on, in order, each once."""
        return tuple(dict.fromkeys(w for w in split_words(text) if self._id(w) == UNKNOWN))

    def _id(self, word: str) -> int:
        known = self._ids.get(word)  # looked up first: environments encode at every step
        return self._ids.get(put_right(word, self.words), UNKNOWN) if known is None else known

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads back to an equal vocabulary."""
        return {"words": list(self.words), "max_words": self.max_words}

    @classmethod
    def from_json(cls, data: Any) -> Vocabulary:
        """Raises `UserError` for anything that `to_json` does not write."""
        if (
            not isinstance(data, dict)
            or set(data) != {"words", "max_words"}
            or not isinstance(data["max_words"], int)
            or isinstance(data["max_words"], bool)
            or not isinstance(data["words"], list)
            or not all(isinstance(w, str) for w in data["words"])
        ):
            raise UserError(
                "vocabulary must hold 'words' (a list of strings) and 'max_words'; export the artifact again"
            )
        return cls(tuple(data["words"]), data["max_words"])
