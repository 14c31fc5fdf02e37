"""An instruction to its parts, in the order in which they are to be done.

English says an order with words between ("then", "once you are there") and with a few conjunctions that can turn it
round ("after you …, …", "…, but first …"). Behind "before you …" may stand what must not happen ("stop before you reach
the wall"), so that is cut only where both sides are things to do with something. What a part means is left to whoever
reads it.
"""

from __future__ import annotations

import re

# "when that's finished", "once you are there", "after you have done that", "having done so", "when done"; not "when you
# are done with the ball"
_DONE = r"(?:there|done|finished|arrived|complete|completed)(?:\s+(?:with\s+)?(?:that|it|so|both))?"
_WHEN_DONE = (
    r"(?:(?:(?:once|when|as\s+soon\s+as|after)\s+(?:you|that|this|it)"
    r"(?:'ve|'re|'s|\s+(?:have|are|is|has|get))?(?:\s+(?:all|been|got))*\s+|(?:once|when)\s+)"
    rf"{_DONE}|(?:with\s+)?that\s+done|(?:having\s+done|after\s+doing)\s+(?:that|this|it|so)|"
    r"(?:up)?on\s+completion)(?!\s+(?:with|at|on|in|of)\b)"
)
_NEXT = (
    r"(?:only\s+)?then|(?:(?:right|straight|immediately|directly|shortly|soon)\s+)?"
    r"(?:after\s+that|after\s+this(?=\s*,)|(?<=and\s)after\s+it|afterwards?)|following\s+(?:that|this)(?=\s*,)|"
    r"thereafter|thereupon|subsequently|followed\s+by(?:\s+this(?=\s*:))?|finally|lastly|last\s+of\s+all|from\s+there(?=\s*,)|"
    r"(?:as\s+)?(?:the|your)\s+next\s+(?:step|task|job)(?:\s+is\s+to\b|(?=\s*[,:]))|"
    r"next(?:\s+up(?=\s*,)|\s+(?:step|task|job)(?=\s*[,:]))|(?<!\bthe\s)(?<!\ba\s)(?<!\byour\s)next(?!\s+to\b)|"
    rf"(?<=\band\s)(?:now|from\s+there)|(?<=[;.]\s)(?:now|later)(?=\s*,)|(?<=\band\s)later(?:\s+on)?(?!\s+than\b)|"
    rf"{_WHEN_DONE}"
)
_STEP = r"(?:^|(?<=[,;.]\s))step\s+(?:one|two|three|four|five|\d+)\s*[,:]\s*"
_ARROW = r"\s(?:-+>|=+>|\N{RIGHTWARDS ARROW})\s"
_CONNECTIVE = re.compile(rf"(?:(?:\band|&)\s+)?\b(?:{_NEXT})\b[\s,:]*|;|\.\s+|{_ARROW}|{_STEP}", re.IGNORECASE)
# "Go to the ball and face the box", where both sides say what; not "find the ball and go up to it", "the ball and the
# box", "the ball that is red and near the wall", "be a dear and face the box".
_THE = r"(?:the|an?|that|this|our|your|my)"
_NO_VERB = (
    rf"(?:{_THE}|both|it|its|not|no|is|are|has|which|who|where|you|in|on|at|to|of|by|with|from|under|near|next|beside|"
    r"behind|between|left|right|red|green|blue|yellow|purple|gr[ea]y|white|black|orange)"
)
_WHAT = rf"\b{_THE}\s+\w"
_AND = re.compile(rf"(?!(?:be|do)\b)(.*?{_WHAT}.*?),?\s+(?:and|&)\s+((?!{_NO_VERB}\b)\w.*?{_WHAT}.*)", re.IGNORECASE)
_AHEAD = re.compile(r"(?:right|alright|all\s+right|okay|ok|well|now|so)\s+then\b[\s,:]*", re.IGNORECASE)
_NOTHING = re.compile(r"(?:(?:right|alright|okay|ok|well|now|so|hey|hi|hello|robot|please)\b[\s,]*)+", re.IGNORECASE)
_FILLER = re.compile(r"(?:and|okay|ok|(?:all\s+)?done|well|so|now)\b[\s,]*", re.IGNORECASE)
_FIRST = re.compile(
    r"(?:(?:two|three|four|several)\s+things\s*[:,]|first(?:ly|\s+of\s+all)?\s*,?|to\s+(?:begin|start)\s+with,|"
    r"start\s+off\s*[:,])\s+(?=\S)",
    re.IGNORECASE,
)
# Before a leading "after you" may stand what makes a request of it: "so, er, could you please", "sorry to bother you,
# but I need you to".
_NO_OBJECT = r"(?:(?!\b(?:the|this|our|my)\s)[^:;]){0,60}?"
_ASKING = (
    r"(?:(?:(?:so|now|please|could|can|would|will|you|maybe|i|we|want|need|like|to|i'd|um|er|ok|okay|alright|right|well|hey|"
    r"hi|hello|there|robot|buddy|just|let's|see|if|that|be|kind|as|and)[\s,]+)*?|"
    rf"{_NO_OBJECT}\b(?:could|can|would|will|want|need|like|sorry|please|let's|be)\b{_NO_OBJECT}"
    r"\b(?:you|to|and|please|that|can)[\s,]+)"
)
# "Once you go to the ball, face the box"; not "once you are ready, go" or "as soon as you see the ball, stop".
_ONCE = rf"(?:once|as\s+soon\s+as)\s+you\s+(?!(?:are|have|can|see|hear|feel|notice|'re|'ve)\b)(?=[^,]*{_WHAT})"
_LEADING = re.compile(rf"{_ASKING}(?:after\s+you\s+|{_ONCE})([^,]+),\s*(.+)", re.IGNORECASE)
_BETWEEN = re.compile(r"(.+?),?\s+(?:after\s+you|but\s+first(?:\s+of\s+all)?)\s+(.+)", re.IGNORECASE)
_BUT_FIRST = re.compile(r"(.+?),?\s+but\s+(.+?),?\s+first", re.IGNORECASE)
# What can be done to the end, and what is done with something on purpose: "before you go to the box", "before you spin
# round to the box"; not "before you get to the box", "before you hit the box", "before you drive into the box".
_DONE_FIRST = re.compile(
    rf"(?!.*\b(?:not|don't|never|avoid|stop|halt|wait|hold|stay|slow|brake|pause|freeze|back|keep)\b).*{_WHAT}.*",
    re.IGNORECASE,
)
_ON_PURPOSE = re.compile(
    r"(?!.*\b(?:too|into|against|off|through|close|closer)\b)(?!(?:get|come|arrive|reach|bump|run)\b)"
    r"(?:(?:go|drive|move|head|face|turn|look|point|visit|find|pick|put|place|bring|take|open|close|push|pull|press)\b"
    rf"|.*\b(?:to|at|towards?|by|beside|near)\s+{_THE}\b).*",
    re.IGNORECASE,
)
_BEFORE_YOU = re.compile(r"(.+?),?\s+before\s+you\s+(.+)", re.IGNORECASE)
_BEFORE_YOU_FIRST = re.compile(rf"{_ASKING}before\s+you\s+([^,]+),\s*(.+)", re.IGNORECASE)
_AROUND = " .,;:!?-&\N{EN DASH}\N{EM DASH}"  # what stands around a part
# "Go to the ball, turn to the box and face the cone".
_LISTED = re.compile(rf"(.*?{_WHAT}.*?),\s+((?!{_NO_VERB}\b)\w.*?{_WHAT}.*)", re.IGNORECASE)
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
    clauses = [clause for clause in (c.strip(_AROUND) for c in _CONNECTIVE.split(plain)) if clause]
    while len(clauses) > 1 and _NOTHING.fullmatch(clauses[0]):
        clauses = clauses[1:]
    clauses = clauses[:1] + [clause for clause in clauses[1:] if not _FILLER.fullmatch(clause)]
    return [part for clause in clauses for part in _in_order(clause)]


