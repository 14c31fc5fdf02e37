"""Constraints that several parts of a robot's YAML share."""

from __future__ import annotations

import math

from mcsd_agent.errors import UserError


def require(holds: bool, key: str, value: object, constraint: str) -> None:
    """`UserError` that names the key, its value and the constraint, unless it holds."""
    if not holds:
        raise UserError(f"{key} is {value!r}; it must be {constraint}")


def require_positive(config: object, *keys: str) -> None:
    """The attributes `keys` of `config` are finite and above 0, or None."""
    for key in keys:
        value = getattr(config, key)
        require(value is None or 0 < value < math.inf, key, value, "a finite number above 0, or null")


def require_topic(topic: str) -> None:
    """`topic` is absolute and made of valid words."""
    words = topic.removeprefix("/").split("/")
    if not topic.startswith("/") or not all(w.replace("_", "a").isalnum() and not w[0].isdigit() for w in words):
        raise UserError(f"topic {topic!r} must be absolute, like /scan: words of letters, digits and _ between /")
