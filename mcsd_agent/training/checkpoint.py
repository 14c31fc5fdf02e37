"""All that the rest of a run depends on, between two updates: in, and out again.

The algorithm gives and takes its own part (`resume_state`); here are the environments and what wraps them
(`VecNormalize` for one), the random generators, and the values that the log has not written yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from mcsd_agent.errors import UserError
from mcsd_agent.policy import Policy
from mcsd_agent.training import plain_state
from mcsd_agent.training.random_state import random_state, set_random_state

#: Attributes of `Monitor` for the episode under way.
_MONITORED = ("rewards", "needs_reset", "total_steps")
#: Seeds of new episodes, where environments cannot be restored: apart from those that a run begins with.
_FRESH_SEEDS = 500_000_000


class Learner(Protocol):
    """What a checkpoint needs of an algorithm, beyond what stable-baselines3 gives."""

    num_timesteps: int

    @property
    def sequence_policy(self) -> Policy:
        """The network that is deployed."""
        ...

    def resume_state(self) -> dict[str, Any]:
        """Tensors and plain values."""
        ...

    def set_resume_state(self, state: dict[str, Any]) -> None:
        """Go on from them; `UserError` when they are of another policy."""
        ...


def checkpoint_of(model: Any, *, restorable: bool) -> dict[str, Any]:
    """Tensors and plain values; call it between two updates only."""
    env = model.get_env()
    logger = model.logger
    return {
        "timesteps": model.num_timesteps,
        "n_envs": env.num_envs,
        "policy": model.sequence_policy.state_dict(),
        "learner": model.resume_state(),
        "environments": plain_state.encode(env.env_method("get_state")) if restorable else None,
        "monitors": _monitored(env) if restorable else None,
        "wrappers": [plain_state.snapshot(w) for w in _wrappers(env)],
        "spaces": plain_state.encode({"action": model.action_space, "observation": model.observation_space}),
        # What an update recorded is written with the next rollout's figures.
        "log": plain_state.encode({"value": dict(logger.name_to_value), "count": dict(logger.name_to_count)}),
        "log_excluded": {k: list(v) for k, v in logger.name_to_excluded.items()},
        "random": random_state(),
    }


def restore_checkpoint(model: Any, checkpoint: dict[str, Any], *, seed: int) -> bool:
    """Go on where `checkpoint_of` was called; False when the environments had to begin new episodes.

    `model` is a fresh one of the same config, with its logger set. `learn(..., reset_num_timesteps=False)` then
    does what it would have done.
    """
    env = model.get_env()
    if checkpoint["n_envs"] != env.num_envs:
        raise UserError(
            f"n_envs={env.num_envs} must be that of the checkpoint, {checkpoint['n_envs']}; leave it as it was"
        )
    states = checkpoint["environments"]
    env.reset()  # builds whatever an environment builds at its first reset
    model.set_resume_state(checkpoint["learner"])
    _restore_wrappers(env, checkpoint["wrappers"])
    if states is None:
        env.seed(_FRESH_SEEDS + seed + checkpoint["timesteps"])
        model._last_obs = None  # `learn` then begins new episodes, by itself
    else:
        try:
            for index, state in enumerate(plain_state.decode(states)):
                env.env_method("set_state", state, indices=index)
                for name, values in checkpoint["monitors"].items():
                    env.env_method("set_wrapper_attr", name, values[index], indices=index)
        except plain_state.NotPlain as error:
            raise UserError(
                f"the checkpoint's environments are not those of the config ({error}); resume with the run's config"
            ) from None
    _restore_log(model, checkpoint)
    held = {"action": model.action_space, "observation": model.observation_space}
    plain_state.decode(checkpoint["spaces"], held)
    set_random_state(checkpoint["random"])
    return states is not None


def _monitored(env: VecEnv) -> dict[str, list[Any]]:
    try:
        return {k: env.get_attr(k) for k in _MONITORED}
    except AttributeError:  # reported by the vectorised environment itself, as part of its state
        return {}


def _wrappers(env: VecEnv) -> Iterator[VecEnvWrapper]:
    while isinstance(env, VecEnvWrapper):
        yield env
        env = env.venv


def _restore_wrappers(env: VecEnv, states: list[dict[str, Any]]) -> None:
    for wrapper, state in zip(_wrappers(env), states, strict=True):
        plain_state.restore(wrapper, state)


def _restore_log(model: BaseAlgorithm, checkpoint: dict[str, Any]) -> None:
    logger, log = model.logger, plain_state.decode(checkpoint["log"])
    logger.name_to_value.update(log["value"])
    logger.name_to_count.update(log["count"])
    logger.name_to_excluded.update({k: tuple(v) for k, v in checkpoint["log_excluded"].items()})
