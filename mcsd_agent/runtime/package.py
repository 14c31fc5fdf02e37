"""The artifact file `.mcsd`, read strictly and without torch.

An artifact is a zip file of three stored (uncompressed) members:

    spec.json              what the policy sees and does, at what rate, and the sha256 of the others
    weights.safetensors    the tensors, for loading the policy back into torch
    step.onnx              one step: observations and state in, action and state (and success, if predicted) out

Its bytes are canonical: `pack` is the only way to lay the members out. A file that differs from what
`pack` makes of its own members, even in a time stamp, was altered and is refused. The step is tried
once, within bounds (`onnx_trial`). Nothing is unpickled, and every refusal is a `UserError` of one
line: the file and the reason. docs/artifact.md describes the format.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.runtime.artifact_spec import (
    ACTION,
    NEXT_STATE,
    STATE,
    SUCCESS,
    ArtifactSpec,
    input_dtype,
    parse_json,
    parse_spec,
)
from mcsd_agent.runtime.onnx_batch import sized
from mcsd_agent.runtime.onnx_file import Model, Port, read_model
from mcsd_agent.runtime.onnx_trial import try_step
from mcsd_agent.runtime.signature import check_signature
from mcsd_agent.runtime.weights_file import read_weights, stored_types
from mcsd_agent.spaces import BoxSpec

SPEC, WEIGHTS, STEP = "spec.json", "weights.safetensors", "step.onnx"
MEMBERS = (SPEC, WEIGHTS, STEP)

_MAX_SPEC_BYTES = 4 << 20
_MAX_FILE_BYTES = 1 << 30
_MAX_MEMBERS = 16
_MAX_NAME_BYTES = 64

#: Local header after its signature: version 2.0, no flags, stored, 00:00 on 1980-01-01, crc, size twice, name
#: length, no extra field.
_HEADER = struct.Struct("<HHHHHIIIHH")
_HEADER_START, _DIRECTORY_START, _END_START = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"


@dataclass(frozen=True)
class Package:
    """An artifact in memory, fully checked."""

    where: str
    spec: ArtifactSpec
    step: bytes
    model: Model
    weights: Mapping[str, np.ndarray]
    #: How many values of each type the file holds; `weights` has bfloat16 as float32.
    weight_types: Mapping[str, int]

    @property
    def parameters(self) -> int:
        """Number of floating-point values in the weights, int8 ones included and their scales not."""
        weights = self.weights
        scales = {f"{n}.scale" for n, w in weights.items() if w.dtype == np.int8}
        return sum(
            w.size for n, w in weights.items() if n not in scales and (w.dtype.kind == "f" or w.dtype == np.int8)
        )


def pack(members: Mapping[str, bytes]) -> bytes:
    """The canonical zip file of `members`: stored, dated 1980, no extra fields; same input, same bytes.

    Written out here because zipfile's headers depend on Python's version. Layout: PKWARE APPNOTE
    4.3.7 (local header), 4.3.12 (central directory), 4.3.16 (its end).
    """
    return b"".join(_chunks(members))


def _chunks(members: Mapping[str, bytes]) -> Iterator[bytes]:
    directory, offset = [], 0
    for name, data in members.items():
        encoded = name.encode("ascii")
        header = _HEADER.pack(20, 0, 0, 0, 0x21, zlib.crc32(data), len(data), len(data), len(encoded), 0)
        # made by Unix, zip 2.0; no comment; disk 0; binary; -rw-r--r--
        tail = struct.pack("<HHHII", 0, 0, 0, 0o100644 << 16, offset)
        directory.append(_DIRECTORY_START + struct.pack("<H", 3 << 8 | 20) + header + tail + encoded)
        offset += len(_HEADER_START) + len(header) + len(encoded) + len(data)
        yield _HEADER_START + header + encoded
        yield data
    size = sum(map(len, directory))
    yield from directory
    yield _END_START + struct.pack("<HHHHIIH", 0, 0, len(members), len(members), size, offset, 0)


def build(spec: ArtifactSpec, weights: bytes, step: bytes) -> bytes:
    """The bytes of the artifact file; fills in the hashes."""
    hashes = {WEIGHTS: hashlib.sha256(weights).hexdigest(), STEP: hashlib.sha256(step).hexdigest()}
    text = json.dumps(spec.to_json() | {"sha256": hashes}, indent=1, allow_nan=False) + "\n"
    return pack({SPEC: text.encode(), WEIGHTS: weights, STEP: step})


def read_package(path: str | Path, signed_by: str | Path | None = None) -> Package:
    """Reads and checks an artifact file; raises `UserError` naming the file and what is wrong with it.

    With `signed_by`, the file of a public key, the signature beside the artifact is checked first, over
    the bytes that are then read: nothing looks into a file that is not signed by that key.
    """
    where = f"artifact {str(path)!r}"
    data = read_bytes(path)
    if signed_by is not None:
        check_signature(data, path, signed_by)
    return parse_package(data, where)


def read_bytes(path: str | Path) -> bytes:
    """The content of an artifact file, unchecked but for its size; `UserError` where it cannot be read."""
    where = f"artifact {str(path)!r}"
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{where}: {reason}; give the path of a .mcsd file made by export") from None
    if len(data) > _MAX_FILE_BYTES:
        raise UserError(f"{where} is larger than {_MAX_FILE_BYTES >> 20} MiB; it is not an artifact")
    return data


def parse_package(data: bytes, where: str) -> Package:
    """`read_package` for bytes already in memory; `where` names them in messages."""
    try:
        return _parse(data, where)
    except UserError as error:
        # Names and values out of the file may hold anything: a message stays one line of plain text.
        raise UserError(_one_line(str(error))) from None


def _parse(data: bytes, where: str) -> Package:
    members, fields = _members(data, where)
    if set(members) != set(MEMBERS):
        missing = [m for m in MEMBERS if m not in members]
        extra = sorted(set(members) - set(MEMBERS))
        reason = f"member {missing[0]!r} is missing" if missing else f"member {extra[0]!r} does not belong in it"
        raise UserError(f"{where}: {reason}; export it again")
    position = 0
    for chunk in _chunks({name: members[name] for name in MEMBERS}):
        if data[position : position + len(chunk)] != chunk:
            raise UserError(f"{where} was altered after export (its layout differs); export or copy it again")
        position += len(chunk)
    if position != len(data):
        raise UserError(f"{where} was altered after export (bytes follow its end); export or copy it again")
    for name in (WEIGHTS, STEP):
        expected = fields["sha256"].get(name) if isinstance(fields.get("sha256"), dict) else None
        if hashlib.sha256(members[name]).hexdigest() != expected:
            raise UserError(f"{where}: {name} was altered after export (sha256 differs); export or copy it again")
    spec = parse_spec(fields, where)
    model = read_model(members[STEP], f"{where}: {STEP}")
    _check_ports(sized(model, 1, where), spec, where)
    for name, array in model.constants.items():
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise UserError(f"{where}: weight {name!r} holds NaN: the training diverged; train and export it again")
    weights = read_weights(members[WEIGHTS], where)
    try_step(model, f"{where}: {STEP}")
    return Package(where, spec, members[STEP], model, weights, stored_types(members[WEIGHTS]))


def _members(data: bytes, where: str) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Every member by name, and the fields of spec.json, which comes first in every version of the format.

    A newer version is recognised before anything else is looked at: it may have other members.
    """
    members: dict[str, bytes] = {}
    fields: dict[str, Any] = {}
    position = 0
    while data[position : position + 4] == _HEADER_START:
        body = position + 4 + _HEADER.size
        if body > len(data):
            raise _damaged(where, "it is cut short")
        _, _, method, _, _, _, _, size, name_bytes, extra = _HEADER.unpack_from(data, position + 4)
        name = data[body : body + name_bytes]
        if method != 0:
            raise _damaged(where, "members are compressed")
        if extra or not 0 < name_bytes <= _MAX_NAME_BYTES or not name.isascii() or len(members) >= _MAX_MEMBERS:
            raise _damaged(where, "its headers are damaged")
        position = body + name_bytes + size
        if position > len(data):
            raise _damaged(where, "it is cut short")
        if name.decode() in members:
            raise _damaged(where, "members are doubled")
        members[name.decode()] = content = data[position - size : position]
        if len(members) == 1:
            if name.decode() != SPEC:
                raise UserError(f"{where}: member {SPEC!r} is missing; it is not an artifact, or export it again")
            if size > _MAX_SPEC_BYTES:
                raise UserError(f"{where}: {SPEC} is larger than {_MAX_SPEC_BYTES >> 20} MiB; export it again")
            fields = parse_json(content, where)
    if not members:
        raise _damaged(where, "it is no zip file")
    return members, fields


