"""The action before, for policies that were trained to see it; the controller knows it, no sensor needs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.spaces import BoxSpec, DiscreteSpec, MultiDiscreteSpec, Spec

#: The observation's name, as `envs.previous_inputs` gives it in training.
NAME = "previous_action"


class PreviousAction:
    """What was sent last. None before the first action of an episode and after a stop: zeros, or one value more
    than there are."""

    def __init__(self, observation: Mapping[str, Spec], action: Spec) -> None:
        self.wanted = NAME in observation
        self._none: Any = None
        if self.wanted:
            self._none = _none(observation[NAME], action)
        self.value = self._none

    def forget(self) -> None:
        """The machine stands: nothing was done."""
        self.value = self._none

    def set(self, sent: Any) -> None:
        """What was sent this tick."""
        self.value = sent


def _none(observed: Spec, action: Spec) -> Any:
    match observed, action:
        case BoxSpec(), BoxSpec() if observed.shape == action.shape:
            return np.zeros(action.shape, np.float32)
        case DiscreteSpec(), DiscreteSpec() if observed.n == action.n + 1:
            return action.n
        case MultiDiscreteSpec(), MultiDiscreteSpec() if observed.nvec == tuple(n + 1 for n in action.nvec):
            return np.array(action.nvec, np.int64)
    raise UserError(
        f"observation {NAME!r} is {observed.kind} of shape {observed.shape}, which does not fit the action, "
        f"{action.kind} of shape {action.shape}; train with the option previous_action"
    )
