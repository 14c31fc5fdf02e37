"""Gymnasium environments under the namespace `mcsd/`; importing this package registers them.

mcsd/Nav-v0                      a robot that searches, remembers and obeys instructions
mcsd/NavMemory-v0                the same, where forgetting an instruction or its order loses the episode
mcsd/CartPoleNoVel-v1            classic control without velocities
mcsd/PendulumNoVel-v1
mcsd/MountainCarContinuousNoVel-v0
"""

from __future__ import annotations

from typing import Any, Protocol

import gymnasium
import numpy as np

from envs.wrappers import POSITIONS, HideVelocity

__all__ = ["Expert", "make_expert"]


class Expert(Protocol):
    """A scripted policy: it sees what a policy sees and nothing else."""

    def reset(self) -> None: ...

    def act(self, observation: dict[str, Any]) -> np.ndarray: ...


def make_expert(env_id_or_spec: str | Any) -> Expert:
    """The scripted expert of an environment, by its id or its `gymnasium.envs.registration.EnvSpec`.

    Raises:
        ValueError: there is no expert for it.
    """
    env_id = getattr(env_id_or_spec, "id", env_id_or_spec)
    if env_id not in _WITH_EXPERT:
        raise ValueError(f"there is no expert for {env_id!r}; there is one for {' and '.join(_WITH_EXPERT)}")
    # imported here, so that registering environments does not load the simulator
    from envs.nav_expert import NavExpert

    return NavExpert()


_WITH_EXPERT = ("mcsd/Nav-v0", "mcsd/NavMemory-v0")

# No max_episode_steps: each instruction brings its own time limit, which the environment keeps.
gymnasium.register("mcsd/Nav-v0", "envs.nav:NavEnv")
# Half of the instructions have two parts. "stop" is left out, since a robot that forgot everything stands still.
gymnasium.register(
    "mcsd/NavMemory-v0",
    "envs.nav:NavEnv",
    kwargs={"verbs": {"go": 0.8, "face": 0.2}, "spoken_ticks": 5, "wrong_object_ends": True},
)

for _id, _new_id in (
    ("CartPole-v1", "mcsd/CartPoleNoVel-v1"),
    ("Pendulum-v1", "mcsd/PendulumNoVel-v1"),
    ("MountainCarContinuous-v0", "mcsd/MountainCarContinuousNoVel-v0"),
):
    _spec = gymnasium.spec(_id)
    gymnasium.register(
        _new_id,
        _spec.entry_point,
        reward_threshold=_spec.reward_threshold,
        max_episode_steps=_spec.max_episode_steps,
        additional_wrappers=(HideVelocity.wrapper_spec(keep=POSITIONS[_id]),),
    )
