"""Which entries of an observation are no velocities, for the environments where that is known."""

from __future__ import annotations

from typing import Any

import gymnasium

#: Indices of the entries that are no velocities, by the id of the original environment.
POSITIONS: dict[str, tuple[int, ...]] = {
    "Acrobot-v1": (0, 1, 2, 3),  # cos and sin of both angles
    "BipedalWalker-v3": (0, 4, 6, 8, 9, 11, 13, *range(14, 24)),  # angles, ground contacts, lidar
    "BipedalWalkerHardcore-v3": (0, 4, 6, 8, 9, 11, 13, *range(14, 24)),
    "CartPole-v0": (0, 2),  # cart position, pole angle
    "CartPole-v1": (0, 2),
    "InvertedDoublePendulum-v5": (0, 1, 2, 3, 4),  # position, sin and cos of both angles
    "LunarLander-v3": (0, 1, 4, 6, 7),  # position, angle, contacts
    "LunarLanderContinuous-v3": (0, 1, 4, 6, 7),
    "MountainCar-v0": (0,),  # position
    "MountainCarContinuous-v0": (0,),
    "Pendulum-v1": (0, 1),  # cos, sin of the angle
    "Pusher-v5": (*range(7), *range(14, 23)),  # joint angles, positions of tip, object and goal
    "Reacher-v5": (0, 1, 2, 3, 4, 5, 8, 9),  # cos and sin of the angles, target, tip to target
}

#: Parts of a MuJoCo observation that are velocities, by the names in its `observation_structure`.
_VELOCITIES = ("qvel", "cvel", "ten_velocity")


def position_entries(env: gymnasium.Env[Any, Any]) -> tuple[int, ...] | None:
    """Indices of the observation entries that are no velocities; None where they are not known.

    Gymnasium's MuJoCo environments say themselves how their observation is made up; others are in a table.

    >>> position_entries(gymnasium.make("Pendulum-v1"))
    (0, 1)
    """
    parts = getattr(env.unwrapped, "observation_structure", None)
    shape = env.observation_space.shape
    if isinstance(parts, dict) and shape is not None:
        kept: list[int] = []
        start = 0
        for name, size in parts.items():
            if name.startswith("skipped"):
                continue
            if name not in _VELOCITIES:
                kept += range(start, start + size)
            start += size
        # A wrapper may have added or removed entries: then the parts do not say where they are.
        return tuple(kept) if shape == (start,) else None
    entries = POSITIONS.get(env.spec.id) if env.spec is not None else None
    return entries if entries is not None and shape == env.unwrapped.observation_space.shape else None
