"""What may be sent: actions within bounds, and no faster change than the machine allows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.spaces import BoxSpec, Spec


class ActionLimits:
    """Clips to the action space and limits the change from the action that was sent last.

    `at_rest` is the action of a machine that stands still, in the policy's units as all of this: the slew leads from
    there into the bounds, even where it lies outside them. None is zero, and the bounds hold from the first action on.
    Discrete actions pass as they are; limits for them make no sense and are refused.
    """

    def __init__(
        self,
        action: Spec,
        slew_per_s: Sequence[float] | None,
        period_s: float,
        at_rest: Sequence[float] | None = None,
    ) -> None:
        self._box = action if isinstance(action, BoxSpec) else None
        if self._box is None:
            for name, values in (("slew_per_s", slew_per_s), ("at_rest", at_rest)):
                if values is not None:
                    raise UserError(f"{name}={list(values)} needs a Box action; the policy's is {action.kind}")
            return
        self._low, self._high = self._box.bounds()
        self._least, self._most = self._low, self._high
        self._step: np.ndarray | None = None
        self._rest = np.zeros(self._box.shape, np.float32)
        if slew_per_s is not None:
            self._step = _per_entry("slew_per_s", slew_per_s, self._box) * period_s
        if at_rest is not None:
            self._rest = _per_entry("at_rest", at_rest, self._box).astype(np.float32)
            self._least, self._most = np.minimum(self._low, self._rest), np.maximum(self._high, self._rest)

    def at_rest(self) -> np.ndarray | None:
        """The action that a stopped machine is carrying out. None for discrete actions."""
        return None if self._box is None else self._rest.copy()

    def apply(self, asked: np.ndarray, last: np.ndarray | None) -> np.ndarray:
        """`asked` within bounds, no further from `last` than one tick allows."""
        if self._box is None:
            return asked
        action = _clip(asked, self._low, self._high)
        return action.astype(np.float32) if self._step is None else self.approach(action, last)

    def approach(self, action: np.ndarray, last: np.ndarray | None) -> np.ndarray:
        """`action`, which may be on the way from rest into the bounds, no further from `last` than one tick allows."""
        if self._box is None:
            return action
        if self._step is not None and last is not None:
            action = _clip(action, last - self._step, last + self._step)
        # The bounds have the last word, widened to the rest that was stated.
        return _clip(action, self._least, self._most).astype(np.float32)

    def check_sent(self, sent: np.ndarray) -> np.ndarray:
        """What a robot says it sent, as an array; `ValueError` when it cannot be an action."""
        if self._box is None:
            return np.asarray(sent)
        array = np.array(sent, np.float32)
        if array.shape != self._box.shape or not np.isfinite(array).all():
            raise ValueError(f"send() returned {array.tolist()}, which is no action of shape {self._box.shape}")
        return array


def _per_entry(name: str, values: Sequence[float], box: BoxSpec) -> np.ndarray:
    """One value for all entries, or one each, in the action's shape; float64."""
    if len(values) not in (1, box.size):
        raise UserError(f"{name}={list(values)} must have 1 or {box.size} values, one per action entry")
    return np.broadcast_to(np.asarray(values, np.float64), (box.size,)).reshape(box.shape)


def _clip(action: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """`np.clip` in a third of its time."""
    return np.minimum(np.maximum(action, low), high)
