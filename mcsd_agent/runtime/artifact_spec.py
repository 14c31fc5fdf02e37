"""What an artifact says about its policy: `spec.json`, parsed strictly into `ArtifactSpec`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mcsd_agent.errors import UserError, nearest
from mcsd_agent.language import Vocabulary
from mcsd_agent.runtime.sentences import Sentences
from mcsd_agent.spaces import BoxSpec, DiscreteSpec, Spec, TextSpec, from_json, to_json

#: The newest that is read. Written is the lowest that says what an artifact needs, see `version_of`.
FORMAT_VERSION = 3

#: Names of the step's other inputs and outputs; no observation may be called so (`success`: where it is predicted).
STATE, ACTION, NEXT_STATE, SUCCESS = "state", "action", "next_state", "success"

_FILE = "spec.json"
_MAX_ARRAY_SIZE = 1 << 26
_MAX_DIMENSIONS = 8
_MAX_ENTRIES = 256
_MAX_COUNT = 1 << 31
_BOX_DTYPES = ("float32", "float64", "float16", "uint8", "int8", "int16", "int32", "int64")


@dataclass(frozen=True)
class ArtifactSpec:
    """What a robot must know about a policy, from `spec.json`.

    `state_shape` is (layers, size); `vocabulary` the JSON of a `language.Vocabulary`, or of
    `runtime.sentences.Sentences`; `policy` the resolved `PolicyConfig`; `parity` the report of the check made at
    export. `predicts_success`: whether the step also says how likely the instruction has been carried out.
    """

    observation: Mapping[str, Spec]
    action: Spec
    rate_hz: float
    state_shape: tuple[int, int]
    vocabulary: Mapping[str, Any] | None = None
    policy: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    parity: Mapping[str, float] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)
    format_version: int = 1
    predicts_success: bool = False

    @property
    def period_s(self) -> float:
        return 1.0 / self.rate_hz

    @property
    def state_bytes(self) -> int:
        """Memory that one running stream carries from tick to tick; it never grows."""
        return math.prod(self.state_shape) * 4

    def to_json(self) -> dict[str, Any]:
        """The content of `spec.json`."""
        return {
            "format_version": self.format_version,
            "observation": {name: to_json(spec) for name, spec in self.observation.items()},
            "action": to_json(self.action),
            "rate_hz": self.rate_hz,
            "vocabulary": self.vocabulary,
            "policy": self.policy,
            "state_shape": list(self.state_shape),
            "metadata": self.metadata,
            "sha256": self.sha256,
            "parity": self.parity,
            **({"predicts_success": self.predicts_success} if self.predicts_success else {}),
        }


def input_dtype(spec: Spec) -> np.dtype[Any]:
    """The dtype in which an observation enters the step: uint8 stays, other boxes are float32, the rest int64."""
    if isinstance(spec, BoxSpec):
        return np.dtype("uint8" if spec.dtype == "uint8" else "float32")
    return np.dtype("float32" if isinstance(spec, TextSpec) and spec.embedding is not None else "int64")


def version_of(observation: Mapping[str, Spec], predicts_success: bool = False) -> int:
    """The lowest format version that says this: 3 where success is predicted, else 2 for a sentence encoder."""
    if predicts_success:
        return 3
    return 2 if any(isinstance(s, TextSpec) and s.embedding is not None for s in observation.values()) else 1


def parse_json(data: bytes, where: str) -> dict[str, Any]:
    """The fields of spec.json, refused when a newer program wrote them; their values are not looked at yet."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({k for k, _ in pairs}) != len(pairs):
            raise ValueError("a key appears twice")
        return dict(pairs)

    def finite(text: str) -> float:
        if not math.isfinite(float(text)):
            raise ValueError(f"{text[:20]} is too large")
        return float(text)

    def bounded(text: str) -> int:
        if len(text) > 20:
            raise ValueError(f"{text[:20]}... is too large")
        return int(text)

    try:
        fields = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=unique,
            parse_constant=refuse,
            parse_float=finite,
            parse_int=bounded,
        )
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{where}: {_FILE} is not valid JSON ({reason}); export it again") from None
    if not isinstance(fields, dict) or not _is_int(fields.get("format_version"), 1):
        raise UserError(f"{where}: {_FILE} has no format_version; it is not an artifact, or export it again")
    version = fields["format_version"]
    if version > FORMAT_VERSION:
        raise UserError(
            f"{where} has format version {version} and this program reads up to {FORMAT_VERSION}; "
            "install a newer mcsd-agent here, or export with the version installed here"
        )
    return fields