def _damaged(where: str, reason: str) -> UserError:
    return UserError(f"{where} is no intact artifact ({reason}); export or copy it again")


def _one_line(message: str) -> str:
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in message)
    return plain if len(plain) <= 600 else f"{plain[:440]} ... {plain[-150:]}"


def _check_ports(model: Model, spec: ArtifactSpec, where: str) -> None:
    """The step's inputs and outputs are exactly what the spec says, for a batch of one."""
    state = (1, *spec.state_shape)
    action_dtype = np.dtype("float32" if isinstance(spec.action, BoxSpec) else "int64")
    inputs = {name: Port(name, input_dtype(s), (1, *s.shape)) for name, s in spec.observation.items()}
    inputs[STATE] = Port(STATE, np.dtype("float32"), state)
    outputs = {
        ACTION: Port(ACTION, action_dtype, (1, *spec.action.shape)),
        NEXT_STATE: Port(NEXT_STATE, np.dtype("float32"), state),
    }
    if spec.predicts_success:
        outputs[SUCCESS] = Port(SUCCESS, np.dtype("float32"), (1,))
    for kind, expected, found in (("input", inputs, model.inputs), ("output", outputs, model.outputs)):
        if sorted(p.name for p in found) != sorted(expected):
            raise UserError(
                f"{where}: {STEP} has the {kind}s {', '.join(sorted(p.name for p in found))} "
                f"and {SPEC} says {', '.join(sorted(expected))}; export it again"
            )
        for port in found:
            if port != expected[port.name]:
                want = expected[port.name]
                raise UserError(
                    f"{where}: {STEP}: {kind} {port.name!r} is {port.dtype} {port.shape} "
                    f"and {SPEC} says {want.dtype} {want.shape}; export it again"
                )
