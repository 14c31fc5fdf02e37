"""MiniGrid and BabyAI for policies: what is seen as numbers that name things, the mission as plain text.

MiniGrid (Chevalier-Boisvert et al., arXiv 2306.13831) shows a small square of the world as three numbers per
cell: what lies there, its colour, and whether a door is open, closed or locked. They are names, no intensities,
and the square is smaller than what image encoders take.
"""

from __future__ import annotations

import string
import sys
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

#: How many kinds of objects, colours and states MiniGrid numbers from 0.
CELL = (11, 6, 4)

#: What BabyAI's missions are made of (Chevalier-Boisvert et al., arXiv 1810.08272, table 2).
_BABYAI_WORDS = (
    "go to, pick up, open, put next to a the red green blue purple yellow grey door ball box key object "
    "in front of you, behind you, on your left, on your right, then and after you first second third"
)
_MAX_CHARACTERS = 512


class SymbolicView(gymnasium.Wrapper[Any, Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """`image` as `(height * width * 3,)` numbers, cell by cell; `mission` a Text; the rest as it is.

    Gives the environment `instruction_words`, all words that a mission may hold, and `instruction_max_words`.
    `info` holds `instruction`, `instruction_kind` (see `instruction_kind`) and, after a step, `is_success`: the
    levels pay for success alone.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        space = env.observation_space
        if not is_symbolic(space) or not isinstance(space, spaces.Dict):
            raise ValueError(f"SymbolicView needs MiniGrid's observation of image and mission, got {space}")
        height, width, _ = space["image"].shape or (0, 0, 0)
        text = spaces.Text(_MAX_CHARACTERS, min_length=0, charset=string.ascii_letters + string.digits + " ,.'-")
        self.observation_space = spaces.Dict(
            {**space.spaces, "image": spaces.MultiDiscrete(list(CELL) * (height * width)), "mission": text}
        )
        level: Any = env.unwrapped
        level.instruction_words = _words(space["mission"])
        # The longest parts have 15 words; a sequence joins up to four, "and" two.
        kinds = getattr(level, "instr_kinds", ())
        level.instruction_max_words = 64 if "seq" in kinds else 32 if "and" in kinds else 24
        _silence(level)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """A new arena."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._seen(observation), {**info, **self._said(observation)}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One tick."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        info = {**info, **self._said(observation), "is_success": bool(terminated and float(reward) > 0.0)}
        return self._seen(observation), reward, terminated, truncated, info

    @staticmethod
    def _seen(observation: dict[str, Any]) -> dict[str, Any]:
        return {**observation, "image": observation["image"].astype(np.int64).ravel()}

    @staticmethod
    def _said(observation: dict[str, Any]) -> dict[str, str]:
        mission = observation["mission"]
        return {"instruction": mission, "instruction_kind": instruction_kind(mission)}


def instruction_kind(mission: str) -> str:
    """What kind of mission it is: its verb, "with a place" where the object's is told, or how its parts are joined.

    >>> instruction_kind("pick up the red ball on your left"), instruction_kind("open a door, then go to a key")
    ('pick up with a place', 'then')
    """
    for joint in (" after you ", ", then ", " and "):
        if joint in mission:
            return joint.strip(", ")
    verb = next((v for v in ("go to", "pick up", "open", "put") if mission.startswith(v)), "other")
    told = any(place in mission for place in ("in front of you", "behind you", "on your left", "on your right"))
    return f"{verb} with a place" if told else verb


def _silence(level: Any) -> None:
    """Levels print which arenas they rejected; standard output is for what a command has to say."""
    for kind in type(level).__mro__:
        if kind.__name__ == "RoomGridLevel":
            vars(sys.modules[kind.__module__])["print"] = _say_nothing


def _say_nothing(*_: Any) -> None:
    pass


def is_view(space: gymnasium.Space[Any] | None) -> bool:
    """Whether a space is what `SymbolicView` makes of a view."""
    return isinstance(space, spaces.MultiDiscrete) and tuple(space.nvec[:3]) == CELL and not len(space.nvec) % 3


def is_symbolic(space: gymnasium.Space[Any]) -> bool:
    """Whether a space is MiniGrid's: a small symbolic `image` and a `mission` that is no Text."""
    if not isinstance(space, spaces.Dict) or not {"image", "mission"} <= set(space.spaces):
        return False
    image = space["image"]
    return (
        # By name, so that minigrid need not be installed; BabyAI's is derived from MiniGrid's.
        any(kind.__name__ == "MissionSpace" for kind in type(space["mission"]).__mro__)
        and image.shape is not None
        and len(image.shape) == 3
        and image.shape[2] == 3
        # Wrappers of MiniGrid that draw pictures make them larger.
        and max(image.shape[:2]) < 32
    )


def _words(missions: Any) -> list[str]:
    """All words of a mission space: its texts with every placeholder, and BabyAI's grammar."""
    placeholders = [word for options in missions.ordered_placeholders or [] for word in options]
    return [_BABYAI_WORDS, missions.sample(), *placeholders]