_REQUIRED = ("observation", "action", "rate_hz", "vocabulary", "policy", "state_shape", "metadata", "sha256", "parity")


def parse_spec(fields: dict[str, Any], where: str) -> ArtifactSpec:
    """The spec in `fields`; `UserError` names the key, its value and the constraint."""

    def bad(key: str, constraint: str) -> UserError:
        return UserError(f"{where}: {_FILE}: {key} {constraint}; export it again")

    for key in _REQUIRED:
        if key not in fields:
            raise bad(key, "is missing")
    version = fields["format_version"]
    for key in fields:
        if key not in (*_REQUIRED, "format_version", *(["predicts_success"] if version >= 3 else [])):
            raise UserError(f"{where}: {_FILE}: unknown key {key[:80]!r}{nearest(key[:80], _REQUIRED)}")
    rate = fields["rate_hz"]
    if not isinstance(rate, (int, float)) or isinstance(rate, bool) or not 0 < rate < 1e6:
        raise bad(f"rate_hz={rate!r}", "must be a number above 0")
    shape = fields["state_shape"]
    if not isinstance(shape, list) or len(shape) != 2 or not all(_is_int(n, 1) for n in shape):
        raise bad(f"state_shape={shape!r}", "must be [layers, size], both at least 1")
    if math.prod(shape) > _MAX_ARRAY_SIZE:
        raise bad(f"state_shape={shape!r}", "is too large")
    for key in ("policy", "metadata", "parity"):
        if not isinstance(fields[key], dict):
            raise bad(key, "must be a JSON object")
    for key, value in fields["parity"].items():
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise bad(f"parity.{key}", "must be a number")
    predicts_success = fields.get("predicts_success", False)
    if not isinstance(predicts_success, bool):
        raise bad(f"predicts_success={predicts_success!r}", "must be true or false")
    entries = fields["observation"]
    if not isinstance(entries, dict) or not 0 < len(entries) <= _MAX_ENTRIES:
        raise bad("observation", f"must name at least one entry and at most {_MAX_ENTRIES}")
    observation = {name: _parse_space(entry, name, where) for name, entry in entries.items()}
    for name in observation:
        if name in ("", STATE, ACTION, NEXT_STATE) or (predicts_success and name == SUCCESS):
            raise bad(f"observation name {name!r}", "is reserved")
    action = _parse_space(fields["action"], ACTION, where)
    if isinstance(action, TextSpec):
        raise bad("action", "cannot be text")
    vocabulary = fields["vocabulary"]
    texts = {name: spec for name, spec in observation.items() if isinstance(spec, TextSpec)}
    if vocabulary is not None and not isinstance(vocabulary, dict):
        raise bad("vocabulary", "must be a JSON object or null")
    if version_of(observation) > version:
        raise bad("format_version", "must be 2 where an instruction has an embedding")
    if vocabulary is not None and "encoder" in vocabulary:
        _check_sentences(vocabulary, texts, where)
        vocabulary, texts = None, {}
    for name, spec in texts.items():
        if vocabulary is None or spec.embedding is not None or vocabulary.get("max_words") != spec.max_words:
            raise bad(f"observation {name!r}", f"needs a vocabulary with max_words={spec.max_words}")
    if vocabulary is not None:
        if not _is_int(vocabulary.get("max_words"), 1, _MAX_ARRAY_SIZE):
            raise bad("vocabulary", f"must have max_words from 1 to {_MAX_ARRAY_SIZE}")
        try:
            Vocabulary.from_json(vocabulary)
        except UserError as error:
            raise UserError(f"{where}: {_FILE}: {error}") from None
    return ArtifactSpec(
        observation=observation,
        action=action,
        rate_hz=float(rate),
        state_shape=(shape[0], shape[1]),
        vocabulary=fields["vocabulary"],
        policy=fields["policy"],
        metadata=fields["metadata"],
        parity=fields["parity"],
        sha256=fields["sha256"],
        format_version=version,
        predicts_success=predicts_success,
    )


