"""The kinds of fields that messages have, with their defaults and rclpy's rules of what fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ros_bridge.number_sequence import NumberSequence

_INTEGER_RANGES = {f"{sign}int{bits}": np.iinfo(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)}
_INTEGER_RANGES["char"] = np.iinfo("uint8")
_DTYPES = {"char": "uint8", "bool": "bool", "float32": "float32", "float64": "float64"} | {
    kind: kind for kind in _INTEGER_RANGES if kind != "char"
}


class MessageError(AssertionError, ValueError):
    """A value does not fit its field; the text names message, field and constraint."""


class Scalar:
    """One bool, number, byte or string."""

    def __init__(self, kind: str, limit: int = 0) -> None:
        self.kind = "byte" if kind == "octet" else kind
        self.limit = limit

    def default(self) -> Any:
        return {"bool": False, "string": "", "wstring": "", "byte": b"\x00", "float32": 0.0, "float64": 0.0}.get(
            self.kind, 0
        )

    def check(self, value: Any) -> Any:
        """`value` as it is kept: an entry of a NumPy array as Python's number. Raises `MessageError`."""
        kind = self.kind
        if isinstance(value, np.generic):
            value = value.item()
        if kind in ("float32", "float64"):
            if not isinstance(value, float):
                raise MessageError(f"must be a float, not {value!r}{_as_float(value)}")
            if kind == "float32" and np.isfinite(value) and abs(value) > 3.402823466e38:
                raise MessageError(f"must fit float32, not {value!r}")
        elif kind == "bool":
            if not isinstance(value, bool):
                raise MessageError(f"must be a bool, not {value!r}")
        elif kind in ("string", "wstring"):
            if not isinstance(value, str):
                raise MessageError(f"must be a str, not {value!r}")
            if self.limit and len(value) > self.limit:
                raise MessageError(f"must have at most {self.limit} characters, not {len(value)}")
        elif kind == "byte":
            if not isinstance(value, (bytes, bytearray)) or len(value) != 1:
                raise MessageError(f"must be bytes of length 1, not {value!r}")
        else:
            limits = _INTEGER_RANGES[kind]
            if not isinstance(value, int) or not limits.min <= value <= limits.max:
                raise MessageError(f"must be an int in [{limits.min}, {limits.max}], not {value!r}")
        return value


def _as_float(value: Any) -> str:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > 2**53:
        return ""
    return f"; rclpy does not convert, write {value}.0"


class Nested:
    """A field that is itself a message."""

    def __init__(self, ros_type: str, load: Callable[[str], Any]) -> None:
        self.ros_type = ros_type
        self._load = load  # when used: types may refer to those that are registered later

    def default(self) -> Any:
        return self._load(self.ros_type)()

    def check(self, value: Any) -> Any:
        if not isinstance(value, self._load(self.ros_type)):
            raise MessageError(f"must be a {self.ros_type}, not {type(value).__name__}")
        return value


class Array:
    """A fixed array (`size`), or a sequence of at most `limit` items (0: unbounded)."""

    def __init__(self, item: Scalar | Nested, *, size: int = 0, limit: int = 0) -> None:
        self.item, self.size, self.limit = item, size, limit
        self.dtype = _DTYPES.get(item.kind) if isinstance(item, Scalar) else None
        # Natively, too, an array of a fixed size is NumPy's, unless it is of flags.
        self._is_plain = self.size > 0 and self.dtype != "bool"

    def default(self) -> Any:
        if self.dtype is not None:
            return self._kept(np.zeros(self.size, self.dtype))
        return [self.item.default() for _ in range(self.size)]

    def check(self, value: Any) -> Any:
        if isinstance(value, (str, bytes, bytearray)) and not (self.dtype == "uint8" and not isinstance(value, str)):
            raise MessageError(f"must be a sequence, not {value!r}")
        if self.dtype is not None:
            value = self._kept(self._numbers(value))
        elif isinstance(value, (Sequence, set, frozenset)):
            value = [self.item.check(v) for v in value]
        else:
            raise MessageError(f"must be a sequence, not {value!r}")
        if self.size and len(value) != self.size:
            raise MessageError(f"must have exactly {self.size} items, not {len(value)}")
        if self.limit and len(value) > self.limit:
            raise MessageError(f"must have at most {self.limit} items, not {len(value)}")
        return value

    def _kept(self, numbers: np.ndarray) -> np.ndarray:
        return numbers if self._is_plain else NumberSequence.of(numbers)

    def _numbers(self, value: Any) -> np.ndarray:
        assert self.dtype is not None
        target = np.dtype(self.dtype)
        if isinstance(value, (bytes, bytearray)):
            return np.frombuffer(value, np.uint8)
        try:
            array = np.asarray(list(value) if isinstance(value, (set, frozenset)) else value)
        except ValueError:
            raise MessageError(f"must be a flat sequence of {self.dtype}") from None
        if array.ndim != 1:
            raise MessageError(f"must be a flat sequence of {self.dtype}, not of shape {array.shape}")
        if array.size == 0 or array.dtype == target:
            return array.astype(target, copy=False)
        if target.kind == "f" and array.dtype.kind in "fiu":
            return array.astype(target)
        if target.kind in "iu" and array.dtype.kind in "fO" and all(type(v) is int for v in value):
            # NumPy makes floats, or objects, of lists with numbers beyond int64.
            array = np.array([self.item.check(v) for v in value], target)
        if target.kind in "iu" and array.dtype.kind in "iu":
            limits = np.iinfo(target)
            if int(array.min()) >= limits.min and int(array.max()) <= limits.max:
                return array.astype(target)
        raise MessageError(f"must be a sequence of {self.dtype}, not {value!r:.80}")


Field = Scalar | Nested | Array


def spelling(field: Field) -> str:
    """The field's type, as rclpy spells it."""
    if isinstance(field, Nested):
        package, _, name = field.ros_type.split("/")
        return f"{package}/{name}"
    if isinstance(field, Array):
        inner = spelling(field.item)
        if field.size:
            return f"{inner}[{field.size}]"
        return f"sequence<{inner}, {field.limit}>" if field.limit else f"sequence<{inner}>"
    kind = {"bool": "boolean", "float64": "double", "float32": "float", "byte": "octet", "char": "uint8"}.get(
        field.kind, field.kind
    )
    return f"{kind}<{field.limit}>" if field.limit else kind
