"""What `train --env ID` trains with when no config says otherwise: by the environment's id, else by its spaces."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping
from typing import Any

import gymnasium
from gymnasium import spaces

from envs.frames import is_image
from envs.grid_views import is_view
from mcsd_agent.training.instructions import WordIds

_SMALL: dict[str, Any] = {"backbone": "mcsd", "width": 64, "layers": 1}
_LARGE: dict[str, Any] = {"backbone": "mcsd", "width": 128, "layers": 2}

#: Values of `TrainConfig` for environments by id, a pattern that matches all of it; the first that fits counts.
_BY_ID: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        r"(mcsd/CartPoleNoVel|CartPole)-v[01]",
        {
            "n_envs": 16,
            "timesteps": 50_000,
            "rate_hz": 50,
            "policy": _SMALL,
            "ppo": {
                "n_steps": 128,
                "n_minibatches": 2,
                "n_epochs": 10,
                "learning_rate": 2e-3,
                "gamma": 0.99,
                "gae_lambda": 0.95,
                "ent_coef": 0.01,
                "vf_coef": 1.0,
                "prediction_coef": 1.0,
            },
        },
    ),
    (
        r"(mcsd/PendulumNoVel|Pendulum)-v1",
        {
            "n_envs": 8,
            "timesteps": 100_000,
            "rate_hz": 20,
            "policy": {**_SMALL, "conv": True},
            "ppo": {
                "n_steps": 200,
                "n_minibatches": 2,
                "n_epochs": 10,
                "learning_rate": 1e-3,
                "gamma": 0.95,
                "gae_lambda": 0.95,
                "noise_correlation": 0.7,
                "prediction_coef": 1.0,
            },
        },
    ),
    (
        r"(mcsd/MountainCarContinuousNoVel|MountainCarContinuous)-v0",
        {
            "n_envs": 16,
            "timesteps": 300_000,
            "policy": _SMALL,
            "ppo": {
                "n_steps": 256,
                "n_epochs": 10,
                "learning_rate": 1e-3,
                "gamma": 0.999,
                "gae_lambda": 0.95,
                "noise_correlation": 0.9,
            },
        },
    ),
    (
        r"mcsd/Nav.*",
        {
            "n_envs": 64,
            "timesteps": 10_000_000,
            "policy": {**_LARGE, "encoder": {"scan": ["ranges", "labels"]}},
            "ppo": {"n_steps": 128, "n_epochs": 4, "learning_rate": 5e-4, "ent_coef": 0.001},
        },
    ),
    (
        r"mcsd/Ros-v0",
        {  # one robot in real time: a pause to learn ends no episode, and nothing is judged in between
            "n_envs": 1,
            "env_kwargs": {"on_late": "go_on"},
            "timesteps": 20_000,
            "policy": _SMALL,
            "ppo": {"n_steps": 512, "n_epochs": 4, "learning_rate": 1e-4},
            "eval_every": 0,
            "evaluation": {"episodes": 10, "env_kwargs": None},
            "checkpoint_every": 2048,
        },
    ),
    (
        r"mcsd/PassiveTMaze500-v0",
        {  # turning is learnt in short corridors, see `envs.passive_tmaze`
            "n_envs": 16,
            "env_kwargs": {"shortest": 1},
            "timesteps": 2_000_000,
            "rate_hz": 10,
            "policy": {**_SMALL, "horizon": 1024},
            "ppo": {
                "n_steps": 128,
                "n_epochs": 4,
                "learning_rate": 1e-3,
                "gamma": 0.9,
                "ent_coef": 0.01,
                "clip_range": 0.4,
            },
            "evaluation": {"env_kwargs": {}},
        },
    ),
    (
        r"mcsd/PassiveTMaze.*",
        {
            "n_envs": 16,
            "timesteps": 250_000,
            "rate_hz": 10,
            "policy": _SMALL,
            "ppo": {"n_steps": 102, "n_epochs": 4, "learning_rate": 1e-3, "gamma": 0.9},
        },
    ),
)

#: POPGym's card games: environments, discount, and rollouts of one episode, or two of the short ones, so that gradients
#: reach from an answer to what it is about. Answers change nothing that comes after them: a short discount spares
#: noise. Repeating the first card was learnt sooner with a long one.
_CARD_GAMES: dict[str, tuple[int, float, dict[str, int]]] = {
    "RepeatPrevious": (64, 0.5, {"Easy": 102, "Medium": 103, "Hard": 155}),
    "RepeatFirst": (32, 0.99, {"Easy": 102, "Medium": 415, "Hard": 831}),
    "Autoencode": (64, 0.5, {"Easy": 103, "Medium": 207, "Hard": 311}),
}
_CARD_GAME = re.compile(rf"(?:mcsd/|popgym-)({'|'.join(_CARD_GAMES)})(Easy|Medium|Hard)-v0")


def preset_for(
    env_id: str,
    observation_space: gymnasium.Space,
    action_space: gymnasium.Space,
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Values of `TrainConfig` as nested mappings, a fresh copy; what it leaves out keeps its default.

    By id where the environment is known. Otherwise images, text and large observations get the larger network;
    continuous actions get longer rollouts and more epochs; discrete ones a little entropy. With the environment's
    `metadata` given, one that states no rate gets 10 Hz.
    """
    name = env_id.rpartition(":")[2]
    if card_game := _CARD_GAME.fullmatch(name):
        n_envs, gamma, rollouts = _CARD_GAMES[card_game[1]]
        return {
            "n_envs": n_envs,
            "timesteps": 5_000_000,
            "rate_hz": 10,
            "policy": dict(_LARGE),
            "ppo": {"n_steps": rollouts[card_game[2]], "n_epochs": 4, "learning_rate": 1e-3, "gamma": gamma},
        }
    for pattern, values in _BY_ID:
        if re.fullmatch(pattern, name):
            return copy.deepcopy(values)
    entries = list(observation_space.spaces.values()) if isinstance(observation_space, spaces.Dict) else []
    seen = entries or [observation_space]
    pictures = any(is_image(s) for s in seen)
    large = pictures or any(isinstance(s, (spaces.Text, WordIds)) for s in seen) or sum(map(_size, seen)) > 200
    if isinstance(action_space, spaces.Box):
        ppo = {"n_steps": 256, "n_epochs": 10, "learning_rate": 5e-4, "gamma": 0.99, "gae_lambda": 0.95}
    else:
        ppo = {"n_steps": 128, "n_epochs": 4, "learning_rate": 1e-3, "gamma": 0.99, "gae_lambda": 0.95}
        ppo["ent_coef"] = 0.01
    if large:
        ppo |= {"n_epochs": 4, "learning_rate": 5e-4}
    preset: dict[str, Any] = {
        "n_envs": 8 if pictures else 16,
        "timesteps": 1_000_000,
        "policy": dict(_LARGE if large else _SMALL),
        "ppo": ppo,
    }
    if isinstance(observation_space, spaces.Dict) and is_view(observation_space.spaces.get("image")):
        preset["policy"]["encoder"] = {"grid": "image", "conditioning": "both"}
    if metadata is not None and not metadata.get("render_fps"):
        preset["rate_hz"] = 10
    return preset


def _size(space: gymnasium.Space) -> int:
    """How many numbers a policy reads from an entry."""
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.sum())
    return math.prod(space.shape or (0,))
