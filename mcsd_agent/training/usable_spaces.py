"""Spaces that a policy cannot read or act in, and observations that are not in theirs, refused before anything is built
for them."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first

from mcsd_agent.errors import UserError
from mcsd_agent.spaces import spec_from_space
from mcsd_agent.training.instructions import policy_specs


def refuse_unusable_spaces(observation: gymnasium.Space, action: gymnasium.Space) -> None:
    """`UserError` that names what is not supported, and what is."""
    entries = dict(observation.spaces) if isinstance(observation, spaces.Dict) else {"observation": observation}
    for name, space in entries.items():
        if isinstance(space, spaces.MultiDiscrete):
            _refuse_other_choices(space)
        if isinstance(space, spaces.Box) and is_image_space(space) and is_image_space_channels_first(space):
            raise UserError(
                f"{name!r} is an image of shape {space.shape} with its channels first; give it as height x width x "
                "channels, without VecTransposeImage"
            )
    policy_specs(observation)
    if not isinstance(action, (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)):
        raise UserError(f"actions {_text(action)} are not supported; use Box, Discrete, MultiDiscrete or MultiBinary")
    if isinstance(action, spaces.MultiDiscrete):
        _refuse_other_choices(action)
    if isinstance(action, spaces.Box) and not np.isfinite([action.low, action.high]).all():
        raise UserError(f"actions {_text(action)} must have finite bounds; {bounded_by_wrapper(action)}")
    spec_from_space(action)


def bounded_by_wrapper(action: spaces.Box) -> str:
    """How to give actions finite bounds; Gymnasium's RescaleAction and ClipAction do not."""
    return (
        "wrap the environment: gymnasium.wrappers.TransformAction(env, lambda a: a, "
        f"gymnasium.spaces.Box(-1, 1, {action.shape})), with bounds that suit it"
    )


def refuse_other_shape(observation: Any, space: gymnasium.Space, what: str) -> None:
    """`UserError`, which begins with `what`, for an observation of another form than its space; values may be any."""
    if isinstance(space, spaces.Dict):
        if not isinstance(observation, dict):
            raise UserError(f"{what} {type(observation).__name__}; its observation space is a Dict, return a dict")
        for name, entry in space.spaces.items():
            if name not in observation:
                raise UserError(f"{what} an observation without {name!r}, which its observation space has; add it")
            refuse_other_shape(observation[name], entry, f"{what} {name!r} as")
    elif isinstance(space, (spaces.Box, spaces.MultiDiscrete, spaces.MultiBinary)):
        given = f"{type(observation).__name__}" if isinstance(observation, (dict, tuple, str)) else ""
        if given or np.shape(observation) != space.shape:
            raise UserError(
                f"{what} {given or f'an array of shape {np.shape(observation)}'}; its space has shape {space.shape}, "
                "make the two agree"
            )


def _refuse_other_choices(space: spaces.MultiDiscrete) -> None:
    if space.nvec.ndim != 1 or space.start.any():
        raise UserError(f"{_text(space)} is not supported; use one dimension, and values from 0 on")


def _text(space: gymnasium.Space) -> str:
    """In one line, whatever arrays it is made of."""
    return " ".join(str(space).split())
