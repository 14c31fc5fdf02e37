"""MiniGrid and BabyAI for policies: what is seen as one-hot cells, the mission as plain text.

MiniGrid (Chevalier-Boisvert et al., arXiv 2306.13831) shows a small square of the world as three numbers per
cell: what lies there, its colour, and whether a door is open, closed or locked. They are names, no intensities,
and the square is smaller than what image encoders take.
"""

from __future__ import annotations

import string
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

#: Kinds of objects, colours and states that MiniGrid numbers from 0.
_KINDS = (11, 6, 4)

#: What BabyAI's missions are made of (Chevalier-Boisvert et al., arXiv 1810.08272, table 2).
_BABYAI_WORDS = (
    "go to, pick up, open, put next to a the red green blue purple yellow grey door ball box key object "
    "in front of you, behind you, on your left, on your right, then and after you first second third"
)
_MAX_CHARACTERS = 512


class SymbolicView(gymnasium.ObservationWrapper[Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """Each cell of `image` one-hot, `(height * width * 21,)` uint8 zeros and ones; `mission` a Text; the rest as it is.

    Gives the environment `instruction_words`, all words that a mission may hold, and `instruction_max_words`.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        space = env.observation_space
        if not is_symbolic(space) or not isinstance(space, spaces.Dict):
            raise ValueError(f"SymbolicView needs MiniGrid's observation of image and mission, got {space}")
        height, width, _ = space["image"].shape or (0, 0, 0)
        # Number n of the k-th kind in cell c sets entry c * 21 + (start of kind k) + n.
        starts = np.cumsum((0, *_KINDS[:-1]))
        self._starts = (np.arange(height * width)[:, None] * sum(_KINDS) + starts).reshape(height, width, 3)
        self._size = height * width * sum(_KINDS)
        text = spaces.Text(_MAX_CHARACTERS, min_length=0, charset=string.ascii_letters + string.digits + " ,.'-")
        self.observation_space = spaces.Dict(
            {**space.spaces, "image": spaces.Box(0, 1, (self._size,), np.uint8), "mission": text}
        )
        level: Any = env.unwrapped
        level.instruction_words = _words(space["mission"])
        # The longest parts have 15 words; a sequence joins up to four, "and" two.
        kinds = getattr(level, "instr_kinds", ())
        level.instruction_max_words = 64 if "seq" in kinds else 32 if "and" in kinds else 24

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        """The same dict with cells one-hot."""
        cells = np.zeros(self._size, np.uint8)
        cells[self._starts + observation["image"]] = 1
        return {**observation, "image": cells}


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
