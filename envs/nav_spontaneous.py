"""Instructions as people might word them who have never seen what the robot was trained on; for evaluation alone.

These lists were written by somebody who was told what the robot can do and no wording of `nav_language`, `nav_varied`
or `nav_phrasings`; so some of them are like those, and some are nothing like them.
"""

from __future__ import annotations

import numpy as np

from envs.nav_language import Goal, Task

_VERBS = {
    "go": (
        *("go to {}", "drive to {}", "drive over to {}", "head over to {}", "head for {}", "make your way to {}"),
        *("move to {}", "move over to {}", "roll over to {}", "roll up to {}", "go over to {}", "go right up to {}"),
        *("go straight to {}", "go park by {}", "pull up next to {}", "pop over to {}", "nip across to {}"),
        *("get yourself over to {}", "get to {}", "run along to {}", "travel to {}", "navigate to {}"),
        *("proceed to {}", "approach {}", "drive until you reach {}", "drive forward till you're right next to {}"),
        *("go to where {} is", "go stand by {}", "go and stand next to {}", "wheel yourself over to {}"),
        *("come over to {}", "find {} and drive up to it", "go in the direction of {} until you get there"),
        *("bring yourself close to {}", "go near to {}", "go until {}", "move towards {} until you reach it"),
        *("make a beeline for {}", "scoot over to {}", "trundle across to {}"),
    ),
    "face": (
        *("face {}", "turn to face {}", "turn towards {}", "turn toward {}", "look at {}", "look over at {}"),
        *("look in the direction of {}", "point yourself at {}", "point your front at {}", "rotate to face {}"),
        *("rotate towards {}", "spin round to face {}", "spin around until you're facing {}", "swivel towards {}"),
        *("turn round so you're looking at {}", "turn your camera towards {}", "turn on the spot to face {}"),
        *("aim yourself at {}", "orient yourself towards {}", "turn yourself in the direction of {}"),
        *("stay where you are and face {}", "just turn to {} without driving there", "pivot to face {}"),
        *("turn until {} is straight ahead of you", "put your eyes on {}"),
    ),
    "stop": (
        *("stop", "halt", "freeze", "stop right there", "stop moving", "stop where you are", "stay where you are"),
        *("stay put", "stand still", "hold it right there", "hold still", "come to a stop", "hit the brakes"),
        *("quit moving", "remain in your place"),
    ),
}
_NOUNS = {
    "ball": (
        *("sphere", "orb", "globe", "round thing", "round object", "spherical thing", "marble"),
        *("round rolling thing",),
    ),
    "box": (
        *("cube", "block", "crate", "carton", "square thing", "square block", "parcel", "package", "boxy thing"),
        *("cube-shaped object",),
    ),
    "cone": (
        *("traffic cone", "pylon", "pointy thing", "pointed object", "conical thing", "cone-shaped object", "funnel"),
        *("party hat", "witch's hat", "pointy hat thing"),
    ),
}
_OBJECTS = (
    *("the {color} {noun}", "that {color} {noun}", "{color} {noun}", "the {noun} that is {color}"),
    *("the {noun} that's {color}", "the {noun} which is {color}", "the {noun}, the {color} one"),
    *("the {color} coloured {noun}", "the {color}-colored {noun}", "the {noun} in {color}"),
    *("the {noun} with the {color} colour", "that {color} {noun} over there"),
)
_TURNS = (
    *("please {}", "{}, please", "Could you {}?", "Can you {} for me?", "Do me a favour and {}, would you?"),
    *("hey robot, {}", "Okay little guy, {}.", "um, {}, I guess", "Right then, {}.", "I'd like you to {}."),
    *("I want you to {} now", "Let's see if you can {}.", "So, er, could you maybe {}?"),
    *("{} - I want to see how well that works", "Alright buddy, {}, thanks!", "Be so kind and {}."),
    *("Sorry to bother you, but I need you to {}.", "{} when you're ready, the kids are watching"),
    *("You must {}, quickly please.", "Hello! It's my first time doing this, so just {}, okay?"),
)
_TWO = (
    *("{0} and then {1}", "{0}, then {1}", "{0} and after that {1}", "{0}. then {1}"),
    *("{0}, and once you're done, {1}", "{0}; when that's finished, {1}", "{0}, afterwards {1}", "{0} and next {1}"),
    *("{0} before you {1}", "first {0}, then {1}", "first of all {0}, and after that {1}"),
    *("to begin with, {0}; next, {1}", "after you {0}, {1}", "before you {1}, {0}", "{1}, but first {0}"),
)
_THREE = (
    *("{0}, then {1}, then {2}", "first {0}, then {1}, and finally {2}", "{0}, after that {1}, and last of all {2}"),
    *("{0}. next {1}. then {2}", "step one, {0}; step two, {1}; step three, {2}"),
    *("{0} and then {1}, and when you've done both, {2}",),
)


def speak(rng: np.random.Generator, task: Task) -> str:
    """One way to say `task`: half of the time with a turn around it."""
    parts = [_part(rng, goal) for goal in task.goals]
    text = _pick(rng, (("{0}",), _TWO, _THREE)[len(parts) - 1]).format(*parts)
    return text if rng.random() < 0.5 else _pick(rng, _TURNS).format(text)


def _part(rng: np.random.Generator, goal: Goal) -> str:
    verb = _pick(rng, _VERBS[goal.verb])
    if goal.verb == "stop":
        return verb
    noun = goal.shape if rng.random() < 0.5 else _pick(rng, _NOUNS[goal.shape])
    return verb.format(_pick(rng, _OBJECTS).format(color=goal.color, noun=noun))


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]
