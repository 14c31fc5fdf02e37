"""Meta-World's scripted policies as one expert, which looks into its environment: they read places on the table."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import numpy as np
from metaworld.policies import ENV_POLICY_MAP

from envs.metaworld_env import MetaWorldEnv

# They ask for more than the arm can do wherever they are far from where they want to be.
warnings.filterwarnings("ignore", "Constant.s. may be too high", module="metaworld.policies")

#: How far the gripper is open, of 1, and metres from hand to peg in height, below which the peg is held.
_CLOSED, _HELD = 0.4, 0.06
#: Metres above an object beyond which it is out of a gripper's reach, from which on one has room to open again, and
#: to the side.
_OUT_OF_REACH, _ROOM, _ASIDE = 0.05, 0.12, 0.04
_LIFT_AND_OPEN = np.array([0.0, 0.0, 1.0, -1.0], np.float32)


class MetaWorldExpert:
    """Chooses actions for the episode that `env` is in. `ValueError` for another environment.

    Two weaknesses of the scripts are mended, which noise brings out: see `_with_the_peg_in_hand`, and where a gripper
    closed above what it was to grasp, the scripts press down on it for ever.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        if not isinstance(env.unwrapped, MetaWorldEnv):
            raise ValueError("it is not mcsd/MetaWorld-v0")
        self._env = env.unwrapped

    def reset(self) -> None:
        """Begin the episode as it is now."""
        script: Any = ENV_POLICY_MAP[f"{self._env.task}-v3"]
        self._script = script()
        self._again = False

    def act(self, observation: Any) -> np.ndarray:
        """The action for this tick, float32 `(4,)` in [-1, 1]."""
        seen = self._env.absolute
        if self._env.task == "peg-insert-side":
            seen = _with_the_peg_in_hand(seen)
        elif self._env.task in ("push", "pick-place") and self._has_missed(seen):
            return _LIFT_AND_OPEN.copy()
        return np.clip(np.asarray(self._script.get_action(seen), np.float32), -1.0, 1.0)

    def _has_missed(self, seen: np.ndarray) -> bool:
        above, aside = seen[2] - seen[6], np.hypot(*(seen[:2] - seen[4:6]))
        if above > _ROOM or aside > _ASIDE:
            self._again = False
        elif above > _OUT_OF_REACH and seen[3] < _CLOSED:
            self._again = True
        return self._again


def _with_the_peg_in_hand(seen: np.ndarray) -> np.ndarray:
    """The same, with a peg that is held at the height of the hand.

    The script lowers the hand until the peg is less than 25 mm below it, which is where it hangs when it is held: by a
    tenth of a millimetre it carries the peg, or presses it down once more. No clone can tell the two apart, and in one
    of ten episodes the script presses until the peg is lost.
    """
    if seen[3] < _CLOSED and abs(seen[2] - seen[6]) < _HELD:
        seen = seen.copy()
        seen[6] = seen[2]
    return seen
