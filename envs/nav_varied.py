"""Instructions in many wordings, for training: a policy that has heard much understands more that it has not heard.

`speak(rng, task)` draws a verb phrase, a noun, a way to name the object, a connective and a turn around all of it, from
the tables here and those of `nav_wordings`. None of the verbs, nouns, connectives and turns that `nav_phrasings` keeps
for the evaluation is among them.
"""

from __future__ import annotations

import re

import numpy as np

from envs import nav_wordings
from envs.nav_language import DETERMINERS, SHAPE_WORDINGS, VERB_WORDINGS, Goal, Task, generate

#: Behind these stands the object, but where it has a place of its own.
VERBS = {
    "go": (
        *VERB_WORDINGS["go"],
        *nav_wordings.GO,
        *("drive up to", "head for", "run to", "steer to", "go up to", "go near", "drive close to", "go next to"),
        *("seek out", "locate", "track down", "rush to", "hurry to", "pull up at", "park at", "park beside"),
        *("set off for", "bring yourself to", "take yourself to", "go and find", "drive straight to", "move close to"),
        *("your target is", "your destination is", "I need you at", "I want you beside", "you belong at"),
    ),
    "face": (
        *VERB_WORDINGS["face"],
        *nav_wordings.FACE,
        *("turn around to", "watch", "observe", "point your nose at", "keep your eyes on", "turn so that you see"),
        *("show your face to", "spin until you see", "look in the direction of", "pivot to", "stare at", "glance at"),
        *("turn your head to", "direct your camera at", "look straight at", "turn on the spot to face", "eyes on"),
    ),
    "stop": (
        *VERB_WORDINGS["stop"],
        *nav_wordings.STOP,
        *("do nothing", "stay put", "remain where you are", "stop moving", "brake", "stop right there", "stay there"),
        *("quit driving", "no more driving", "rest", "stay in place", "keep your position", "stop the wheels"),
    ),
}
NOUNS = {
    "ball": (
        *SHAPE_WORDINGS["ball"],
        *nav_wordings.BALL,
        *("beach ball", "bowling ball", "tennis ball", "rubber ball", "round ball", "round thing", "round object"),
    ),
    "box": (
        *SHAPE_WORDINGS["box"],
        *nav_wordings.BOX,
        *("package", "parcel", "container", "bin", "cardboard box", "wooden block", "square thing", "square object"),
    ),
    "cone": (
        *SHAPE_WORDINGS["cone"],
        *nav_wordings.CONE,
        *("pyramid", "funnel", "pointed thing", "pointy object", "party hat", "ice cream cone", "safety cone"),
    ),
}
OBJECTS = (
    *("{determiner} {color} {noun}",) * 18,
    *nav_wordings.OBJECTS,
    *("that {color} {noun}", "your {color} {noun}", "the {noun} that is {color}", "the {noun} in {color}"),
)
CONNECTIVES = (
    *(" then ", " and then ", " and after that ", " after that ", ". Then ", "; "),
    *(
        ", and once you are there ",
        ", when that is done ",
        ", and later ",
        ", and when you are done ",
        " subsequently ",
    ),
)
TURNS = (
    *("{}",) * 40,
    *nav_wordings.TURNS,
    *("please {}", "robot, {}", "now {}", "okay, {}", "{}, robot", "{}, please", "just {}", "well, {}", "first {}"),
    *("your job is to {}", "next task: {}", "the task is to {}", "{} at once", "listen, {}", "attention: {}"),
    *("try to {}", "go ahead and {}", "all you have to do is {}", "quickly {}", "{}!", "{}."),
)
_NO_IMPERATIVES = ("your ", "I ", "you ", "eyes ", "no ", "not ", "that's ", "all ", "full ", "whoa ")


def speak(rng: np.random.Generator, task: Task) -> str:
    """One of many wordings of `task`; half of the time one of the grammar's."""
    if rng.random() < 0.5:
        return generate(rng, task)
    text, verb = "", ""
    for goal in task.goals:
        text += _pick(rng, CONNECTIVES) if text else ""
        # "go to the red ball, then the blue box"
        repeats = goal.verb == verb and goal.verb != "stop" and rng.random() < 0.4
        text += name(rng, goal) if repeats else part(rng, goal)
        verb = goal.verb
    return text if text.startswith(_NO_IMPERATIVES) else _pick(rng, TURNS).format(text)


def words() -> tuple[str, ...]:
    """Every word and comma that `speak` uses beside colours, sorted."""
    tables = (*VERBS.values(), *NOUNS.values(), OBJECTS, CONNECTIVES, TURNS, DETERMINERS)
    texts = (re.sub(r"\{\w*\}", " ", text).lower() for table in tables for text in table)
    return tuple(sorted({word for text in texts for word in re.findall(r"[\w']+|,", text)}))


def part(rng: np.random.Generator, goal: Goal) -> str:
    """One part of an instruction."""
    verb = _pick(rng, VERBS[goal.verb])
    return verb if goal.verb == "stop" else f"{verb} {name(rng, goal)}"


def name(rng: np.random.Generator, goal: Goal) -> str:
    """The object of `goal`."""
    determiner = DETERMINERS[int(rng.random() < 0.1)]
    noun = goal.shape if rng.random() < 0.5 else _pick(rng, NOUNS[goal.shape])
    return _pick(rng, OBJECTS).format(determiner=determiner, color=goal.color, noun=noun)


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]
