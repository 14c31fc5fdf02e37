"""An instruction to its parts, in the order in which they are to be done.

English says an order with words between ("then", "once you are there") and with a few conjunctions that can turn it
round ("after you …, …", "…, but first …"). "Before you …" is left as it is: what stands behind may be what must not
happen ("stop before you reach the wall"). What a part means is left to whoever reads it.
"""

from __future__ import annotations

import re

# "when that's finished", "once you are there", "after you have done that"; not "when you are done with the ball"
_WHEN_DONE = (
    r"(?:once|when|as\s+soon\s+as|after)\s+(?:you|that|this|it)"
    r"(?:'ve|'re|'s|\s+(?:have|are|is|has|get))?(?:\s+(?:all|been|got))*"
    r"\s+(?:there|done|finished|arrived|complete|completed)(?:\s+(?:that|it|so|both))?(?!\s+(?:with|at|on|in)\b)"
)
_NEXT = (
    r"then|after\s+that|after\s+this(?=\s*,)|afterwards|thereafter|subsequently|followed\s+by|finally|lastly|"
    r"last\s+of\s+all|(?<!\bthe\s)(?<!\ba\s)next(?!\s+to\b)|(?<=\band\s)later(?:\s+on)?(?!\s+than\b)|"
    rf"{_WHEN_DONE}"
)
_STEP = r"(?:^|(?<=[,;.]\s))step\s+(?:one|two|three|four|five|\d+)\s*[,:]\s*"
_CONNECTIVE = re.compile(rf"\b(?:and\s+)?\b(?:{_NEXT})\b[\s,:]*|;|\.\s+|{_STEP}", re.IGNORECASE)
_AHEAD = re.compile(r"(?:right|alright|all\s+right|okay|ok|well|now|so)\s+then\b[\s,:]*", re.IGNORECASE)
_NOTHING = re.compile(r"(?:(?:right|alright|okay|ok|well|now|so|hey|hi|hello|robot|please)\b[\s,]*)+", re.IGNORECASE)
_FIRST = re.compile(r"(?:first(?:ly|\s+of\s+all)?\s*,?|to\s+begin\s+with,)\s+(?=\S)", re.IGNORECASE)
# Before a leading "after you" may stand what makes a request of it.
_ASKING = r"(?:(?:so|now|please|could|can|would|will|you|maybe|i|want|need|like|to|i'd|um|er)[\s,]+)*"
_LEADING = re.compile(rf"{_ASKING}after\s+you\s+([^,]+),\s*(.+)", re.IGNORECASE)
_BETWEEN = re.compile(r"(.+?),?\s+(?:after\s+you|but\s+first(?:\s+of\s+all)?)\s+(.+)", re.IGNORECASE)
_BEHIND = re.compile(r"\bafter\s+you\b", re.IGNORECASE)


def split_parts(text: str) -> list[str]:
    """The parts of an instruction, the one to be done first in front; none where nothing is said.

    >>> split_parts("Go to the red ball, then face the blue box.")
    ['Go to the red ball', 'face the blue box']
    >>> split_parts("face the blue box after you go to the red ball")
    ['go to the red ball', 'face the blue box']
    """
    printable = "".join(c if c.isprintable() else " " for c in text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    plain = re.sub(r"(?:, ?)+(?=,)", "", " ".join(printable.split()))
    if ahead := _AHEAD.match(plain):
        plain = plain[ahead.end() :] or plain
    clauses = [clause for clause in (c.strip(" .,;:!?") for c in _CONNECTIVE.split(plain)) if clause]
    while len(clauses) > 1 and _NOTHING.fullmatch(clauses[0]):
        clauses = clauses[1:]
    return [part for clause in clauses for part in _in_order(clause)]


def _in_order(clause: str) -> list[str]:
    """A clause, or the two of one that is turned round."""
    if match := _LEADING.fullmatch(clause):
        inner, outer = match.groups()
    elif match := _BETWEEN.fullmatch(clause):
        outer, inner = match.groups()
    else:
        return [_without_first(clause)]
    if _BEHIND.search(inner) or _BEHIND.search(outer):
        return [clause]  # more than two, one within the other
    return [_without_first(inner), _without_first(outer)]


def _without_first(part: str) -> str:
    """ "First" in front says nothing where parts come in order."""
    match = _FIRST.match(part)
    return (part[match.end() :] if match else part).strip(" ,:")
