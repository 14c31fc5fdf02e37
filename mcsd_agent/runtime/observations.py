"""Observations on their way into the step: checked by name, shape and type, text turned into word ids or vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from mcsd_agent.errors import UserError, nearest
from mcsd_agent.runtime.artifact_spec import ArtifactSpec, input_dtype
from mcsd_agent.runtime.text_encoders import TextEncoder, text_encoder
from mcsd_agent.spaces import SINGLE, BoxSpec, DiscreteSpec, Spec, TextSpec

#: What `Stream.step` takes: arrays (and strings) by name, or the array of a policy with one observation.
Observation: TypeAlias = Mapping[str, Any] | np.ndarray | Any

#: Instructions are few; a robot that is fed endless new ones must not grow.
_MAX_CACHED_TEXTS = 256


class ObservationError(UserError):
    """An observation that the policy cannot take; `name` is the entry at fault."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class ObservationReader:
    """Turns one observation into the step's input arrays, each with a batch of one in front."""

    def __init__(self, spec: ArtifactSpec) -> None:
        self._names = tuple(spec.observation)
        vocabulary = None if spec.vocabulary is None else text_encoder(spec.vocabulary)
        self._readers = {name: _reader(name, s, vocabulary) for name, s in spec.observation.items()}

    def read(self, observation: Observation) -> dict[str, np.ndarray]:
        """Arrays `(1, *shape)` by name; raises `ObservationError` naming the entry and what it should be."""
        if not isinstance(observation, Mapping):
            if len(self._names) > 1:
                raise ObservationError(
                    SINGLE, f"observation is one array; the policy needs a dict of {', '.join(self._names)}"
                )
            observation = {self._names[0]: observation}
        readers = self._readers
        if observation.keys() != readers.keys():
            raise self._name_error(observation)
        return {name: readers[name](observation[name]) for name in self._names}

    def _name_error(self, observation: Mapping[str, Any]) -> ObservationError:
        for name in observation:
            if name not in self._readers:
                return ObservationError(name, f"unknown observation {name!r}{nearest(str(name), self._names)}")
        missing = next(name for name in self._names if name not in observation)
        return ObservationError(
            missing, f"observation {missing!r} is missing; the policy needs {', '.join(self._names)}"
        )


_Reader: TypeAlias = Callable[[Any], np.ndarray]


def _reader(name: str, spec: Spec, vocabulary: TextEncoder | None) -> _Reader:
    if isinstance(spec, TextSpec):
        assert vocabulary is not None  # artifact_spec.parse_spec sees to it
        return _TextReader(name, vocabulary)
    if isinstance(spec, BoxSpec):
        return _box_reader(name, spec)
    return _integer_reader(name, spec)


class _TextReader:
    """What a text is encoded to, remembered per text."""

    def __init__(self, name: str, vocabulary: TextEncoder) -> None:
        self._name, self._vocabulary = name, vocabulary
        self._ids: dict[str, np.ndarray] = {}

    def __call__(self, text: Any) -> np.ndarray:
        ids = self._ids.get(text) if isinstance(text, str) else None
        return self._encode(text) if ids is None else ids

    def _encode(self, text: Any) -> np.ndarray:
        if not isinstance(text, str):
            raise ObservationError(
                self._name, f"observation {self._name!r} is {type(text).__name__}; it must be a string"
            )
        ids = np.array(self._vocabulary.encode(text)[None])  # memory of its own: see `unchanged`
        ids.flags.writeable = False
        if len(self._ids) >= _MAX_CACHED_TEXTS:
            self._ids.pop(next(iter(self._ids)))
        self._ids[text] = ids
        return ids


def _array(name: str, value: Any, shape: tuple[int, ...], kinds: str, what: str) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError:  # a ragged list
        array = np.asarray(None)
    if array.shape != shape or array.dtype.kind not in kinds:
        found = f"{array.dtype} {array.shape}" if array.dtype.kind in "biufc" else type(value).__name__
        raise ObservationError(name, f"observation {name!r} is {found}; it must be {what} of shape {shape}")
    return array


def _box_reader(name: str, spec: BoxSpec) -> _Reader:
    shape, dtype = spec.shape, input_dtype(spec)
    if dtype == np.uint8:
        # A float image would be in another range: better refused than converted.
        return lambda value: _array(name, value, shape, "u", "uint8")[None].astype(np.uint8, copy=False)

    def read(value: Any) -> np.ndarray:
        array = _array(name, value, shape, "fiu", "numbers")
        if array.dtype == dtype:
            return array[None]
        with np.errstate(over="ignore"):  # becomes infinite, which the controller refuses
            return array[None].astype(dtype)

    return read


def _integer_reader(name: str, spec: Spec) -> _Reader:
    shape = spec.shape
    counts = np.asarray(spec.n if isinstance(spec, DiscreteSpec) else spec.nvec, np.uint64)  # type: ignore[union-attr]

    def read(value: Any) -> np.ndarray:
        array = _array(name, value, shape, "iu", "integers").astype(np.int64, copy=False)
        # Seen as unsigned, negative numbers are huge: one comparison checks both ends.
        if not (array.view(np.uint64) < counts).all():
            raise ObservationError(
                name, f"observation {name!r} holds {_outside(array, counts)}; it must be from 0 to below {counts.max()}"
            )
        return array[None]

    return read


def _outside(array: np.ndarray, counts: np.ndarray) -> int:
    return int(array[(array < 0) | (array >= counts.astype(np.int64))].flat[0])
