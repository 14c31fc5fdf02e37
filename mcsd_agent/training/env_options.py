"""What may be changed about any environment: what is seen of it, how often, and what its rewards are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium.wrappers import TimeLimit, TransformReward

from envs.frames import FrameSkip, ResizeImages
from envs.positions import position_entries
from envs.previous_inputs import PreviousInputs
from envs.wrappers import HideVelocity
from mcsd_agent.errors import UserError


@dataclass(frozen=True)
class EnvOptions:
    """Changes to an environment, in the order of the fields; the defaults change nothing.

    hide_velocity  leave velocities out of a vector observation, where it is known which entries they are
    keep           the entries of a vector observation that stay, by index: for any other environment
    frame_skip     ticks that each action is held; their rewards add up
    grayscale      images of three channels to one
    resize         images to (height, width) pixels
    time_limit     truncate after so many of the policy's steps, in place of the environment's own limit
    previous_action, previous_reward
                   what was done in the step before, and what it earned, as entries of the observation
    reward_scale   factor on rewards, for training
    clip_reward    then clip them to [-clip_reward, clip_reward], for training
    """

    hide_velocity: bool = False
    keep: tuple[int, ...] | None = None
    frame_skip: int = 1
    grayscale: bool = False
    resize: tuple[int, int] | None = None
    time_limit: int | None = None
    previous_action: bool = False
    previous_reward: bool = False
    reward_scale: float = 1.0
    clip_reward: float | None = None

    def __post_init__(self) -> None:
        if self.hide_velocity and self.keep is not None:
            raise UserError(
                f"options.hide_velocity and options.keep={list(self.keep)} exclude each other; drop hide_velocity"
            )
        if self.keep is not None and (not self.keep or min(self.keep) < 0 or len(set(self.keep)) < len(self.keep)):
            raise UserError(f"options.keep={list(self.keep)} must be distinct indices from 0 on, at least one")
        if self.frame_skip < 1:
            raise UserError(f"options.frame_skip={self.frame_skip} must be at least 1 tick")
        if self.resize is not None and min(self.resize) < 8:
            raise UserError(f"options.resize={list(self.resize)} must be at least [8, 8] pixels, [height, width]")
        if self.time_limit is not None and self.time_limit < 1:
            raise UserError(f"options.time_limit={self.time_limit} must be at least 1 step, or null for none")
        if not np.isfinite(self.reward_scale) or self.reward_scale <= 0:
            raise UserError(f"options.reward_scale={self.reward_scale} must be finite and above 0")
        if self.clip_reward is not None and not self.clip_reward > 0:
            raise UserError(f"options.clip_reward={self.clip_reward} must be above 0, or null for none")

    def without_rewards(self) -> EnvOptions:
        """The same with the environment's own rewards: for evaluation, and for reporting while training."""
        return replace(self, reward_scale=1.0, clip_reward=None)


def apply_options(env: gymnasium.Env, options: EnvOptions) -> gymnasium.Env:
    """`env` wrapped as `options` says; `UserError` where the environment does not allow it."""
    for wrap in (_velocities, _images, _time, _previous, change_rewards):
        env = wrap(env, options)
    return env


def change_rewards(env: gymnasium.Env, options: EnvOptions) -> gymnasium.Env:
    """The reward options alone."""
    if options.reward_scale == 1.0 and options.clip_reward is None:
        return env
    return TransformReward(env, reward_function(options))


def reward_function(options: EnvOptions) -> Callable[[Any], Any]:
    """Scales and clips one reward, or an array of them."""
    scale, bound = options.reward_scale, options.clip_reward
    if bound is None:
        return lambda reward: reward * scale
    return lambda reward: np.clip(reward * scale, -bound, bound)


def _velocities(env: gymnasium.Env, options: EnvOptions) -> gymnasium.Env:
    keep = options.keep
    if options.hide_velocity:
        keep = position_entries(env)
        if keep is None:
            name = env.spec.id if env.spec is not None else str(env)
            raise UserError(
                f"options.hide_velocity: it is not known which entries of {name!r} are velocities; "
                "list the entries to see as options.keep=[0, 2, ...]"
            )
    if keep is None:
        return env
    try:
        return HideVelocity(env, keep)
    except ValueError as error:
        raise UserError(f"options.keep={list(keep)}: {error}") from None


def _images(env: gymnasium.Env, options: EnvOptions) -> gymnasium.Env:
    if not options.grayscale and options.resize is None:
        return env
    try:
        return ResizeImages(env, options.resize, options.grayscale)
    except ValueError as error:
        raise UserError(f"options.resize, options.grayscale: {error}; leave them out") from None


def _time(env: gymnasium.Env, options: EnvOptions) -> gymnasium.Env:
    if options.frame_skip > 1:
        env = FrameSkip(env, options.frame_skip)
    return env if options.time_limit is None else TimeLimit(env, options.time_limit)


def _previous(env: gymnasium.Env, options: EnvOptions) -> gymnasium.Env:
    if not options.previous_action and not options.previous_reward:
        return env
    try:
        return PreviousInputs(env, options.previous_action, options.previous_reward)
    except ValueError as error:
        raise UserError(f"options.previous_action, options.previous_reward: {error}") from None
