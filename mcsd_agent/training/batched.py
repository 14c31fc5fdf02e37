"""Environments that step all their episodes in one call, for stable-baselines3."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv

from mcsd_agent.errors import UserError


def has_batched(env_id: str) -> bool:
    """Whether an environment has a form of its own for many episodes, and its episodes begin anew by themselves."""
    spec = gymnasium.registry.get(env_id)
    if spec is None or spec.vector_entry_point is None:
        return False
    maker: Any = spec.vector_entry_point
    if isinstance(maker, str):
        maker = gymnasium.envs.registration.load_env_creator(maker)
    return getattr(maker, "metadata", {}).get("autoreset_mode") is AutoresetMode.SAME_STEP


class BatchedVecEnv(VecEnv):
    """A gymnasium `VectorEnv` as a stable-baselines3 `VecEnv`, with what a Monitor around each would report.

    `change_rewards` applies to the rewards that are learnt from; episodes are reported with their own.
    """

    def __init__(
        self,
        env_id: str,
        n_envs: int,
        seed: int | None = None,
        env_kwargs: dict[str, Any] | None = None,
        change_rewards: Callable[[np.ndarray], np.ndarray] = lambda rewards: rewards,
    ) -> None:
        try:
            self.env: Any = gymnasium.make_vec(
                env_id, n_envs, vectorization_mode="vector_entry_point", **(env_kwargs or {})
            )
        except (TypeError, ValueError) as error:
            raise UserError(f"environment {env_id!r} with {env_kwargs or {}}: {error}") from None
        super().__init__(n_envs, self.env.single_observation_space, self.env.single_action_space)
        self._change_rewards = change_rewards
        self._returns, self._lengths = np.zeros(n_envs), np.zeros(n_envs, np.int64)
        self._began = time.time()
        self.seed(seed)

    def reset(self) -> np.ndarray:
        """Begin all episodes, with the seeds of the last `seed`."""
        observations, _ = self.env.reset(seed=list(self._seeds))
        self._returns[:], self._lengths[:] = 0.0, 0
        self.reset_infos = [{} for _ in range(self.num_envs)]
        self._reset_seeds()
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """Remember what to do."""
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Do it in all episodes."""
        observations, rewards, terminated, truncated, batch = self.env.step(self._actions)
        dones = terminated | truncated
        self._returns += rewards
        self._lengths += 1
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(dones):
            own = {k: v[i].item() for k, v in batch.items() if f"_{k}" in batch and k != "final_obs"}
            infos[i] = {
                "TimeLimit.truncated": bool(truncated[i] and not terminated[i]),
                "episode": {
                    "r": round(float(self._returns[i]), 6),
                    "l": int(self._lengths[i]),
                    "t": round(time.time() - self._began, 6),
                },
                "terminal_observation": batch["final_obs"][i],
                **own,
            }
        self._returns[dones], self._lengths[dones] = 0.0, 0
        return observations, self._change_rewards(rewards).astype(np.float32), dones, infos

    def close(self) -> None:
        """Nothing is held open."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The batch's attribute, for each of the environments."""
        value = getattr(self.env, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refused: there are no single environments to change."""
        raise UserError(f"a batched environment has no {attr_name!r} per environment; choose vectorised='sync'")

    def env_method(self, method_name: str, *arguments: Any, indices: Any = None, **keywords: Any) -> list[Any]:
        """`get_state` and `set_state` of each environment; others are refused."""
        rows = list(self._get_indices(indices))
        if method_name == "get_state":
            states = self.env.unwrapped.get_states()
            return [{**states[i], "return": float(self._returns[i]), "length": int(self._lengths[i])} for i in rows]
        if method_name == "set_state":
            (state,) = arguments
            self._set_state(state, rows)
            return [None for _ in rows]
        raise UserError(f"a batched environment has no method {method_name!r}; choose vectorised='sync'")

    def env_is_wrapped(self, wrapper_class: type[gymnasium.Wrapper], indices: Any = None) -> list[bool]:
        """Episodes are reported as a Monitor does; there are no other wrappers."""
        return [issubclass(wrapper_class, Monitor) for _ in self._get_indices(indices)]

    def _set_state(self, state: dict[str, Any], rows: Sequence[int]) -> None:
        self.env.unwrapped.set_states([state] * len(rows), rows)
        self._returns[rows], self._lengths[rows] = state["return"], state["length"]
