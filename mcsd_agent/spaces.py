"""Observation and action spaces as plain data, for files and for robots that have no gymnasium.

A `Spec` says what one named array is: its shape, dtype, bounds and unit. Training makes specs from
gymnasium spaces (`spec_from_space`); the artifact stores them as JSON; the runtime and the ROS
bridge check every observation against them. This module needs NumPy alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from mcsd_agent.errors import UserError

#: Name given to an observation that is a single array and not a Dict.
SINGLE = "observation"


@dataclass(frozen=True)
class BoxSpec:
    """Real-valued (or uint8 image) array. `low` and `high` broadcast to `shape`; None is unbounded."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    low: tuple[float | None, ...] | None = None
    high: tuple[float | None, ...] | None = None
    unit: str = ""
    names: tuple[str, ...] = ()

    kind = "box"

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def is_image(self) -> bool:
        return self.dtype == "uint8" and len(self.shape) == 3

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """`(low, high)`, float32 arrays of `shape`, with ±inf where unbounded."""
        return (_bound(self.low, self.shape, -math.inf), _bound(self.high, self.shape, math.inf))


@dataclass(frozen=True)
class DiscreteSpec:
    """One integer in `[0, n)`; its array has shape `()`."""

    n: int
    unit: str = ""

    kind = "discrete"
    shape: tuple[int, ...] = ()
    dtype: str = "int64"


@dataclass(frozen=True)
class MultiDiscreteSpec:
    """A vector of integers, entry i in `[0, nvec[i])`; a MultiBinary space is one of twos."""

    nvec: tuple[int, ...]
    unit: str = ""

    kind = "multi_discrete"
    dtype: str = "int64"

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.nvec),)


@dataclass(frozen=True)
class TextSpec:
    """An instruction. Policies see `max_words` word ids (int64), made by `language.Vocabulary`.

    With `embedding` they see `max_words` vectors of so many numbers (float32), one for each word piece of what is said,
    made by `runtime.sentences.Sentences`.
    """

    max_words: int
    unit: str = ""
    embedding: int | None = None

    kind = "text"
    dtype: str = "int64"

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.max_words,) if self.embedding is None else (self.max_words, self.embedding)


Spec: TypeAlias = BoxSpec | DiscreteSpec | MultiDiscreteSpec | TextSpec
_KINDS: dict[str, Any] = {c.kind: c for c in (BoxSpec, DiscreteSpec, MultiDiscreteSpec, TextSpec)}


def _bound(values: tuple[float | None, ...] | None, shape: tuple[int, ...], missing: float) -> np.ndarray:
    flat = [missing] if values is None else [missing if v is None else v for v in values]
    array = np.asarray(flat, np.float32)
    return np.full(shape, array[0]) if len(flat) == 1 else array.reshape(shape)


def to_json(spec: Spec) -> dict[str, Any]:
    """A JSON object that `from_json` reads back to an equal spec."""
    fields = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(spec).items() if v is not None}
    return {"kind": spec.kind, **fields}


def from_json(data: Any, name: str) -> Spec:
    """The spec of entry `name`; raises `UserError` for anything that `to_json` does not write."""
    kind = data.get("kind") if isinstance(data, dict) else None
    if not isinstance(kind, str) or kind not in _KINDS:
        raise UserError(f"space {name!r}: kind {kind!r} is not one of {sorted(_KINDS)}; export the artifact again")
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != "kind"}
    try:
        return _KINDS[kind](**fields)
    except TypeError as error:
        raise UserError(f"space {name!r}: {error}; export the artifact again") from None


def spec_from_space(space: Any, *, max_words: int = 24, unit: str = "", names: tuple[str, ...] = ()) -> Spec:
    """The spec of one gymnasium space (Box, Discrete, MultiDiscrete, MultiBinary or Text).

    Recognised by class name, so that this module does not import gymnasium.
    """
    kind = type(space).__name__
    if kind == "Box":
        return BoxSpec(
            tuple(int(n) for n in space.shape), str(space.dtype), _flat(space.low), _flat(space.high), unit, names
        )
    if kind == "Discrete":
        if int(space.start) != 0:
            raise UserError(f"Discrete(start={int(space.start)}) is not supported; use start=0")
        return DiscreteSpec(int(space.n), unit)
    if kind == "MultiDiscrete":
        return MultiDiscreteSpec(tuple(int(n) for n in np.ravel(space.nvec)), unit)
    if kind == "MultiBinary":
        if len(space.shape) != 1:
            raise UserError(f"MultiBinary({list(space.shape)}) is not supported; use one dimension")
        return MultiDiscreteSpec((2,) * int(space.shape[0]), unit)
    if kind == "Text":
        return TextSpec(max_words, unit)
    raise UserError(
        f"space {kind} is not supported; use Box, Discrete, MultiDiscrete, MultiBinary or Text, or a Dict of these"
    )


def specs_from_space(space: Any, *, max_words: int = 24, units: dict[str, str] | None = None) -> dict[str, Spec]:
    """Specs by name; a space that is no Dict becomes one entry named `observation`."""
    entries = dict(space.spaces) if type(space).__name__ == "Dict" else {SINGLE: space}
    return {k: spec_from_space(v, max_words=max_words, unit=(units or {}).get(k, "")) for k, v in entries.items()}


def _flat(bound: np.ndarray) -> tuple[float | None, ...]:
    """Bounds as JSON numbers: one value where all are equal, None where infinite."""
    values = np.unique(bound) if bound.size and np.all(bound == bound.flat[0]) else np.ravel(bound)
    return tuple(float(v) if math.isfinite(v) else None for v in values)
