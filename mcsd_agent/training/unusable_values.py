"""Observations and rewards that nothing can be learnt from, refused before they reach an update."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from mcsd_agent.errors import UserError
from mcsd_agent.spaces import SINGLE


def refuse_unusable_step(
    env: VecEnv,
    observation: Any,
    rewards: np.ndarray,
    dones: np.ndarray,
    infos: list[dict[str, Any]],
    step: int,
    rollout_step: int | None = None,
) -> None:
    """`UserError` naming the environment and its step where a value of a vectorised step is not finite.

    `observation` is `(n_envs, *shape)` or a dict of such; `step` counts each environment's steps from 1. Final
    observations, of which values may be asked, count as well as those that new episodes begin with.
    """
    when = f"at step {step}" + ("" if rollout_step is None else f" (rollout step {rollout_step})")
    for i in np.flatnonzero(dones):
        final = {k: np.asarray(v)[None] for k, v in _entries(infos[i]["terminal_observation"]).items()}
        _refuse(final, when, first=int(i))
    if _bad({**_entries(observation), "reward": rewards}) is None:
        return
    normaliser = unwrap_vec_normalize(env)
    if normaliser is not None:  # one value that is not finite makes its statistics, and so all environments', bad
        _refuse({**_entries(normaliser.get_original_obs()), "reward": normaliser.get_original_reward()}, when)
    _refuse({**_entries(observation), "reward": rewards}, when)


def refuse_unusable_start(env: VecEnv, observation: Any) -> None:
    """The same for what all environments begin with."""
    if _bad(_entries(observation)) is None:
        return
    normaliser = unwrap_vec_normalize(env)
    if normaliser is not None:
        _refuse(_entries(normaliser.get_original_obs()), "at its reset")
    _refuse(_entries(observation), "at its reset")


def refuse_diverged(losses: Mapping[str, float]) -> None:
    """`UserError` naming the first of an update's losses that is not finite."""
    for name, value in losses.items():
        if not math.isfinite(value):
            raise UserError(
                f"the {name} of an update is {value}: training diverged; use a lower learning_rate or smaller rewards "
                "(VecNormalize, normalize_reward)"
            )


def _refuse(entries: dict[str, np.ndarray], when: str, first: int = 0) -> None:
    """Rows of `entries` are the environments from number `first` on."""
    bad = _bad(entries)
    if bad is not None:
        name, index = bad
        raise UserError(
            f"environment {first + index} gave a non-finite {name} {when}; training stopped before the update"
        )


def _bad(entries: dict[str, np.ndarray]) -> tuple[str, int] | None:
    """Name and row of the first value that is not finite."""
    for name, array in entries.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return name, int(np.argwhere(~np.isfinite(array))[0][0])
    return None


def _entries(observation: Any) -> dict[str, np.ndarray]:
    return observation if isinstance(observation, dict) else {SINGLE: np.asarray(observation)}
