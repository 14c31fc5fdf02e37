"""Left and right exchanged in vectors: a demonstration or its mirror image, by a coin for each episode of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mcsd_agent.errors import UserError, nearest
from mcsd_agent.policy import Policy
from mcsd_agent.spaces import BoxSpec

_ACTION = "action"


class Mirror:
    """Changes the sign of some numbers of Box entries, named in `names`, and of the action."""

    def __init__(self, policy: Policy, changes: Mapping[str, Sequence[int]]) -> None:
        """`changes` maps entries of the observation, and `action`, to the places of their numbers that change sign.

        Raises:
            UserError: an entry that is not there or no vector, a place beyond its end, or no action.
        """
        specs: dict[str, Any] = {**policy.observation_specs, _ACTION: policy.action_spec}
        signs: dict[str, np.ndarray] = {}
        for name, places in changes.items():
            spec = specs.get(name)
            if not isinstance(spec, BoxSpec) or len(spec.shape) != 1:
                vectors = [k for k, s in specs.items() if isinstance(s, BoxSpec) and len(s.shape) == 1]
                raise UserError(f"imitation.mirror: {name!r} is no vector here{nearest(name, vectors)}")
            for place in places:
                if not 0 <= place < spec.shape[0]:
                    raise UserError(f"imitation.mirror.{name}: {place} must be from 0 to {spec.shape[0] - 1}")
            signs[name] = np.ones(spec.shape, np.float32)
            signs[name][list(places)] = -1.0
        if _ACTION not in signs:
            raise UserError("imitation.mirror must say which numbers of 'action' change their sign; [] is none")
        self._action = signs.pop(_ACTION)
        self.names, self._signs = tuple(signs), list(signs.values())

    def __call__(self, *arrays: Any) -> tuple[np.ndarray, ...]:
        """The entries of `names` and the actions, each `(episodes, time, n)`, and a generator: all but it, mirrored."""
        *vectors, rng = arrays
        turned = rng.random(len(vectors[0])) < 0.5
        return tuple(
            np.where(turned[:, None, None], v * sign, v).astype(v.dtype)
            for v, sign in zip(vectors, [*self._signs, self._action], strict=True)
        )
