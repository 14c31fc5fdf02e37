"""Observations without velocities: the smallest tasks that need memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class HideVelocity(
    gymnasium.ObservationWrapper[np.ndarray, Any, np.ndarray], gymnasium.utils.RecordConstructorArgs
):  # fmt: skip
    """Keeps only the observation entries in `keep`, so that velocities must be inferred from the past.

    Hidden entries are left out, not zeroed: the observation space then says what there is to see.

    Raises:
        ValueError: the observation is no vector, or `keep` names an entry that it does not have.

    Example:
        >>> env = HideVelocity(gymnasium.make("CartPole-v1"), keep=(0, 2))
        >>> env.observation_space.shape
        (2,)
    """

    def __init__(self, env: gymnasium.Env[np.ndarray, Any], keep: Sequence[int]) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self, keep=keep)
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise ValueError(f"HideVelocity needs a vector observation, got {space}")
        if not keep or not all(0 <= index < space.shape[0] for index in keep):
            raise ValueError(f"keep={tuple(keep)}: give indices from 0 to {space.shape[0] - 1}")
        self._keep = np.array(keep)
        self.observation_space = spaces.Box(space.low[self._keep], space.high[self._keep], dtype=space.dtype.type)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """The kept entries, in the order of `keep`; a fresh array."""
        return observation[self._keep]
