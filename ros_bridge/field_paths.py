"""Numbers inside a message by their path: `pose.position.x`, `ranges[3]`, `data[0:6]`, `poses[0].position.z`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcsd_agent.errors import UserError, nearest

_WORD = re.compile(r"([A-Za-z]\w*)(?:\[(\d+)(?::(\d+))?\])?")


class PathError(ValueError):
    """The message has no such number; the text says where the path ends."""


@dataclass(frozen=True)
class FieldPath:
    """`steps` of `(field, first, stop)`: an index where `stop` is None, neither where both are.

    Only the last step may be a range; it gives `count` numbers.
    """

    text: str
    steps: tuple[tuple[str, int | None, int | None], ...]

    @property
    def count(self) -> int:
        """How many numbers it gives."""
        _, first, stop = self.steps[-1]
        return 1 if first is None or stop is None else stop - first

    def read(self, message: Any) -> list[float]:
        """The numbers there; raises `PathError` naming the step at fault."""
        value = message
        for i, (field, first, stop) in enumerate(self.steps):
            try:
                value = getattr(value, field)
            except AttributeError:
                raise PathError(f"{_name(value)} has no field {field!r}{nearest(field, fields_of(value))}") from None
            if first is None:
                continue
            last = first if stop is None else stop - 1
            if not hasattr(value, "__len__") or isinstance(value, str) or len(value) <= last:
                size = len(value) if hasattr(value, "__len__") else "no"
                raise PathError(f"{self._until(i)} has {size} entries; {self.text!r} asks for entry {last}")
            value = value[first] if stop is None else value[first:stop]
        numbers = list(value) if self.count > 1 or self.steps[-1][2] is not None else [value]
        for number in numbers:
            if not isinstance(number, (bool, int, float, np.number, np.bool_)):
                raise PathError(f"{self.text!r} is {_name(number)}, no number{_parts(number)}")
        return [float(number) for number in numbers]

    def check(self, message: Any) -> None:
        """`UserError` unless a message like this one, as its class makes it, can have such numbers.

        How long sequences are is known only when a message comes.
        """
        value = message
        for field, first, _ in self.steps:
            if not hasattr(value, field):
                hint = nearest(field, fields_of(value))
                raise UserError(f"field {self.text!r}: {_name(value)} has no {field!r}{hint}")
            value = getattr(value, field)
            if first is not None:
                if isinstance(value, str) or not hasattr(value, "__len__"):
                    raise UserError(f"field {self.text!r}: {field!r} is {_name(value)}, which has no entries")
                if len(value) == 0:
                    return
                value = value[min(first, len(value) - 1)]
        if not isinstance(value, (bool, int, float, np.number, np.bool_)):
            raise UserError(f"field {self.text!r} is {_name(value)}, no number{_parts(value)}")

    def _until(self, step: int) -> str:
        return ".".join(field for field, _, _ in self.steps[: step + 1])


def parse_path(text: str) -> FieldPath:
    """Raises `UserError` for a path that makes no sense."""
    words = [_WORD.fullmatch(word) for word in text.split(".")]
    steps = tuple((w[1], _integer(w[2]), _integer(w[3])) for w in words if w is not None)
    ranges = [stop for _, _, stop in steps if stop is not None]
    good = len(steps) == len(words) and len(ranges) <= 1 and (not ranges or steps[-1][2] is not None)
    if not good or any(first is not None and stop is not None and stop <= first for _, first, stop in steps):
        raise UserError(f"field {text!r} must read like pose.position.x, ranges[3] or data[0:6]")
    return FieldPath(text, steps)


def _integer(text: str | None) -> int | None:
    return None if text is None else int(text)


def fields_of(value: Any) -> list[str]:
    """Names of a message's fields; none for anything else."""
    describe = getattr(value, "get_fields_and_field_types", None)
    return list(describe()) if describe is not None else []


def _name(value: Any) -> str:
    return getattr(value, "ROS_TYPE", "") or type(value).__name__


def _parts(value: Any) -> str:
    names = fields_of(value)
    if names:
        return f"; its fields are {', '.join(names)}"
    return "; give an entry like [0] or a range like [0:6]" if hasattr(value, "__len__") else ""
