"""Spaces that a policy cannot read or act in, refused before anything is built for them."""

from __future__ import annotations

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
        raise UserError(f"actions {_text(action)} must have finite bounds; wrap the environment in RescaleAction")
    spec_from_space(action)


def _refuse_other_choices(space: spaces.MultiDiscrete) -> None:
    if space.nvec.ndim != 1 or space.start.any():
        raise UserError(f"{_text(space)} is not supported; use one dimension, and values from 0 on")


def _text(space: gymnasium.Space) -> str:
    """In one line, whatever arrays it is made of."""
    return " ".join(str(space).split())
