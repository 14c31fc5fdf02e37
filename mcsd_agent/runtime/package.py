"""The artifact file `.mcsd`, read strictly and without torch.

An artifact is a zip file of three stored (uncompressed) members:

    spec.json              what the policy sees and does, at what rate, and the sha256 of the others
    weights.safetensors    the tensors, for loading the policy back into torch
    step.onnx              one step: observations and state in, action and state out

Its bytes are canonical: `pack` is the only way to lay the members out. A file that differs from what
`pack` makes of its own members, even in a time stamp, was altered and is refused. Nothing is
unpickled or executed, and every refusal is a `UserError` of one line: the file and the reason.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.runtime.artifact_spec import (
    ACTION,
    NEXT_STATE,
    STATE,
    ArtifactSpec,
    input_dtype,
    parse_json,
    parse_spec,
)
from mcsd_agent.runtime.onnx_file import Model, Port, read_model
from mcsd_agent.runtime.weights_file import read_weights
from mcsd_agent.spaces import BoxSpec

SPEC, WEIGHTS, STEP = "spec.json", "weights.safetensors", "step.onnx"
MEMBERS = (SPEC, WEIGHTS, STEP)

_MAX_SPEC_BYTES = 4 << 20
_MAX_FILE_BYTES = 1 << 30


@dataclass(frozen=True)
class Package:
    """An artifact in memory, fully checked."""

    where: str
    spec: ArtifactSpec
    step: bytes
    model: Model
    weights: Mapping[str, np.ndarray]

    @property
    def parameters(self) -> int:
        """Number of floating-point values in the weights."""
        return sum(w.size for w in self.weights.values() if w.dtype.kind == "f")


def pack(members: Mapping[str, bytes]) -> bytes:
    """The canonical zip file of `members`: stored, dated 1980, no extra fields; same input, same bytes.

    Written out here because zipfile's headers depend on Python's version. Layout: PKWARE APPNOTE
    4.3.7 (local header), 4.3.12 (central directory), 4.3.16 (its end).
    """
    out, directory = io.BytesIO(), io.BytesIO()
    for name, data in members.items():
        encoded = name.encode("ascii")
        # version 2.0, no flags, stored, 00:00 on 1980-01-01, crc, size twice, name length, no extra field
        header = struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 0x21, zlib.crc32(data), len(data), len(data), len(encoded), 0)
        offset = out.tell()
        out.write(b"PK\x03\x04" + header + encoded + data)
        # made by Unix, zip 2.0; no comment; disk 0; binary; -rw-r--r--
        tail = struct.pack("<HHHII", 0, 0, 0, 0o100644 << 16, offset)
        directory.write(b"PK\x01\x02" + struct.pack("<H", 3 << 8 | 20) + header + tail + encoded)
    start, size = out.tell(), directory.tell()
    out.write(directory.getvalue())
    out.write(b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, len(members), len(members), size, start, 0))
    return out.getvalue()


def build(spec: ArtifactSpec, weights: bytes, step: bytes) -> bytes:
    """The bytes of the artifact file; fills in the hashes."""
    hashes = {WEIGHTS: hashlib.sha256(weights).hexdigest(), STEP: hashlib.sha256(step).hexdigest()}
    text = json.dumps(spec.to_json() | {"sha256": hashes}, indent=1, allow_nan=False) + "\n"
    return pack({SPEC: text.encode(), WEIGHTS: weights, STEP: step})


def read_package(path: str | Path) -> Package:
    """Reads and checks an artifact file; raises `UserError` naming the file and what is wrong with it."""
    where = f"artifact {str(path)!r}"
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{where}: {reason}; give the path of a .mcsd file made by export") from None
    if len(data) > _MAX_FILE_BYTES:
        raise UserError(f"{where} is larger than {_MAX_FILE_BYTES >> 20} MiB; it is not an artifact")
    return parse_package(data, where)


def parse_package(data: bytes, where: str) -> Package:
    """`read_package` for bytes already in memory; `where` names them in messages."""
    members = _unzip(data, where)
    fields = parse_json(members[SPEC], where)
    if set(members) != set(MEMBERS):
        missing = [m for m in MEMBERS if m not in members]
        extra = sorted(set(members) - set(MEMBERS))
        reason = f"member {missing[0]!r} is missing" if missing else f"member {extra[0]!r} does not belong in it"
        raise UserError(f"{where}: {reason}; export it again")
    if pack({name: members[name] for name in MEMBERS}) != data:
        raise UserError(f"{where} was altered after export (its layout differs); export or copy it again")
    for name in (WEIGHTS, STEP):
        expected = fields["sha256"].get(name) if isinstance(fields.get("sha256"), dict) else None
        if hashlib.sha256(members[name]).hexdigest() != expected:
            raise UserError(f"{where}: {name} was altered after export (sha256 differs); export or copy it again")
    spec = parse_spec(fields, where)
    model = read_model(members[STEP], f"{where}: {STEP}")
    _check_ports(model, spec, where)
    for name, array in model.constants.items():
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise UserError(f"{where}: weight {name!r} holds NaN: the training diverged; train and export it again")
    return Package(where, spec, members[STEP], model, read_weights(members[WEIGHTS], where))


def _unzip(data: bytes, where: str) -> dict[str, bytes]:
    """The bytes of every member, whatever their names; spec.json is among them."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            infos = [archive.getinfo(name) for name in names]
            # Stored members cannot hold more than the file does: no zip bombs.
            if len(set(names)) != len(names) or any(i.compress_type != zipfile.ZIP_STORED for i in infos):
                raise zipfile.BadZipFile("members are compressed or doubled")
            if SPEC not in names:
                raise UserError(f"{where}: member {SPEC!r} is missing; it is not an artifact, or export it again")
            if archive.getinfo(SPEC).file_size > _MAX_SPEC_BYTES:
                raise UserError(f"{where}: {SPEC} is larger than {_MAX_SPEC_BYTES >> 20} MiB; export it again")
            return {name: archive.read(name) for name in names}
    except UserError:
        raise
    except (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError) as error:
        reason = " ".join(str(error).split())[:120]
    except (NotImplementedError, RuntimeError, ValueError, OverflowError, LookupError, MemoryError):
        reason = "its headers are damaged"
    raise UserError(f"{where} is no intact artifact ({reason}); export or copy it again")


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
