"""Environments that can be stopped and gone on with: their state out, their state in, found out by trial.

Two methods. `state` reads the environment and its wrappers: by their own `get_state` and `set_state` where they
have them, else attribute by attribute (`plain_state`). `replay` keeps what was there before the episode's reset,
and the actions since, and does them again: that serves every environment whose episodes follow from its random
generator and its actions. Which one is right is not assumed: `find_method` tries both on scratch environments.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from mcsd_agent.training import plain_state
from mcsd_agent.training.episodes import action_masks

Method = Literal["state", "replay", "batched"]

_STEPS = 40
_WARM_UP = (55, 9)  # steps before the snapshot, and in the environment that it is put into


class RestorableEnv(gymnasium.Wrapper):
    """Around the environment and what changes it, in whichever process: `vec_env.env_method("get_state")`.

    Example:
        >>> first, second = (RestorableEnv(gymnasium.make("CartPole-v1"), "state") for _ in range(2))
        >>> _ = first.reset(seed=1), second.reset(seed=2)
        >>> second.set_state(first.get_state())
        >>> bool((first.step(0)[0] == second.step(0)[0]).all())
        True
    """

    def __init__(self, env: gymnasium.Env, method: Method = "state") -> None:
        super().__init__(env)
        self.method = method
        self._before_reset: dict[str, Any] = {}
        self._reset_arguments: dict[str, Any] = {}
        self._actions: list[Any] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As the environment's."""
        if self.method == "replay":
            self._before_reset = self._read()
            self._reset_arguments, self._actions = {"seed": seed, "options": options}, []
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the environment's."""
        if self.method == "replay":
            self._actions.append(copy.copy(action))
        return self.env.step(action)

    def get_state(self) -> dict[str, Any]:
        """Plain values and tensors; `plain_state.NotPlain` when something needed cannot be stored."""
        if self.method == "state":
            return {"method": "state", "levels": self._read()}
        uniform = len({(getattr(a, "dtype", None), np.shape(a)) for a in self._actions}) == 1
        actions = np.stack(self._actions) if uniform and not isinstance(self._actions[0], dict) else self._actions
        return {
            "method": "replay",
            "levels": self._before_reset,
            "reset": plain_state.encode(self._reset_arguments),
            "actions": plain_state.encode(actions),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on where `get_state` was called; the environment must have been reset once."""
        self._write(state["levels"])
        if state["method"] == "replay":
            self.reset(**plain_state.decode(state["reset"]))
            for action in plain_state.decode(state["actions"]):
                self.step(action)

    def _read(self) -> dict[str, Any]:
        return {str(depth): _read_level(env) for depth, env in enumerate(_levels(self.env))}

    def _write(self, levels: dict[str, Any]) -> None:
        for depth, env in enumerate(_levels(self.env)):
            own = levels[str(depth)]
            if own["own"]:
                env.set_state(plain_state.decode(own["state"]))  # type: ignore[attr-defined]
            else:
                plain_state.restore(env, own["state"])


def _levels(env: gymnasium.Env) -> Iterator[gymnasium.Env]:
    """The wrappers from the outermost inwards, and the environment itself."""
    yield env
    while isinstance(env, gymnasium.Wrapper):
        env = env.env
        yield env


def _read_level(env: Any) -> dict[str, Any]:
    # only their own: a wrapper may hand on the names of what it wraps
    if all(callable(getattr(type(env), name, None)) for name in ("get_state", "set_state")):
        return {"own": True, "state": plain_state.encode(env.get_state())}
    return {"own": False, "state": plain_state.snapshot(env)}


# ------------------------------------------------------------------------------------------------ trial


@dataclass(frozen=True)
class Restorability:
    """The method that restores an environment exactly, None where none does, and why not."""

    method: Method | None
    reason: str = ""


def find_method(make: Callable[[], gymnasium.Env]) -> Restorability:
    """Try each method: a fresh environment that is given another's state must go on like that one, bit for bit."""
    reasons = []
    methods: tuple[Method, ...] = ("state", "replay")
    for method in methods:
        problem = _trial(make, method)
        if problem is None:
            return Restorability(method)
        reasons.append(f"{method}: {problem}")
    return Restorability(None, "; ".join(reasons))


def try_batched(make: Callable[[int], VecEnv]) -> Restorability:
    """The same trial for environments that step all their episodes in one call; `make` takes the first seed."""
    first, second = make(0), make(1000)
    sample = copy.deepcopy(first.action_space)
    sample.seed(0)

    def step(vec: VecEnv, actions: list[Any]) -> Any:
        return vec.step(np.asarray(actions))

    try:
        for vec, steps in zip((first, second), _WARM_UP, strict=True):
            vec.reset()
            for _ in range(steps):
                step(vec, [sample.sample() for _ in range(vec.num_envs)])
        states = plain_state.decode(_written_and_read(plain_state.encode(first.env_method("get_state"))))
        for index, state in enumerate(states):
            second.env_method("set_state", state, indices=index)
        for k in range(_STEPS):
            actions = [sample.sample() for _ in range(first.num_envs)]
            if not _same(step(first, actions), step(second, actions)):
                return Restorability(None, f"step {k + 1} after restoring gave another result")
    except Exception as error:
        return Restorability(None, f"{type(error).__name__}: {' '.join(str(error).split())}")
    finally:
        first.close()
        second.close()
    return Restorability("batched")


def _trial(make: Callable[[], gymnasium.Env], method: Method) -> str | None:
    """What differed, or None."""
    pair = [RestorableEnv(make(), method) for _ in range(2)]
    sample = copy.deepcopy(pair[0].action_space)
    sample.seed(0)
    try:
        for seed, (env, steps) in enumerate(zip(pair, _WARM_UP, strict=True)):
            env.reset(seed=seed)
            for k in range(steps):
                if _ends(env.step(_action(env, sample))) or k == steps // 2:
                    env.reset()
        first, second = pair
        second.set_state(_written_and_read(first.get_state()))
        for k in range(_STEPS):
            action = _action(first, sample)
            results = [env.step(copy.copy(action)) for env in pair]
            if not _same(*results):
                return f"step {k + 1} after restoring gave another result"
            # what the next episode begins with comes from the random generator
            if (_ends(results[0]) or k == _STEPS // 2) and not _same(first.reset(), second.reset()):
                return "the next episode began otherwise"
    except Exception as error:  # whatever an environment raises: it is one that cannot be restored
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    finally:
        for env in pair:
            env.close()
    return None


def _ends(result: tuple[Any, ...]) -> bool:
    return bool(result[2] or result[3])


def _action(env: gymnasium.Wrapper, space: gymnasium.Space) -> Any:
    known = action_masks(env)
    if known is None:
        return space.sample()
    mask = known.astype(np.int8)
    if isinstance(space, spaces.MultiDiscrete):
        return space.sample(mask=tuple(np.split(mask, np.cumsum(space.nvec.ravel())[:-1])))
    if isinstance(space, spaces.MultiBinary):  # 0 or 1 is what an entry has to be, 2 leaves it open
        no, yes = mask.reshape(-1, 2).T
        mask = np.where(no & yes, 2, yes).astype(np.int8)
    return space.sample(mask=mask)


def _written_and_read(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def _same(a: Any, b: Any) -> bool:
    """Equal in all numbers, arrays and texts; wall-clock times ("t" of Monitor) and objects are not compared."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(v, b[k]) for k, v in a.items() if k != "t")
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, (np.ndarray, np.generic, int, float)):
        first, second = np.asarray(a), np.asarray(b)
        if first.dtype == object:
            return True
        return first.shape == second.shape and np.array_equal(first, second, equal_nan=first.dtype.kind in "fc")
    return a == b if isinstance(a, str) else True
