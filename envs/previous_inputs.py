"""What the robot did last and what it got for it, as part of the observation.

A memory can then tell what an action did from what the world did by itself, and a policy whose actions
are drawn at random knows which one was drawn.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

#: Names of the entries that are added.
ACTION, REWARD = "previous_action", "previous_reward"


class PreviousInputs(gymnasium.Wrapper[Any, Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """Adds the entries `previous_action` and `previous_reward`; an observation that is no Dict becomes `observation`.

    At an episode start the reward is 0 and the action is none: zeros for Box, and for discrete actions one value
    more than there are. Raises ValueError for other action spaces, and where the entries exist already.
    """

    def __init__(self, env: gymnasium.Env, action: bool = True, reward: bool = True) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self, action=action, reward=reward)
        super().__init__(env)
        inner = env.observation_space
        self._alone = not isinstance(inner, spaces.Dict)
        entries: dict[str, spaces.Space] = (
            dict(inner.spaces) if isinstance(inner, spaces.Dict) else {"observation": inner}
        )
        taken = [name for name in (ACTION, REWARD) if name in entries]
        if taken:
            raise ValueError(f"the observation has an entry {taken[0]!r} already")
        self._none: Any = None
        self._kind: Any = None
        if action:
            entries[ACTION], self._none = _with_none(env.action_space)
            self._kind = entries[ACTION].dtype
        if reward:
            entries[REWARD] = spaces.Box(-np.inf, np.inf, (1,), np.float32)
        self._adds = (action, reward)
        self.observation_space = spaces.Dict(entries)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict]:
        """Begin an episode, before which nothing was done."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._add(observation, self._none, 0.0), info

    def step(self, action: Any) -> tuple[dict[str, Any], Any, bool, bool, dict]:
        """One step; its action and reward are part of the observation it leads to."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._add(observation, action, float(reward)), reward, terminated, truncated, info

    def _add(self, observation: Any, action: Any, reward: float) -> dict[str, Any]:
        entries = {"observation": observation} if self._alone else dict(observation)
        if self._adds[0]:
            entries[ACTION] = int(action) if np.ndim(action) == 0 else np.asarray(action, self._kind)
        if self._adds[1]:
            entries[REWARD] = np.array([reward], np.float32)
        return entries


def _with_none(space: spaces.Space) -> tuple[spaces.Space, Any]:
    """The space of previous actions, and the one that stands for none."""
    match space:
        case spaces.Box():
            nothing = np.zeros(space.shape, np.float32)
            low, high = np.minimum(space.low, nothing), np.maximum(space.high, nothing)
            return spaces.Box(low, high, dtype=np.float32), nothing
        case spaces.Discrete(start=0):
            return spaces.Discrete(int(space.n) + 1), int(space.n)
        case spaces.MultiDiscrete():
            return spaces.MultiDiscrete(space.nvec + 1), space.nvec.copy()
        case spaces.MultiBinary():
            n = space.shape[0]
            return spaces.MultiDiscrete(np.full(n, 3)), np.full(n, 2)
    raise ValueError(f"previous actions of {space} cannot be observed; use Box, Discrete, MultiDiscrete or MultiBinary")
