"""How well a policy predicts success: what it said of every observation, beside what the environment said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcsd_agent.runtime import ControllerConfig
from mcsd_agent.runtime.done import DoneWatch, ticks_of
from mcsd_agent.training.episodes import Episode
from mcsd_agent.training.statistics import Rate


@dataclass(frozen=True)
class DoneRule:
    """When an instruction is taken to be carried out: at `threshold` or more in `ticks` ticks in a row."""

    threshold: float = 0.8
    ticks: int = 5

    @classmethod
    def at_rate(cls, rate_hz: float | None) -> DoneRule:
        """What a controller does at that rate unless it is told otherwise; 10 Hz where none is known."""
        config = ControllerConfig()
        return cls(config.done_threshold, ticks_of(config.done_s, rate_hz or 10.0))


@dataclass(frozen=True)
class SuccessScores:
    """Over the episodes of one group.

    `accuracy`: how often the last observation was judged rightly, above or below the threshold.
    `noticed`: of the instructions that were carried out, those that were then said to be done. Where the episode does
    not go on for as many ticks as that takes, its last observation decides.
    `false_alarms`: of the episodes, those in which something was said to be done that was not.
    `delays`: for what was noticed, ticks from success to its being said.
    """

    rule: DoneRule
    accuracy: Rate
    noticed: Rate
    false_alarms: Rate
    delays: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; delays as median and 95th percentile, null where nothing was noticed."""
        half, most = np.percentile(self.delays, [50, 95]).tolist() if self.delays else (None, None)
        rates = {"accuracy": self.accuracy, "noticed": self.noticed, "false_alarms": self.false_alarms}
        return {
            "threshold": self.rule.threshold,
            "ticks": self.rule.ticks,
            **{name: rate.value if rate.trials else None for name, rate in rates.items()},
            **{f"{name}_interval_95": list(rate.interval) for name, rate in rates.items()},
            "delay_ticks_median": half,
            "delay_ticks_95": most,
        }

    def __str__(self) -> str:
        delay = ""
        if self.delays:
            half, most = np.percentile(self.delays, [50, 95])
            delay = f", after {half:.0f} ticks (95 %: {most:.0f})"
        noticed = f"noticed {self.noticed}{delay}" if self.noticed.trials else "nothing was carried out"
        return (
            f'"done" predicted: {noticed}; false alarms {self.false_alarms}; '
            f"last observation judged rightly {self.accuracy}"
        )


def score_success(episodes: Sequence[Episode], rule: DoneRule) -> SuccessScores | None:
    """The scores of what was predicted; None where nothing was, or the environment does not tell of success."""
    judged = [(e.achieved, e.predicted) for e in episodes if e.achieved is not None and e.predicted is not None]
    if not judged:
        return None
    right = sum(bool(said[-1] >= rule.threshold) == bool(truth[-1]) for truth, said in judged)
    alarms, noticed, carried_out = 0, 0, 0
    delays: list[int] = []
    for truth, said in judged:
        alarms += any(_first_done(said[a:b], rule) is not None for a, b in _runs(~truth))
        for a, b in _runs(truth):
            carried_out += 1
            first = _first_done(said[a:b], rule)
            if first is None and b == len(truth) and b - a < rule.ticks and said[-1] >= rule.threshold:
                first = b - a - 1
            if first is not None:
                noticed += 1
                delays.append(first)
    return SuccessScores(
        rule,
        Rate(right, len(judged)),
        Rate(noticed, carried_out),
        Rate(alarms, len(judged)),
        tuple(delays),
    )


def _first_done(said: np.ndarray, rule: DoneRule) -> int | None:
    watch = DoneWatch(rule.threshold, rule.ticks)
    return next((i for i, success in enumerate(said.tolist()) if watch.check(success)), None)


def _runs(where: np.ndarray) -> Iterator[tuple[int, int]]:
    """Begin and end of every stretch in which `where` holds."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], where, [False]]).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
