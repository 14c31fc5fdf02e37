"""Whether a policy can be expected to know what an instruction means, and what it does not understand of it."""

from __future__ import annotations

from mcsd_agent.language import Vocabulary, split_words
from mcsd_agent.runtime.sentences import Sentences

#: No instruction is longer, whatever reads it.
MAX_CHARACTERS = 2000


class Understanding:
    """Judges instructions by what the policy was trained on.

    Not understood are, word by word: more unknown words than a share of `max_unknown_share`, and more words than the
    policy reads; by a sentence encoder: a part farther than `max_distance` from those of training (None: than the
    artifact says), and more parts than the policy reads. Nor are texts without words, and very long ones.

    >>> known = Vocabulary.from_texts(["go to the red ball"])
    >>> Understanding(known).objection("go to the purple ball")
    "the policy does not know 'purple'"
    """

    def __init__(
        self, encoder: Vocabulary | Sentences, max_unknown_share: float = 0.0, max_distance: float | None = None
    ) -> None:
        self._encoder, self._share = encoder, max_unknown_share
        self._distance = max_distance
        self._text = self._objection = ""

    def hear(self, text: str) -> str:
        """The objection to what is being said; in silence, "", that to what was said last."""
        if text and text != self._text:
            self._text, self._objection = text, self.objection(text)
        return self._objection

    def forget(self) -> None:
        """As if nothing had been said."""
        self._text = self._objection = ""

    def objection(self, text: str) -> str:
        """What is not understood, in one line; "" where all is, and where nothing is said."""
        if not text:
            return ""
        if len(text) > MAX_CHARACTERS:
            return f"it has {len(text)} characters; at most {MAX_CHARACTERS} are read"
        if isinstance(self._encoder, Vocabulary):
            return self._unknown_words(text, self._encoder)
        return self._strange_parts(text, self._encoder)

    def _unknown_words(self, text: str, vocabulary: Vocabulary) -> str:
        words = split_words(text)
        if not any(word != "," for word in words):
            return f"{text[:40]!a} has no words"
        if len(words) > vocabulary.max_words:
            return f"it has {len(words)} words; the policy reads {vocabulary.max_words}"
        unknown = vocabulary.unknown_words(text)
        count = sum(word in unknown for word in words)
        if count <= self._share * len(words):
            return ""
        named = ", ".join(repr(word[:40]) for word in unknown[:5])
        return f"the policy does not know {named}{', …' if len(unknown) > 5 else ''}"

    def _strange_parts(self, text: str, sentences: Sentences) -> str:
        parts = sentences.parts(text)
        if not any(split_words(part) for part in parts):
            return f"{text[:40]!a} has no words"
        if len(parts) > sentences.max_clauses:
            return f"it has {len(parts)} parts; the policy reads {sentences.max_clauses}"
        if (count := sentences.tokens(text)) > sentences.max_tokens:
            return f"it has {count} word pieces; the policy reads {sentences.max_tokens}"
        limit = sentences.max_distance if self._distance is None else self._distance
        distance, part = max((sentences.distance(part), part) for part in parts)
        if distance <= limit:
            return ""
        return f"{part[:40]!r} is unlike what the policy was trained on (distance {distance:.2f}, at most {limit:.2f})"
