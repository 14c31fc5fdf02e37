"""Environments and experts by name, one or many at once."""

from __future__ import annotations

import copy
import importlib
import inspect
import multiprocessing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import gymnasium
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

import envs
from envs.flat_names import FlatNames, is_nested
from envs.fresh_info import FreshInfo
from envs.grid_views import SymbolicView, is_symbolic
from mcsd_agent.errors import UserError, nearest
from mcsd_agent.runtime.text_encoders import TextEncoder
from mcsd_agent.training.batched import BatchedVecEnv, has_batched
from mcsd_agent.training.env_options import EnvOptions, apply_options, change_rewards, reward_function
from mcsd_agent.training.instructions import EncodeInstruction, encoder_for
from mcsd_agent.training.usable_spaces import refuse_other_shape

if TYPE_CHECKING:
    from mcsd_agent.training.episodes import Expert

#: How many environments are stepped: one after the other, in a process each, or in one NumPy call.
Vectorised = Literal["sync", "async", "batched"]

#: Package and extra that bring the environments whose ids begin so.
_EXTRAS = {"popgym-": "popgym", "MiniGrid-": "minigrid", "BabyAI-": "minigrid"}

_RESET_RETURNS = ("observation", "info")
_STEP_RETURNS = ("observation", "reward", "terminated", "truncated", "info")


def make_env(
    env_id: str,
    env_kwargs: dict[str, Any] | None = None,
    options: EnvOptions = EnvOptions(),  # noqa: B008 -- frozen
    **make_kwargs: Any,
) -> gymnasium.Env:
    """`gymnasium.make` with one clear line for an unknown id or an argument the environment refuses.

    Observations that policies do not read as they are get a form that they read: Tuples and nested Dicts
    become one flat Dict (`envs.flat_names`), MiniGrid's view a row of numbers (`envs.grid_views`).
    """
    _import_extra(env_id)
    if options.time_limit is not None:
        make_kwargs = {"max_episode_steps": -1, **make_kwargs}  # -1: not the limit that the environment came with
    try:
        env = gymnasium.make(env_id, disable_env_checker=True, **make_kwargs, **(env_kwargs or {}))
    except (TypeError, ValueError, gymnasium.error.Error, ImportError, OSError) as error:
        raise UserError(f"environment {env_id!r} with {env_kwargs or {}}: {' '.join(str(error).split())}") from None
    if "popgym-" in env_id:
        env = FreshInfo(env)  # some hand out one dict for all ticks, which Monitor and SB3 write into
    if is_nested(env.observation_space):
        env = FlatNames(env)
    if is_symbolic(env.observation_space):
        env = SymbolicView(env)
    return apply_options(env, options)


def make_vec(
    env_id: str,
    env_kwargs: dict[str, Any] | None = None,
    options: EnvOptions = EnvOptions(),  # noqa: B008 -- frozen
    n_envs: int = 1,
    seed: int | None = None,
    vectorised: Vectorised = "sync",
    wrapper: Callable[[gymnasium.Env], gymnasium.Env] | None = None,
    encoder: TextEncoder | None = None,
) -> VecEnv:
    """`n_envs` environments, the i-th with seed `seed + i`, each in a Monitor that reports its own rewards.

    `options` may change the rewards that are learnt from, not those that are reported. Text is encoded by `encoder`,
    else to ids of the words that the environment says. `wrapper` comes outermost. `batched` is for environments with a
    form of their own for many episodes, as in `envs.vector_memory`.
    """
    if n_envs < 1:
        raise UserError(f"n_envs={n_envs} must be at least 1")
    if vectorised == "batched":
        if not has_batched(env_id):
            raise UserError(f"vectorised='batched': {env_id!r} has no such form; choose 'sync' or 'async'")
        if wrapper is not None or options.without_rewards() != EnvOptions():
            raise UserError("vectorised='batched' takes reward options only; choose 'sync' for wrappers and others")
        return BatchedVecEnv(env_id, n_envs, seed, env_kwargs or {}, reward_function(options))
    if vectorised not in ("sync", "async"):
        raise UserError(f"vectorised={vectorised!r} is not valid; choose 'sync', 'async' or 'batched'")
    probe = make_env(env_id, env_kwargs, options)  # bad input is reported here, not by a process that dies
    if n_envs > 1 and probe.metadata.get("real_time"):
        raise UserError(f"n_envs={n_envs}: {env_id!r} is one robot, in real time; set n_envs=1")
    encoder = encoder or encoder_for(probe)
    probe.close()

    def make_one() -> gymnasium.Env:
        env = make_env(env_id, env_kwargs, options.without_rewards())
        if encoder is not None:
            env = EncodeInstruction(env, encoder)
        env = change_rewards(Monitor(env), options)
        return env if wrapper is None else wrapper(env)

    if vectorised == "sync":
        vec_env: VecEnv = DummyVecEnv([make_one] * n_envs)
    else:
        # Processes are copies of one that has imported everything already, and that has no threads to lose.
        multiprocessing.set_forkserver_preload([__name__])
        vec_env = SubprocVecEnv([make_one] * n_envs, start_method=_start_method())
    vec_env.seed(seed)
    return vec_env