def _check_sentences(vocabulary: dict[str, Any], texts: dict[str, TextSpec], where: str) -> None:
    try:
        sentences = Sentences.from_json(vocabulary)
    except UserError as error:
        raise UserError(f"{where}: {_FILE}: {error}") from None
    for name, spec in texts.items():
        if (spec.max_words, spec.embedding) != (sentences.max_tokens, sentences.size):
            raise UserError(
                f"{where}: {_FILE}: observation {name!r} needs max_words={sentences.max_tokens} and an embedding of "
                f"{sentences.size}; export it again"
            )


def _parse_space(data: Any, name: str, where: str) -> Spec:
    try:
        spec = from_json(data, name)
    except UserError as error:
        raise UserError(f"{where}: {_FILE}: {error}") from None
    reason = _space_fault(spec)
    if reason:
        raise UserError(f"{where}: {_FILE}: space {name!r}: {reason}; export it again")
    return spec


def _space_fault(spec: Spec) -> str | None:
    """What is wrong with the fields of a space, which `from_json` takes as they come."""
    if not isinstance(spec.unit, str):
        return "unit must be a string"
    if not isinstance(spec, BoxSpec):
        if isinstance(spec, TextSpec) and spec.embedding is not None and not _is_int(spec.embedding, 1, 1 << 16):
            return f"embedding must be at least 1 and at most {1 << 16}"
        embedded = isinstance(spec, TextSpec) and spec.embedding is not None
        if spec.dtype != ("float32" if embedded else "int64") or (isinstance(spec, DiscreteSpec) and spec.shape != ()):
            return "dtype must be int64 (float32 for an embedding), of shape () where it is discrete"
        name = {"discrete": "n", "text": "max_words", "multi_discrete": "nvec"}[spec.kind]
        counts, most = getattr(spec, name), _MAX_ARRAY_SIZE if spec.kind == "text" else _MAX_COUNT
        counts = counts if spec.kind == "multi_discrete" else (counts,)
        is_valid = isinstance(counts, tuple) and counts and all(_is_int(n, 1, most) for n in counts)
        return None if is_valid else f"{name} must be at least 1 and at most {most}"
    if not isinstance(spec.shape, tuple) or not all(_is_int(n, 1) for n in spec.shape):
        return "shape must list numbers of at least 1"
    if spec.size > _MAX_ARRAY_SIZE or len(spec.shape) > _MAX_DIMENSIONS:
        return f"shape {spec.shape} is too large"
    if spec.dtype not in _BOX_DTYPES:
        return f"dtype {spec.dtype!r} is not one of {', '.join(_BOX_DTYPES)}"
    if not isinstance(spec.names, tuple) or not all(isinstance(n, str) for n in spec.names):
        return "names must list strings"
    for bound in (spec.low, spec.high):
        if bound is None:
            continue
        if not isinstance(bound, tuple) or len(bound) not in (1, spec.size):
            return f"bounds must have 1 or {spec.size} values"
        if not all(v is None or (isinstance(v, (int, float)) and not isinstance(v, bool)) for v in bound):
            return "bounds must be numbers"
    with np.errstate(over="ignore"):  # beyond float32 a bound is infinite: none
        low, high = spec.bounds()
    if not (low <= high).all():
        return "low must not exceed high"
    return None


def _is_int(value: Any, at_least: int, at_most: int = 1 << 62) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and at_least <= value <= at_most
