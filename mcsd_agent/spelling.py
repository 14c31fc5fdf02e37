"""Words with one wrong letter, read as the word of training that they are nearest to."""

from __future__ import annotations

import functools

#: Shorter words are as likely to be other words, and where there are more words a new one is rarely a wrong letter.
SHORTEST, MOST_WORDS = 4, 500


@functools.lru_cache(4096)
def put_right(word: str, words: tuple[str, ...], shortest: int = SHORTEST, ranked: bool = False) -> str:
    """The only one of `words` that is one letter away from `word`, or `word` itself where none or several are.

    A `word` of less than `shortest` letters stays. Of several the first one is taken if the words are `ranked`.

    >>> put_right("gren", ("green", "ball")), put_right("blal", ("green", "ball")), put_right("rad", ("red",))
    ('green', 'ball', 'rad')
    """
    if len(word) < shortest or len(words) > MOST_WORDS or word in words:
        return word
    near = [w for w in words if len(w) >= SHORTEST and _is_one_letter_off(word, w)]
    return near[0] if len(near) == 1 or (near and ranked) else word


def _is_one_letter_off(a: str, b: str) -> bool:
    """Whether one letter is wrong, missing or too many, or two neighbours are exchanged."""
    if abs(len(a) - len(b)) > 1:
        return False
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    a, b = a[start:], b[start:]
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or (a[:2] == b[1::-1] and a[2:] == b[2:])
