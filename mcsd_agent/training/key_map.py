"""What a person's keys, buttons and axes mean as actions.

An input is a key by its name ("up", "a", "space"), or `button0`, `hat_left`, `axis1` and the like of a gamepad; what
is held has a strength, 1 for keys and from -1 to 1 for axes. Continuous actions are sums of what is held; of
discrete ones the input that came last counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from mcsd_agent.errors import UserError
from mcsd_agent.strict import load_yaml

#: Sticks do not rest at 0 exactly.
DEAD_ZONE = 0.1

#: Down and up of each dimension in turn, and the stick's axis: up and left are negative there. The second is a turn,
#: which is positive to the left.
_PAIRS = (("down", "up", "axis1", -1.0), ("right", "left", "axis0", -1.0), ("s", "w", "axis3", -1.0))
_MORE_PAIRS = (("d", "a", "axis2", -1.0), ("q", "e", "axis4", 1.0), ("z", "x", "axis5", 1.0))

#: MiniGrid's actions: turn left, turn right, forward, pick up, drop, toggle, done.
_GRID = {"left": 0, "right": 1, "up": 2, "p": 3, "d": 4, "space": 5, "return": 6}
_GRID_PAD = {"hat_left": 0, "hat_right": 1, "hat_up": 2, "button0": 3, "button1": 4, "button2": 5, "button3": 6}


class KeyMap:
    """Actions by input. `idle` is the action while nothing is held; without one, time waits for the next input.

    Raises `UserError` for an action that the space does not have.
    """

    def __init__(self, space: spaces.Space, actions: Mapping[str, Any], idle: Any | None = None) -> None:
        if not actions:
            raise UserError("no key means anything; give --keys FILE.yaml such as {left: 0, right: 1}")
        self.space = space
        self.is_continuous = isinstance(space, spaces.Box)
        self.actions = {str(name): self._checked(str(name), action) for name, action in actions.items()}
        if self.is_continuous and idle is None:
            idle = np.clip(np.zeros_like(space.low), space.low, space.high)  # type: ignore[attr-defined]
        self.idle = None if idle is None else self._checked("idle", idle)
        if self.is_continuous and not space.contains(self.idle):
            raise UserError(f"idle={np.asarray(idle).tolist()} must be in {space}")

    def _checked(self, name: str, action: Any) -> Any:
        try:
            made = np.asarray(action, self.space.dtype)
        except (TypeError, ValueError):
            made = np.zeros(0)
        # A vector of a Box may lead beyond a bound: sums are clipped.
        fits = made.shape == (self.space.shape or ()) and (self.is_continuous or self.space.contains(made))
        if not fits or not np.isfinite(made).all():
            raise UserError(f"{name}: {action!r} is no action of {self.space}; change it in the file of --keys")
        return made

    def action(self, held: Mapping[str, float]) -> Any | None:
        """The action for what is held, the oldest first; None while time waits."""
        known = {k: v for k, v in held.items() if k in self.actions}
        if self.is_continuous:
            assert isinstance(self.space, spaces.Box)
            total = self.idle + sum(strength * self.actions[k] for k, strength in known.items())
            return np.clip(total, self.space.low, self.space.high).astype(self.space.dtype)
        pressed = [k for k, strength in known.items() if abs(strength) > 0.5]
        return self.actions[pressed[-1]] if pressed else self.idle

    def __str__(self) -> str:
        return ", ".join(f"{name}: {np.round(action, 3).tolist()}" for name, action in self.actions.items())


def key_map_for(env: gymnasium.Env, file: Path | None = None) -> KeyMap:
    """From a YAML file of inputs and actions (`idle` is one of them), else what suits the environment.

    That is its own `get_keys_to_action()` where it has one; arrows for MiniGrid's actions; digits for other discrete
    actions; arrows, letters and sticks for up to six continuous ones. `UserError` where there is nothing that suits.
    """
    space = env.action_space
    if file is not None:
        given = load_yaml(file)
        return KeyMap(space, {k: v for k, v in given.items() if k != "idle"}, given.get("idle"))
    own = getattr(env.unwrapped, "get_keys_to_action", None)
    if own is not None:
        return _own_keys(space, own())
    if isinstance(space, spaces.Discrete):
        if hasattr(env.unwrapped, "mission"):
            return KeyMap(space, {k: a for k, a in (_GRID | _GRID_PAD).items() if a < space.n})
        first = int(space.start)
        keys = {str(i): first + i for i in range(min(10, int(space.n)))}
        if space.n <= 3:
            keys |= {"left": first, "right": first + int(space.n) - 1}
        return KeyMap(space, keys | {f"button{k}": a for k, a in keys.items() if k.isdigit()})
    if isinstance(space, spaces.Box) and space.shape is not None and len(space.shape) == 1:
        return _vectors(space)
    raise UserError(f"no keys are known for actions of {space}; give --keys FILE.yaml such as {{up: [...]}}")


def _own_keys(space: spaces.Space, keys: Mapping[Any, Any]) -> KeyMap:
    """Of single keys; Gymnasium gives characters, codes or tuples of them, and () for nothing."""
    single: dict[str, Any] = {}
    idle = None
    for combination, action in keys.items():
        parts = combination if isinstance(combination, (tuple, list, str)) else (combination,)
        if len(parts) == 0:
            idle = action
        elif len(parts) == 1:
            single[parts[0] if isinstance(parts[0], str) else chr(parts[0])] = action
    return KeyMap(space, single, idle)


def _vectors(space: spaces.Box) -> KeyMap:
    pairs: tuple[tuple[str, str, str, float], ...] = (*_PAIRS, *_MORE_PAIRS)
    size = space.shape[0]
    if size > len(pairs) or not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise UserError(
            f"no keys are known for {space}; give --keys FILE.yaml such as {{up: {[1.0] + [0.0] * (size - 1)}}}"
        )
    if size == 1:
        pairs = (("left", "right", "axis0", 1.0),)
    actions: dict[str, np.ndarray] = {}
    for i, (down, up, axis, sign) in zip(range(size), pairs, strict=False):
        actions[down], actions[up] = (np.eye(size)[i] * bound[i] for bound in (space.low, space.high))
        actions[axis] = np.eye(size)[i] * sign * max(abs(space.low[i]), abs(space.high[i]))
    return KeyMap(space, actions)
