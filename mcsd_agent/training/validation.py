"""Which policy of a run is kept: the one that did best on seeds that neither training nor the final evaluation uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mcsd_agent.policy import Policy

#: A policy's share of successes, or whatever else is better when it is larger.
Score = Callable[[Policy], float]


class Validation:
    """Tries a policy now and then; remembers the weights that were best, the later ones of equals.

    `patience` is how many tries in a row may bring nothing better before training should end; 0 is no limit.
    """

    def __init__(self, score: Score, patience: int = 0) -> None:
        self.score, self.patience = score, patience
        self.best: float | None = None
        self.in_vain = 0
        self._weights: dict[str, Any] = {}

    @property
    def should_end(self) -> bool:
        """Whether patience has run out."""
        return self.patience > 0 and self.in_vain >= self.patience

    def try_out(self, policy: Policy) -> float:
        """The policy's score."""
        found = self.score(policy)
        self.in_vain = 0 if self.best is None or found > self.best else self.in_vain + 1
        if self.best is None or found >= self.best:
            self.best = found
            self._weights = {k: v.clone() for k, v in policy.state_dict().items()}
        return found

    def restore(self, policy: Policy) -> None:
        """Give a policy the best weights, if any were tried."""
        if self._weights:
            policy.load_state_dict(self._weights)
