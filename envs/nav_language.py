"""The instructions of the navigation robot: one grammar table that both speaks and reads.

    instruction = [prefix] part {connective part}           at most MAX_PARTS parts
    part        = verb [determiner] color shape | "stop"    a later part without a verb repeats the last one

Every word on the right-hand side comes from the tables below, and each meaning has several wordings
there. `generate` samples them, `parse` accepts them all in any mixture, and the first wording of each
row is the canonical one, which `describe` uses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

COLORS = ("red", "green", "blue", "yellow")
SHAPES = ("ball", "box", "cone")
VERBS = ("go", "face", "stop")
MAX_PARTS = 3

# meaning -> its wordings, canonical one first
VERB_WORDINGS: dict[str, tuple[str, ...]] = {
    "go": ("go to", "drive to", "move to", "head to", "find"),
    "face": ("face", "turn to", "look at", "point at"),
    "stop": ("stop", "halt", "stand still", "stay where you are"),
}
COLOR_WORDINGS: dict[str, tuple[str, ...]] = {color: (color,) for color in COLORS}
SHAPE_WORDINGS: dict[str, tuple[str, ...]] = {
    "ball": ("ball", "sphere"),
    "box": ("box", "cube", "block"),
    "cone": ("cone",),
}
DETERMINERS = ("the", "a")
CONNECTIVES = ("then", "and then", "and after that", "after that")
PREFIXES = ("", "please", "now", "robot")


@dataclass(frozen=True)
class Goal:
    """One thing to do: `go` to or `face` an object, or `stop` (which names none: color and shape are '')."""

    verb: str
    color: str = ""
    shape: str = ""

    def __post_init__(self) -> None:
        if self.verb not in VERBS:
            raise ValueError(f"verb {self.verb!r} is not one of {', '.join(VERBS)}")
        if self.verb == "stop":
            if self.color or self.shape:
                raise ValueError(f"'stop' takes no object, got {self.color!r} {self.shape!r}")
        elif self.color not in COLORS or self.shape not in SHAPES:
            raise ValueError(
                f"object {self.color!r} {self.shape!r} is not a colour of {', '.join(COLORS)} "
                f"with a shape of {', '.join(SHAPES)}"
            )

    @property
    def label(self) -> int:
        """The object's class in the scan, colour * 3 + shape; -1 for `stop`."""
        return -1 if self.verb == "stop" else COLORS.index(self.color) * len(SHAPES) + SHAPES.index(self.shape)


@dataclass(frozen=True)
class Task:
    """The goals of one instruction, to be reached in this order."""

    goals: tuple[Goal, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.goals) <= MAX_PARTS:
            raise ValueError(f"a task has 1 to {MAX_PARTS} parts, got {len(self.goals)}")


def object_name(label: int) -> str:
    """'red ball' for the scan class 0, and so on."""
    return f"{COLORS[label // len(SHAPES)]} {SHAPES[label % len(SHAPES)]}"


