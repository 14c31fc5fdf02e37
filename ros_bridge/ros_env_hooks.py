"""What a user adds to `RosEnv`: rewards, ends of episodes, and topics that decide about them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mcsd_agent.errors import UserError


@dataclass
class RosStep:
    """One step, as the hooks see it.

    `observation` was seen when `action` was chosen; `action` is what was sent. `messages` are the newest of `topics`
    by name, None before the first. What a hook writes into `info` comes out of `step`: `is_success` is what
    evaluation counts.
    """

    observation: Mapping[str, Any]
    action: np.ndarray
    next_observation: Mapping[str, Any]
    messages: Mapping[str, Any]
    steps: int
    info: dict[str, Any] = field(default_factory=dict)


Hook = Callable[[RosStep], Any]


def load_hook(given: str | Hook | None, key: str) -> Hook | None:
    """A function, or the one that "module:function" names; `UserError` naming `key` when there is none."""
    if given is None or callable(given):
        return given
    module, separator, name = given.partition(":")
    try:
        if not separator:
            raise ImportError("it must read module:function")
        hook = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{key}={given!r} cannot be imported: {error}") from None
    if not callable(hook):
        raise UserError(f"{key}={given!r} is no function; give the name of one")
    return hook


def checked_topic(name: str, given: Sequence[str]) -> tuple[str, str]:
    """`(topic, type)` of the further topic `name`, or `UserError`."""
    if isinstance(given, str) or len(given) != 2 or not all(isinstance(part, str) for part in given):
        raise UserError(f"topics.{name}={given!r} must be [topic, type], as in [/sim/state, std_msgs/msg/String]")
    return given[0], given[1]
