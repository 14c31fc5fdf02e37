"""Nested observations as one flat Dict, which policies read."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class FlatNames(gymnasium.ObservationWrapper[Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """Tuples and nested Dicts to one Dict named `a.b`; a Tuple of Discretes alone becomes a MultiDiscrete.

    Example:
        >>> class Pair(gymnasium.Env):
        ...     observation_space = spaces.Tuple((spaces.Discrete(2), spaces.Discrete(4)))
        ...     action_space = spaces.Discrete(2)
        >>> FlatNames(Pair()).observation_space
        MultiDiscrete([2 4])
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        space = env.observation_space
        self._integers = _all_discrete(space)
        self.observation_space = (
            spaces.MultiDiscrete([int(s.n) for s in space.spaces])  # type: ignore[attr-defined]
            if self._integers
            else spaces.Dict(dict(_flat(space, space, "")))
        )

    def observation(self, observation: Any) -> Any:
        """The same values, flat."""
        if self._integers:
            return np.array(observation, np.int64)
        return dict(_flat(self.env.observation_space, observation, ""))


def is_nested(space: gymnasium.Space[Any]) -> bool:
    """Whether a space is a Tuple, or a Dict with a Tuple or Dict inside."""
    if isinstance(space, spaces.Dict):
        return any(isinstance(s, (spaces.Dict, spaces.Tuple)) for s in space.spaces.values())
    return isinstance(space, spaces.Tuple)


def _all_discrete(space: gymnasium.Space[Any]) -> bool:
    return isinstance(space, spaces.Tuple) and all(
        isinstance(s, spaces.Discrete) and s.start == 0 for s in space.spaces
    )


def _flat(space: gymnasium.Space[Any], value: Any, name: str) -> list[tuple[str, Any]]:
    """`(name, part)` for every leaf; `value` is an observation of `space`, or the space itself."""
    if isinstance(space, spaces.Dict):
        named = [(key, s, value[key]) for key, s in space.spaces.items()]
    elif isinstance(space, spaces.Tuple):
        named = [(str(i), s, value[i]) for i, s in enumerate(space.spaces)]
    else:
        return [(name, value)]
    return [leaf for key, s, part in named for leaf in _flat(s, part, f"{name}.{key}" if name else key)]