def object_goal(verb: str, label: int) -> Goal:
    """The goal `verb` for the object of scan class `label`."""
    return Goal(verb, COLORS[label // len(SHAPES)], SHAPES[label % len(SHAPES)])


# ---------------------------------------------------------------------------------------------- speaking


def generate(rng: np.random.Generator, task: Task) -> str:
    """One wording of `task`, drawn uniformly from the table for every word."""
    prefix = _pick(rng, PREFIXES)
    words = [prefix] if prefix else []
    verb = ""
    for index, goal in enumerate(task.goals):
        if index:
            # the comma is for people; `parse` ignores it
            words[-1] += "," if rng.random() < 0.5 else ""
            words.append(_pick(rng, CONNECTIVES))
        repeats = goal.verb == verb and goal.verb != "stop"
        words += _part(rng, goal, with_verb=not (repeats and rng.random() < 0.5))
        verb = goal.verb
    return " ".join(words)


def describe(task: Task) -> str:
    """The canonical wording: 'go to the green cone, then the red box'."""
    parts: list[str] = []
    verb = ""
    for goal in task.goals:
        wording = VERB_WORDINGS[goal.verb][0]
        if goal.verb == "stop":
            parts.append(wording)
        else:
            parts.append(f"{'' if goal.verb == verb else wording + ' '}the {goal.color} {goal.shape}")
        verb = goal.verb
    return ", then ".join(parts)


def corpus() -> tuple[str, ...]:
    """Every word an instruction can contain, sorted."""
    wordings = [phrase for _, phrase, _ in _PHRASES]
    return tuple(sorted({word for phrase in wordings for word in phrase}))


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _part(rng: np.random.Generator, goal: Goal, with_verb: bool) -> list[str]:
    words = [_pick(rng, VERB_WORDINGS[goal.verb])] if with_verb else []
    if goal.verb != "stop":
        # "a" is rarer than "the" in speech, and here
        words.append("a" if rng.random() < 0.1 else "the")
        words.append(_pick(rng, COLOR_WORDINGS[goal.color]))
        words.append(_pick(rng, SHAPE_WORDINGS[goal.shape]))
    return words


# ----------------------------------------------------------------------------------------------- reading

_Phrase: TypeAlias = tuple[str, tuple[str, ...], str]  # kind, words, meaning


def _phrases() -> tuple[_Phrase, ...]:
    rows: list[tuple[str, str, str]] = []
    for kind, table in (("verb", VERB_WORDINGS), ("color", COLOR_WORDINGS), ("shape", SHAPE_WORDINGS)):
        rows += [(kind, wording, meaning) for meaning, wordings in table.items() for wording in wordings]
    for kind, options in (("determiner", DETERMINERS), ("connective", CONNECTIVES), ("prefix", PREFIXES)):
        rows += [(kind, wording, wording) for wording in options if wording]
    # longest first, so that "and then" is never read as an unknown "and"
    return tuple(sorted(((k, tuple(w.split()), m) for k, w, m in rows), key=lambda row: -len(row[1])))


_PHRASES = _phrases()
_KNOWN = {
    "verb": "a verb (" + ", ".join(w for words in VERB_WORDINGS.values() for w in words) + ")",
    "color": "a colour (" + ", ".join(w for words in COLOR_WORDINGS.values() for w in words) + ")",
    "shape": "a shape (" + ", ".join(w for words in SHAPE_WORDINGS.values() for w in words) + ")",
    "connective": "a connective (" + ", ".join(CONNECTIVES) + ")",
    "end": "the end",
}


def parse(text: str) -> Task:
    """The task that `text` asks for, whatever its case and punctuation.

    Raises:
        ValueError: one line that names the first word that does not fit and what could stand there.
    """
    words = re.findall(r"[^\W_]+", text.lower())
    reader = _Reader(text, words)
    while reader.accept("prefix"):
        pass
    goals = [reader.part(None)]
    while not reader.at_end:
        if len(goals) == MAX_PARTS:
            raise reader.error("end")
        reader.expect("connective")
        goals.append(reader.part(goals[-1]))
    return Task(tuple(goals))


class _Reader:
    """A cursor over the words; `accept` moves past a phrase of one kind and returns its meaning."""

    def __init__(self, text: str, words: list[str]) -> None:
        self._text = text
        self._words = words
        self._at = 0

    @property
    def at_end(self) -> bool:
        return self._at == len(self._words)

    def accept(self, kind: str) -> str | None:
        for phrase_kind, phrase, meaning in _PHRASES:
            if phrase_kind == kind and tuple(self._words[self._at : self._at + len(phrase)]) == phrase:
                self._at += len(phrase)
                return meaning
        return None

    def expect(self, kind: str) -> str:
        meaning = self.accept(kind)
        if meaning is None:
            raise self.error(kind)
        return meaning

    def part(self, previous: Goal | None) -> Goal:
        verb = self.accept("verb")
        if verb is None:
            # "..., then the red box" repeats the verb, if there is one that takes an object
            if previous is None or previous.verb == "stop" or not self._object_follows():
                raise self.error("verb")
            verb = previous.verb
        if verb == "stop":
            return Goal("stop")
        self.accept("determiner")
        color = self.expect("color")
        return Goal(verb, color, self.expect("shape"))

    def error(self, *kinds: str) -> ValueError:
        if not self._words:
            return ValueError(f"instruction {self._text!r} has no words; say for example 'go to the red ball'")
        found = "nothing" if self.at_end else repr(self._words[self._at])
        expected = " or ".join(_KNOWN[kind] for kind in kinds)
        return ValueError(f"instruction {self._text!r}: found {found} where {expected} should stand")

    def _object_follows(self) -> bool:
        at = self._at
        follows = self.accept("determiner") is not None or self.accept("color") is not None
        self._at = at
        return follows
