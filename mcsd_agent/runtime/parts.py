"""An instruction to its parts, in the order in which they are to be done.

English says an order with words between ("then", "once you are there") and with conjunctions that can turn it round
("after you …, …", "before you …, …", "but first …"). Nothing else is understood here; what a part means is left to
whoever reads it.
"""

from __future__ import annotations

import re

# "when that's finished", "once you are there", "after you have done that"
_WHEN_DONE = (
    r"(?:once|when|as\s+soon\s+as|after)\s+(?:you|that|this|it|both)"
    r"(?:'ve|'re|'s|\s+(?:have|are|is|has))?(?:\s+(?:all|been|get|got|both|have|are|it|that))*"
    r"\s+(?:there|done|finished|arrived|complete|completed|over)(?:\s+(?:that|it|so|both|with\s+(?:that|it)))?"
)
_NEXT = (
    r"then|after\s+(?:that|this)|afterwards|thereafter|subsequently|later(?:\s+on)?|followed\s+by|finally|lastly|"
    rf"last\s+of\s+all|next(?!\s+to\b)|step\s+(?:one|two|three|four|\d)|{_WHEN_DONE}"
)
_CONNECTIVE = re.compile(rf"[\s,;.]*\b(?:and\s+)?(?:{_NEXT})\b[\s,:]*|\s*;\s*|\.\s+", re.IGNORECASE)
_OPENING = re.compile(r"(?:first(?:ly|\s+of\s+all)?|to\s+begin\s+with)[\s,:]+(?=\S)", re.IGNORECASE)
# What may stand before a leading conjunction, whose clause ends at its comma.
_FILLERS = (
    r"(?:(?:so|well|okay|ok|hey|hi|hello|right|now|just|robot|please|kindly|maybe|perhaps|could|can|would|will|must|should|"
    r"you|i|i'd|want|need|like|to|let's|um|uh|er)[\s,]+)*"
)
_NOTHING = re.compile(_FILLERS, re.IGNORECASE)
_LEADING = re.compile(rf"{_FILLERS}(after|before)\s+you\s+([^,]+),\s*(.+)", re.IGNORECASE)
_BETWEEN = re.compile(r"(.+?)[\s,]+(?:(after|before)\s+you|but\s+(first))\s+(.+)", re.IGNORECASE)


def split_parts(text: str) -> list[str]:
    """The parts of an instruction, the one to be done first in front; none where nothing is said.

    >>> split_parts("Go to the red ball, then face the blue box.")
    ['Go to the red ball', 'face the blue box']
    >>> split_parts("face the blue box after you go to the red ball")
    ['go to the red ball', 'face the blue box']
    """
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    plain = re.sub(r",[ ,]*", ", ", plain)
    clauses = [clause for clause in (c.strip(" .,;:!?") for c in _CONNECTIVE.split(plain)) if clause]
    parts = [part for clause in clauses for part in _in_order(clause)]
    return [part for part in parts if not _NOTHING.fullmatch(part + " ")] or parts  # "right then, go …" is one part


def _in_order(clause: str) -> list[str]:
    if match := _LEADING.fullmatch(clause):
        word, inner, outer = match.groups()
        turned = word.lower() == "before"
    elif match := _BETWEEN.fullmatch(clause):
        outer, word, _, inner = match.groups()
        turned = (word or "").lower() == "before"
    else:
        return [_opened(clause)]
    return [_opened(part) for part in ((outer, inner) if turned else (inner, outer))]


def _opened(part: str) -> str:
    """Without "first" in front, where more follows."""
    match = _OPENING.match(part)
    return (part[match.end() :] if match else part).strip(" ,:")
