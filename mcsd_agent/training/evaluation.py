"""How well a policy does on seeds it has not seen: success with an interval, return, length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcsd_agent.policy import Policy
from mcsd_agent.training.env_options import EnvOptions
from mcsd_agent.training.environments import make_env
from mcsd_agent.training.episodes import Episode, PolicyActor, run_episodes
from mcsd_agent.training.statistics import Rate, mean_interval


@dataclass(frozen=True)
class Evaluation:
    """One group of episodes."""

    group: str
    episodes: int
    success: Rate | None
    mean_return: float
    return_interval: tuple[float, float]
    mean_length: float

    def to_json(self) -> dict[str, Any]:
        """Plain values for files and `--json`."""
        result: dict[str, Any] = {"group": self.group, "episodes": self.episodes}
        if self.success is not None:
            result |= {"success": self.success.value, "success_interval_95": list(self.success.interval)}
        return result | {
            "return_mean": self.mean_return,
            "return_interval_95": list(self.return_interval),
            "length_mean": self.mean_length,
        }

    def __str__(self) -> str:
        success = "" if self.success is None else f"success {self.success}, "
        low, high = self.return_interval
        return (
            f"{self.group}: {success}return {self.mean_return:.2f} [{low:.2f}, {high:.2f}], "
            f"length {self.mean_length:.0f}, {self.episodes} episodes"
        )


def summarise(group: str, episodes: list[Episode]) -> Evaluation:
    """The figures of finished episodes."""
    known = [e.success for e in episodes if e.success is not None]
    mean, low, high = mean_interval([e.total_reward for e in episodes])
    return Evaluation(
        group,
        len(episodes),
        Rate(sum(known), len(known)) if known else None,
        mean,
        (low, high),
        float(np.mean([len(e) for e in episodes])),
    )


def evaluate(
    policy: Policy,
    env_id: str,
    env_kwargs: dict[str, Any],
    options: EnvOptions = EnvOptions(),  # noqa: B008 -- frozen
    *,
    episodes: int,
    seed: int,
    groups: dict[str, dict[str, Any]] | None = None,
    parallel: int = 50,
    on_episode: Callable[[Episode], None] = lambda episode: None,
) -> list[Evaluation]:
    """`episodes` episodes per group with the most probable actions, on seeds `seed, seed + 1, …`.

    Returns are of the environment's own rewards, whatever `options` made of them for training.
    """
    results = []
    for name, changes in (groups or {"all": {}}).items():
        kwargs = {**env_kwargs, **changes}
        finished = run_episodes(
            lambda kwargs=kwargs: make_env(env_id, kwargs, options.without_rewards()),  # type: ignore[misc]
            lambda batch: PolicyActor(policy, batch),
            range(seed, seed + episodes),
            parallel=parallel,
            on_episode=on_episode,
        )
        results.append(summarise(name, finished))
    return results
