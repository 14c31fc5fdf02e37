"""Gymnasium environments under the namespace `mcsd/`; importing this package registers them.

mcsd/Nav-v0                      a robot that searches, remembers and obeys instructions
mcsd/NavMemory-v0                the same, where forgetting an instruction or its order loses the episode
mcsd/CartPoleNoVel-v1            classic control without velocities
mcsd/PendulumNoVel-v1
mcsd/MountainCarContinuousNoVel-v0
mcsd/RepeatPrevious{Easy,Medium,Hard}-v0   card games of POPGym that need memory
mcsd/RepeatFirst{Easy,Medium,Hard}-v0
mcsd/Autoencode{Easy,Medium,Hard}-v0
mcsd/PassiveTMaze-v0             one bit kept along a corridor of 50 steps, or `length`
mcsd/PassiveTMaze50-v0
mcsd/PassiveTMaze500-v0
mcsd/MetaWorld-v0                ten tasks of an arm, told in words: Meta-World's MT10, by the extra `metaworld`
mcsd/Ros-v0                      a robot on ROS, in real time: `ros_bridge.ros_env`, imported when it is made
"""

from __future__ import annotations

from typing import Any, Protocol

import gymnasium
import numpy as np

from envs.positions import POSITIONS
from envs.wrappers import HideVelocity

__all__ = ["Expert", "ExpertFailed", "make_expert"]


class ExpertFailed(RuntimeError):
    """An expert knows no action: the episode cannot be learnt from."""


class Expert(Protocol):
    """A scripted policy: it sees what a policy sees and nothing else, but may be told what words mean."""

    def reset(self) -> None: ...

    def act(self, observation: dict[str, Any]) -> np.ndarray: ...


def make_expert(env_id_or_spec: str | Any, env: gymnasium.Env[Any, Any] | None = None) -> Expert:
    """The scripted expert of an environment, by its id or its `gymnasium.envs.registration.EnvSpec`.

    With `env`, which it is to drive, it is told what that means by an instruction, whatever the wording.

    Raises:
        ValueError: there is no expert for it.
    """
    env_id = getattr(env_id_or_spec, "id", env_id_or_spec)
    if env_id.startswith(_MEMORY):
        from envs.memory_expert import MemoryExpert

        return MemoryExpert()
    if env_id not in _WITH_EXPERT:
        raise ValueError(
            f"there is no expert for {env_id!r}; there is one for {', '.join(_WITH_EXPERT)} and {_MEMORY}…"
        )
    # imported here, so that registering environments does not load the simulator
    from envs.nav_expert import NavExpert

    return NavExpert(env)


_WITH_EXPERT = ("mcsd/Nav-v0", "mcsd/NavMemory-v0")
#: Of MiniGrid; all sizes have one expert.
_MEMORY = "MiniGrid-Memory"

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

# Sizes as in POPGym's table of environments.
for _name, _game, _sizes in (
    ("RepeatPrevious", "repeat_previous", ({"decks": 1, "k": 4}, {"decks": 2, "k": 32}, {"decks": 3, "k": 64})),
    ("RepeatFirst", "repeat_first", ({"decks": 1}, {"decks": 8}, {"decks": 16})),
    ("Autoencode", "autoencode", ({"decks": 1}, {"decks": 2}, {"decks": 3})),
):
    for _level, _size in zip(("Easy", "Medium", "Hard"), _sizes, strict=True):
        gymnasium.register(
            f"mcsd/{_name}{_level}-v0",
            "envs.card_games:CardGameEnv",
            vector_entry_point="envs.vector_memory:VectorCardGame",
            kwargs={"game": _game, **_size},
        )

for _name, _length in (("PassiveTMaze", 50), ("PassiveTMaze50", 50), ("PassiveTMaze500", 500)):
    gymnasium.register(
        f"mcsd/{_name}-v0",
        "envs.passive_tmaze:PassiveTMaze",
        vector_entry_point="envs.vector_memory:VectorPassiveTMaze",
        kwargs={"length": _length},
    )

# It keeps its own time limit.
gymnasium.register("mcsd/MetaWorld-v0", "envs.metaworld_env:MetaWorldEnv")

# By name only: environments know nothing of ROS. Two steps in the real world never come out the same.
gymnasium.register("mcsd/Ros-v0", "ros_bridge.ros_env:RosEnv", nondeterministic=True)
