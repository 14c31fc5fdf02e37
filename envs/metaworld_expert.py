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


class MetaWorldExpert:
    """Chooses actions for the episode that `env` is in. `ValueError` for another environment."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        if not isinstance(env.unwrapped, MetaWorldEnv):
            raise ValueError("it is not mcsd/MetaWorld-v0")
        self._env = env.unwrapped

    def reset(self) -> None:
        """Begin the episode as it is now."""
        script: Any = ENV_POLICY_MAP[f"{self._env.task}-v3"]
        self._script = script()

    def act(self, observation: Any) -> np.ndarray:
        """The action for this tick, float32 `(4,)` in [-1, 1]."""
        return np.clip(np.asarray(self._script.get_action(self._env.absolute), np.float32), -1.0, 1.0)
