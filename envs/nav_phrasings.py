"""The ways to say a task, and objects that are never named in training.

`say(rng, task, wording)` words a task. `"trained"` is `nav_language.generate`, the grammar, and `"varied"` is
`nav_varied`, far more than that; no policy is trained on the others:

    synonyms       verbs, shapes and connectives that the grammar does not have
    polite         a polite turn around a trained wording
    order          the object first, the verb behind it
    typos          one wrong letter in one word of each part
    unheard        verbs, shapes and turns of a second list
    spontaneous    what somebody wrote who did not know any of these, see `nav_spontaneous`

Only who drew the task knows what these mean: `nav_language.parse` refuses them, as it refuses whatever is not in the
grammar. The objects of `HELD_OUT` can be kept from what is said: every colour and every shape of theirs occurs with
another one.
"""

from __future__ import annotations

import numpy as np

from envs import nav_spontaneous, nav_varied
from envs.nav_language import COLORS, SHAPES, Goal, Task, generate

#: What policies are trained on.
TRAINED = ("trained", "varied")
WORDINGS = (*TRAINED, "synonyms", "polite", "order", "typos", "unheard", "spontaneous")
#: Colour and shape, a third of all objects.
HELD_OUT = (("red", "cone"), ("green", "ball"), ("blue", "box"), ("yellow", "cone"))
HELD_OUT_LABELS = frozenset(COLORS.index(c) * len(SHAPES) + SHAPES.index(s) for c, s in HELD_OUT)

_SPEAKERS = {"varied": nav_varied.speak, "spontaneous": nav_spontaneous.speak}
_VERBS = {
    "go": ("approach", "travel to", "proceed to", "walk to", "visit", "go over to"),
    "face": ("look towards", "rotate towards", "aim at", "gaze at"),
    "stop": ("freeze", "do not move", "wait here"),
}
_SHAPES = {"ball": ("ball", "globe", "orb"), "box": ("box", "crate", "cubic box"), "cone": ("cone", "traffic cone")}
_CONNECTIVES = ("afterwards", "and next", "finally")
_POLITE = (
    "could you please {}",
    "would you kindly {}",
    "I would like you to {}",
    "{} if you do not mind",
    "{}, thank you",
    "be so kind as to {}",
)
_UNHEARD_VERBS = {
    "go": ("navigate to", "make your way to", "reach", "get to", "roll over to", "come to"),
    "face": ("orient yourself towards", "swing round to", "have a look at", "turn your front to"),
    "stop": ("hold still", "come to a standstill", "pause here"),
}
_UNHEARD_SHAPES = {"ball": ("football", "marble", "ball"), "box": ("carton", "chest", "box"), "cone": ("pylon", "cone")}
_UNHEARD_TURNS = ("{}", "hey, {}", "{} right now", "let us {}", "you should {}", "can you {} for me")
_ORDER = {
    "go": ("to the {} please go", "the {}: go there", "the {} is where you should go"),
    "face": ("the {}: look at it", "the {} is what you should face", "at the {} please look"),
    "stop": ("where you are, stop", "right here stop"),
}


def say(rng: np.random.Generator, task: Task, wording: str) -> str:
    """One way to say `task`, of the kind that `wording` names."""
    if wording == "trained":
        return generate(rng, task)
    if wording in _SPEAKERS:
        return _SPEAKERS[wording](rng, task)
    if wording == "polite":
        return _pick(rng, _POLITE).format(generate(rng, task))
    if wording == "typos":
        return ", then ".join(_mistyped(rng, generate(rng, Task((goal,)))) for goal in task.goals)
    connective = f", {_pick(rng, _CONNECTIVES)} " if wording == "synonyms" else ", then "
    text = connective.join(_reworded(rng, goal, wording) for goal in task.goals)
    return _pick(rng, _UNHEARD_TURNS).format(text) if wording == "unheard" else text


def _reworded(rng: np.random.Generator, goal: Goal, wording: str) -> str:
    if wording == "order":
        return _pick(rng, _ORDER[goal.verb]).format(f"{goal.color} {goal.shape}")
    verbs, shapes = (_UNHEARD_VERBS, _UNHEARD_SHAPES) if wording == "unheard" else (_VERBS, _SHAPES)
    verb = _pick(rng, verbs[goal.verb])
    return verb if goal.verb == "stop" else f"{verb} the {goal.color} {_pick(rng, shapes[goal.shape])}"


def _mistyped(rng: np.random.Generator, text: str) -> str:
    """One word of at least four letters with two neighbours exchanged, a letter too few, or one twice."""
    words = text.split()
    at = int(rng.choice([i for i, word in enumerate(words) if len(word) >= 4] or [0]))
    word, k, kind = words[at], int(rng.integers(1, max(2, len(words[at]) - 1))), int(rng.integers(3))
    changed = (
        word[:k] + word[k + 1 :],
        word[:k] + word[k] + word[k:],
        word[: k - 1] + word[k] + word[k - 1] + word[k + 1 :],
    )
    words[at] = changed[kind] if changed[kind] != word else changed[0]
    return " ".join(words)


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]
