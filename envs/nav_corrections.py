"""What is said about what was said before: "no, the blue one", and what is not meant: "the blue box, not the red ball".

    correction = "no" | "no I mean" | "not that one"   [determiner] [colour] [shape | "one"]
    negation   = part "not" object  |  "not" object part

A correction names what changes and leaves out what stays: the colour, the shape, or both when both change. It needs the
task that it corrects, so who hears it has to remember that.
"""

from __future__ import annotations

import re

import numpy as np

from envs import nav_varied
from envs.nav_language import COLORS, DETERMINERS, SHAPE_WORDINGS, Goal, Task, describe, parse

_STARTS = ("no", "no I mean", "not that one")
_VARIED_STARTS = (
    *_STARTS * 3,
    *("I meant", "no no", "wrong one, I mean", "change of plan", "that is wrong", "my mistake", "rather", "instead"),
)
#: For the evaluation, never in training.
_HELD_OUT_STARTS = ("sorry", "wait", "actually")
_VARIED_NEGATIONS = (
    *("{wanted} and not {other}", "{wanted}, never {other}", "do not go to {other}, {wanted}"),
    *("ignore {other} and {wanted}", "leave {other} alone, {wanted}", "forget {other}, {wanted}"),
    "I do not mean {other}, {wanted}",
)
#: Words beside those of `nav_language.corpus`.
WORDS = ("no", "not", "i", "mean", "that", "one")
VARIED_WORDS = tuple(
    sorted({*WORDS, *re.findall(r"[a-z]+(?![a-z]*})", " ".join((*_VARIED_STARTS, *_VARIED_NEGATIONS)).lower())})
)

_SHAPES = {wording: shape for shape, wordings in SHAPE_WORDINGS.items() for wording in wordings}
_OBJECT = rf"(?:(?:{'|'.join(DETERMINERS)})\s+)?(?:{'|'.join(COLORS)})\s+(?:{'|'.join(_SHAPES)})"
_NEGATION = re.compile(rf"(?:,\s*)?\bnot\s+{_OBJECT}\b,?", re.IGNORECASE)


def correct(rng: np.random.Generator, before: Goal, after: Goal, wording: str = "trained") -> str:
    """What changes from `before` to `after`, which is another object."""
    starts = {"trained": _STARTS, "varied": _VARIED_STARTS}.get(wording, _HELD_OUT_STARTS)
    color = after.color if after.color != before.color else ""
    shape = after.shape if after.shape != before.shape else "one"
    return f"{rng.choice(starts)}, the {color} {shape}".replace("  ", " ")


def negate(rng: np.random.Generator, goal: Goal, other: Goal, wording: str = "trained") -> str:
    """`goal`, and that `other` is not meant."""
    if wording == "varied" and rng.random() < 0.5:
        wanted, unwanted = nav_varied.part(rng, goal), nav_varied.name(rng, other)
        return str(rng.choice(_VARIED_NEGATIONS)).format(wanted=wanted, other=unwanted)
    wanted = describe(Task((goal,)))
    unwanted = f"not the {other.color} {other.shape}"
    return f"{wanted}, {unwanted}" if rng.random() < 0.5 else f"{unwanted}, {wanted}"


def understand(text: str, before: Task | None = None) -> Task:
    """The task that `text` asks for, where `before` is the one that it may correct.

    Raises:
        ValueError: as `nav_language.parse`, for what is neither in the grammar nor such a correction.
    """
    words = re.findall(r"[^\W_]+", text.lower())
    for start in sorted(_STARTS, key=len, reverse=True):
        length = len(start.split())
        if before is not None and words[:length] == start.lower().split():
            goal = _corrected(words[length:], before.goals[-1])
            if goal is not None:
                return Task((goal,))
    return parse(_NEGATION.sub(" ", text) if _NEGATION.search(text) else text)


def _corrected(words: list[str], before: Goal) -> Goal | None:
    """None where the words are no description of another object."""
    if before.verb == "stop":
        return None
    rest = words[1:] if words[:1] and words[0] in DETERMINERS else words
    color, shape = before.color, before.shape
    if rest and rest[0] in COLORS:
        color, rest = rest[0], rest[1:]
    if rest and rest[0] in _SHAPES:
        shape, rest = _SHAPES[rest[0]], rest[1:]
    elif rest[:1] == ["one"]:
        rest = rest[1:]
    return None if rest or (color, shape) == (before.color, before.shape) else Goal(before.verb, color, shape)
