"""Environments and experts by name."""

from __future__ import annotations

from typing import Any

import gymnasium

import envs
from mcsd_agent.errors import UserError, nearest
from mcsd_agent.training.episodes import Expert


def make_env(env_id: str, env_kwargs: dict[str, Any] | None = None, **make_kwargs: Any) -> gymnasium.Env:
    """`gymnasium.make` with one clear line for an unknown id or an argument the environment refuses."""
    name = env_id.split(":")[-1]
    if ":" not in env_id and name not in gymnasium.registry:
        raise UserError(f"unknown environment {env_id!r}{nearest(env_id, gymnasium.registry)}")
    try:
        return gymnasium.make(env_id, disable_env_checker=True, **make_kwargs, **(env_kwargs or {}))
    except (TypeError, ValueError, gymnasium.error.Error, ModuleNotFoundError) as error:
        raise UserError(f"environment {env_id!r} with {env_kwargs or {}}: {' '.join(str(error).split())}") from None


def make_expert(env_id: str, expert: str = "scripted") -> Expert:
    """The expert named `expert` for an environment; only `scripted` ones are built in."""
    if expert != "scripted":
        raise UserError(f"unknown expert {expert!r}; choose 'scripted'")
    try:
        return envs.make_expert(env_id)
    except (KeyError, ValueError) as error:
        raise UserError(f"environment {env_id!r} has no scripted expert: {error}") from None
