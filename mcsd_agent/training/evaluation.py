"""How well a policy does on seeds it has not seen: success with an interval, return, length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from mcsd_agent.policy import Policy
from mcsd_agent.training.env_options import EnvOptions
from mcsd_agent.training.environments import make_env
from mcsd_agent.training.episodes import Episode, PolicyActor, run_episodes
from mcsd_agent.training.statistics import Rate, mean_interval
from mcsd_agent.training.success_scores import DoneRule, SuccessScores, score_success


@dataclass(frozen=True)
class Evaluation:
    """One group of episodes."""

    group: str
    episodes: int
    success: Rate | None
    mean_return: float
    return_interval: tuple[float, float]
    mean_length: float
    #: How many episodes ended for which reason, where the environment gives reasons.
    ended: dict[str, int] = field(default_factory=dict)
    #: Success by kind of instruction, where the environment tells kinds apart.
    kinds: dict[str, Rate] = field(default_factory=dict)
    #: Success where no demonstration began in the same way, when that was asked for.
    unlike_demonstrations: Rate | None = None
    #: How well success was predicted, where the policy predicts it.
    prediction: SuccessScores | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values for files and `--json`."""
        result: dict[str, Any] = {"group": self.group, "episodes": self.episodes}
        if self.success is not None:
            result |= {"success": self.success.value, "success_interval_95": list(self.success.interval)}
        return result | {
            "return_mean": self.mean_return,
            # of one value nothing is known but itself
            "return_interval_95": list(self.return_interval) if self.episodes > 1 else None,
            "length_mean": self.mean_length,
            **({"ended": self.ended} if self.ended else {}),
            **({"kinds": {k: _row(r) for k, r in self.kinds.items()}} if self.kinds else {}),
            **({"unlike_demonstrations": _row(self.unlike_demonstrations)} if self.unlike_demonstrations else {}),
            **({"success_prediction": self.prediction.to_json()} if self.prediction else {}),
        }

    def __str__(self) -> str:
        success = "" if self.success is None else f"success {self.success}, "
        low, high = self.return_interval
        interval = f" [{low:.2f}, {high:.2f}]" if self.episodes > 1 else ""
        return (
            f"{self.group}: {success}return {self.mean_return:.2f}{interval}, "
            f"length {self.mean_length:.0f}, {self.episodes} episodes"
            + ("; ended: " + ", ".join(f"{reason} {n}" for reason, n in self.ended.items()) if self.ended else "")
            + "".join(f"\n  {kind}: {rate}" for kind, rate in self.kinds.items() if len(self.kinds) > 1)
            + self._leakage()
            + (f"\n  {self.prediction}" if self.prediction else "")
        )

    def _leakage(self) -> str:
        unlike = self.unlike_demonstrations
        if unlike is None:
            return ""
        alike = self.episodes - unlike.trials
        rest = f"; the others: {unlike}" if alike and unlike.trials else ""
        return f"\n  {alike} of {self.episodes} began like a demonstration (same instruction, same first view){rest}"


def _row(rate: Rate) -> dict[str, Any]:
    value = rate.value if rate.trials else None  # JSON has no NaN
    return {"episodes": rate.trials, "success": value, "success_interval_95": list(rate.interval)}


def _rate(episodes: list[Episode]) -> Rate:
    return Rate(sum(bool(e.success) for e in episodes), len(episodes))


def summarise(
    group: str,
    episodes: list[Episode],
    is_like_demonstration: Callable[[Episode], bool] | None = None,
    done: DoneRule = DoneRule(),  # noqa: B008 -- frozen
) -> Evaluation:
    """The figures of finished episodes; `done` says from when on success counts as predicted."""
    known = [e.success for e in episodes if e.success is not None]
    mean, low, high = mean_interval([e.total_reward for e in episodes])
    return Evaluation(
        group,
        len(episodes),
        Rate(sum(known), len(known)) if known else None,
        mean,
        (low, high),
        float(np.mean([len(e) for e in episodes])),
        dict(Counter(e.ended for e in episodes if e.ended).most_common()),
        {k: _rate([e for e in episodes if e.kind == k]) for k in sorted({e.kind for e in episodes if e.kind})},
        None if is_like_demonstration is None else _rate([e for e in episodes if not is_like_demonstration(e)]),
        score_success(episodes, done),
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
    sampled: bool = False,
    is_like_demonstration: Callable[[Episode], bool] | None = None,
    done: DoneRule = DoneRule(),  # noqa: B008 -- frozen
) -> list[Evaluation]:
    """`episodes` episodes per group with the most probable actions, on seeds `seed, seed + 1, …`.

    `sampled` judges each group once more with actions drawn by their probability; `is_like_demonstration` tells
    episodes that begin like one from the others. Returns are of the environment's own rewards, whatever `options`
    made of them for training.
    """
    results = []
    for name, changes in (groups or {"all": {}}).items():
        kwargs = {**env_kwargs, **changes}
        for draws in (False, True) if sampled else (False,):
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                finished = run_episodes(
                    lambda kwargs=kwargs: make_env(env_id, kwargs, options.without_rewards()),  # type: ignore[misc]
                    lambda batch, draws=draws: PolicyActor(policy, batch, draws),  # type: ignore[misc]
                    range(seed, seed + episodes),
                    parallel=parallel,
                    on_episode=on_episode,
                )
            title = f"{name} sampled" if draws else name
            results.append(summarise(title, finished, is_like_demonstration, done))
    return results
