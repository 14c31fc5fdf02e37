"""Sequences of numbers in messages: NumPy arrays whose entries are Python's numbers, as those of rclpy's `array.array`.

An entry of a plain NumPy array keeps its few bits, so that the mean of two pixels would wrap around. What is computed
of a whole sequence is NumPy's, and a plain array.
"""

from __future__ import annotations

import array
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np

#: What `array.array` and lists can, and an array of fixed length cannot.
_GROWING = ("append", "extend", "insert", "pop", "remove", "fromlist", "frombytes", "clear")


class NumberSequence(np.ndarray):
    """One-dimensional, of the field's type; made by `of`, which shares memory with `values`."""

    @classmethod
    def of(cls, values: np.ndarray) -> NumberSequence:
        return values.view(cls)

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return found.item() if isinstance(found, np.generic) else found

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tolist()) if self.ndim == 1 else super().__iter__()

    def __bool__(self) -> bool:
        return len(self) > 0 if self.ndim else bool(self.item())

    def __eq__(self, other: object) -> Any:
        same = self._is_same(other)
        return super().__eq__(other) if same is None else same

    def __ne__(self, other: object) -> Any:
        same = self._is_same(other)
        return super().__ne__(other) if same is None else not same

    __hash__ = None

    def _is_same(self, other: object) -> bool | None:
        """As rclpy's sequences compare; None where NumPy compares entry by entry: with a number or a plain array."""
        if isinstance(other, (NumberSequence, array.array)):
            return bool(np.array_equal(self, other))
        if isinstance(other, (list, tuple)):
            # Natively flags are a list, and an `array.array` equals no list.
            return self.dtype == np.bool_ and isinstance(other, list) and self.tolist() == other
        return None

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        out = kwargs.get("out", ())
        if out:
            kwargs["out"] = tuple(_plain(value) for value in out)
        result = getattr(ufunc, method)(*(_plain(value) for value in inputs), **kwargs)
        return out[0] if len(out) == 1 else result

    def __getattr__(self, name: str) -> NoReturn:
        hint = "; an array cannot grow or shrink, assign a new list to the field" if name in _GROWING else ""
        raise AttributeError(f"a sequence of numbers in a message has no {name!r}{hint}")


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, NumberSequence) else value
