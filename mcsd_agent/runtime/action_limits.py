"""What may be sent: actions within bounds, and no faster change than the machine allows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.spaces import BoxSpec, Spec


class ActionLimits:
    """Clips to the action space and limits the change from the action that was sent last.

    Discrete actions pass as they are; a slew limit for them makes no sense and is refused.
    """

    def __init__(self, action: Spec, slew_per_s: Sequence[float] | None, period_s: float) -> None:
        self._box = action if isinstance(action, BoxSpec) else None
        if self._box is None:
            if slew_per_s is not None:
                raise UserError(f"slew_per_s={list(slew_per_s)} needs a Box action; the policy's is {action.kind}")
            return
        self._low, self._high = self._box.bounds()
        self._step: np.ndarray | None = None
        if slew_per_s is not None:
            if len(slew_per_s) not in (1, self._box.size):
                raise UserError(
                    f"slew_per_s={list(slew_per_s)} must have 1 or {self._box.size} values, one per action entry"
                )
            step = np.asarray(slew_per_s, np.float64) * period_s
            self._step = np.broadcast_to(step, (self._box.size,)).reshape(self._box.shape)

    def at_rest(self) -> np.ndarray | None:
        """The action that a stopped machine is carrying out: zero. None for discrete actions."""
        return None if self._box is None else np.zeros(self._box.shape, np.float32)

    def apply(self, asked: np.ndarray, last: np.ndarray | None) -> np.ndarray:
        """`asked` within bounds, no further from `last` than one tick allows."""
        if self._box is None:
            return asked
        action = _clip(asked, self._low, self._high)
        if self._step is not None and last is not None:
            action = _clip(action, last - self._step, last + self._step)
            # The bounds have the last word: a machine at rest may lie outside them.
            action = _clip(action, self._low, self._high)
        return action.astype(np.float32)

    def check_sent(self, sent: np.ndarray) -> np.ndarray:
        """What a robot says it sent, as an array; `ValueError` when it cannot be an action."""
        if self._box is None:
            return np.asarray(sent)
        array = np.array(sent, np.float32)
        if array.shape != self._box.shape or not np.isfinite(array).all():
            raise ValueError(f"send() returned {array.tolist()}, which is no action of shape {self._box.shape}")
        return array


def _clip(action: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """`np.clip` in a third of its time."""
    return np.minimum(np.maximum(action, low), high)