def _in_order(clause: str) -> list[str]:
    """A clause, or the two of one that is turned round."""
    if ahead := _before_you(clause):
        return ahead
    if match := _LEADING.fullmatch(clause):
        inner, outer = match.groups()
    elif match := _BETWEEN.fullmatch(clause) or _BUT_FIRST.fullmatch(clause):
        outer, inner = match.groups()
    else:
        return [_without_first(part) for part in _at_and(clause)]
    if _BEHIND.search(inner) or _BEHIND.search(outer):
        return [clause]  # more than two, one within the other
    return [_without_first(inner), _without_first(outer)]


def _before_you(clause: str) -> list[str]:
    """What is to be done before something else, and that; nothing where it is not sure that it is."""
    if match := _BEFORE_YOU_FIRST.fullmatch(clause):
        later, first = match.groups()
    elif match := _BEFORE_YOU.fullmatch(clause):
        first, later = match.groups()
    else:
        return []
    nested = re.search(r"\b(?:before|after)\s+you\b|\bbut\s+first\b", f"{first} {later}", re.IGNORECASE)
    if nested or not _DONE_FIRST.fullmatch(first) or not _ON_PURPOSE.fullmatch(later):
        return []
    return [_without_first(first), _without_first(later)]


def _at_and(clause: str) -> list[str]:
    """A clause, or those of which each says what to do with what."""
    match = _AND.fullmatch(clause)
    return [*_listed(match[1]), *_at_and(match[2])] if match else [clause]


def _listed(clause: str) -> list[str]:
    """What commas divide before an "and"."""
    match = _LISTED.fullmatch(clause)
    return [match[1], *_listed(match[2])] if match else [clause]


def _without_first(part: str) -> str:
    """ "First" in front says nothing where parts come in order."""
    match = _FIRST.match(part)
    return (part[match.end() :] if match else part).strip(" ,:")
