"""Factors between units that robots and policies disagree about."""

from __future__ import annotations

import math

from mcsd_agent.errors import UserError

_TO_SI = {
    "m": {"m": 1.0, "mm": 1e-3, "cm": 1e-2, "km": 1e3},
    "rad": {"rad": 1.0, "deg": math.pi / 180},
    "m/s": {"m/s": 1.0, "mm/s": 1e-3, "cm/s": 1e-2, "km/h": 1 / 3.6},
    "rad/s": {"rad/s": 1.0, "deg/s": math.pi / 180, "rpm": 2 * math.pi / 60},
    "m/s^2": {"m/s^2": 1.0, "g": 9.80665},
    "s": {"s": 1.0, "ms": 1e-3, "us": 1e-6},
}


def factor(source: str, target: str) -> float:
    """What a value in `source` is multiplied with to be in `target`; `UserError` where that is not known."""
    if source == target:
        return 1.0
    for table in _TO_SI.values():
        if source in table and target in table:
            return table[source] / table[target]
    raise UserError(f"message_unit {source!r} cannot be converted to {target!r}; leave it out and give a scale")