def try_environment(env_id: str, env_kwargs: dict[str, Any] | None = None, options: EnvOptions | None = None) -> None:
    """One reset and one step of a scratch environment: `UserError` that names what is not as Gymnasium and the
    environment's own space say. A robot in real time is not moved.
    """
    env = make_env(env_id, env_kwargs, (options or EnvOptions()).without_rewards())
    try:
        if env.metadata.get("real_time"):
            return
        # First without wrappers, which take apart what they are given and fail where it is something else.
        own = env.unwrapped
        _check_reset_arguments(own, env_id)
        _check_result(own.reset(seed=0, options=None), _RESET_RETURNS, f"{env_id}: reset")
        action = copy.deepcopy(env.action_space)
        action.seed(0)
        can_step = not env.has_wrapper_attr("action_masks")  # any action may then be one that it forbids
        if can_step:
            _check_result(own.step(action.sample()), _STEP_RETURNS, f"{env_id}: step")
        refuse_other_shape(env.reset(seed=0)[0], env.observation_space, f"{env_id}: reset returns")
        if can_step:
            refuse_other_shape(env.step(action.sample())[0], env.observation_space, f"{env_id}: step returns")
    finally:
        env.close()


def _check_reset_arguments(env: gymnasium.Env, env_id: str) -> None:
    parameters = inspect.signature(env.reset).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if not takes_any and not {"seed", "options"} <= parameters.keys():
        raise UserError(f"{env_id}: reset({', '.join(parameters)}) must be reset(*, seed=None, options=None)")


def _check_result(result: Any, names: tuple[str, ...], what: str) -> None:
    """A tuple of so many, the last one a dict."""
    if not isinstance(result, tuple):
        given = type(result).__name__
    elif len(result) != len(names):
        given = f"{len(result)} values"
    elif not isinstance(result[-1], dict):
        given = f"{type(result[-1]).__name__} as info"
    else:
        return
    raise UserError(f"{what} returns {given}; it must return ({', '.join(names)}), with info a dict")


def make_expert(env_id: str, expert: str = "scripted", env: gymnasium.Env | None = None) -> Expert:
    """The expert named `expert` for an environment: `scripted`, or one that looks into `env` itself.

    `babyai-bot` is the bot of BabyAI's levels, `metaworld` are the scripts of Meta-World's tasks.
    """
    try:
        if expert == "babyai-bot":
            from envs.babyai import BotExpert

            return BotExpert(make_env(env_id) if env is None else env)
        if expert == "metaworld":
            from envs.metaworld_expert import MetaWorldExpert

            if env is None:
                raise ValueError("it looks into the environment that it drives; give it that")
            return MetaWorldExpert(env)
        if expert != "scripted":
            raise UserError(f"unknown expert {expert!r}; choose 'scripted', 'babyai-bot' or 'metaworld'")
        return envs.make_expert(env_id, env)
    except (KeyError, ValueError) as error:
        raise UserError(f"environment {env_id!r} has no {expert} expert: {error}") from None
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("minigrid", "metaworld"):
            raise
        raise UserError(
            f"expert {expert!r} needs the package {package}; run: pip install 'mcsd-agent[{package}]'"
        ) from None


def _start_method() -> str:
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def _import_extra(env_id: str) -> None:
    """Register the environments of an optional package; `UserError` for an id that nothing registers."""
    module, _, name = env_id.rpartition(":")
    package = next((p for prefix, p in _EXTRAS.items() if name.startswith(prefix)), None)
    if package is not None and module in ("", package):
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            if error.name != package:
                raise
            raise UserError(
                f"environment {env_id!r} needs the package {package}; run: pip install 'mcsd-agent[{package}]'"
            ) from None
    if not module and name not in gymnasium.registry:
        namespace, slash, _ = name.rpartition("/")
        if slash and not any(known.startswith(f"{namespace}/") for known in gymnasium.registry):
            raise UserError(
                f"unknown environment {env_id!r}: nothing that is imported registers {namespace}/; put the module that "
                f"does before it, as in module:{name}"
            )
        raise UserError(f"unknown environment {env_id!r}{nearest(env_id, gymnasium.registry)}")
