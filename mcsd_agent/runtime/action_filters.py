"""From the action that the policy asks for to the one that is sent.

    1. bounds    clipped to the action space
    2. slew      no further from the action sent last than `slew_per_s` allows
    3. low-pass  y = y_last + (1 - exp(-period / low_pass_s)) * (action - y_last), with what was sent last as y_last
    4. hook      a function of the user's
    5. 1 and 2 again, when there is a hook: it may not do what the policy may not

The low-pass comes after the slew limit and moves less far than it, so that the limit holds for what is sent.
After a stop the machine counts as being at rest: all of this starts from `at_rest`, or zero. A stop itself passes no
filter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.runtime.action_limits import ActionLimits
from mcsd_agent.spaces import BoxSpec, DiscreteSpec, MultiDiscreteSpec, Spec

#: Takes the action (a copy, in physical units) and the observation by name, and returns the action to send.
ActionHook: TypeAlias = Callable[[np.ndarray, Mapping[str, Any]], Any]


class HookError(Exception):
    """The user's hook raised, or returned no action."""


class ActionFilters:
    """The chain. It keeps nothing from tick to tick: the action sent last is handed in."""

    def __init__(
        self,
        action: Spec,
        period_s: float,
        *,
        slew_per_s: Sequence[float] | None = None,
        low_pass_s: float | None = None,
        at_rest: Sequence[float] | None = None,
        hook: ActionHook | None = None,
    ) -> None:
        """Raises `UserError` for a slew limit or low-pass on discrete actions, which make no sense there."""
        self._action, self._hook = action, hook
        self._limits = ActionLimits(action, slew_per_s, period_s, at_rest)
        if low_pass_s is not None and not isinstance(action, BoxSpec):
            raise UserError(f"low_pass_s={low_pass_s} needs a Box action; the policy's is {action.kind}")
        self._share = None if low_pass_s is None else 1.0 - math.exp(-period_s / low_pass_s)
        self.at_rest = self._limits.at_rest
        self.check_sent = self._limits.check_sent

    def apply(self, asked: np.ndarray, last: np.ndarray | None, observation: Mapping[str, Any]) -> np.ndarray:
        """The action to send; `last` was sent before (None for discrete actions). Raises `HookError`."""
        action = self._limits.apply(asked, last)
        if self._share is not None and last is not None:
            smooth = (last + self._share * (action - last)).astype(np.float32)
            # From a rest outside the bounds the way leads through what may not be asked for.
            action = self._limits.approach(smooth, last)
        if self._hook is None:
            return action
        try:
            changed = self._hook(action.copy(), observation)
        except Exception as error:
            raise HookError(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
        return self._limits.apply(self._checked(changed), last)

    def _checked(self, changed: Any) -> np.ndarray:
        """What a hook returned, as an action."""
        wanted = "numbers" if isinstance(self._action, BoxSpec) else "integers"
        try:
            array = np.asarray(changed)
            good = array.shape == self._action.shape and array.dtype.kind in ("fiu" if wanted == "numbers" else "iu")
        except ValueError:  # a ragged list
            good = False
        if not good or not np.isfinite(array).all():
            raise HookError(f"the hook returned {changed!r:.80}; it must be {wanted} of shape {self._action.shape}")
        if isinstance(self._action, DiscreteSpec | MultiDiscreteSpec):
            counts = self._action.n if isinstance(self._action, DiscreteSpec) else np.asarray(self._action.nvec)
            if not ((array >= 0) & (array < counts)).all():
                raise HookError(f"the hook returned {array.tolist()}, which is no action of the policy's")
        return array
