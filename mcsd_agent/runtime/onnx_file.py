"""Reads an ONNX model file into plain Python objects, with NumPy alone.

ONNX files are Protocol Buffers messages. The part of that format an exported step needs is small:
four wire types and a dozen messages (field numbers from onnx/onnx.proto3, IR version 10). Reading it
here keeps `onnx` and `protobuf` off the robot, and lets every artifact be checked before a native
library sees it. Anything malformed raises `UserError`; nothing in a file is ever executed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from mcsd_agent.errors import UserError

#: TensorProto.DataType -> NumPy dtype, for the types an exported policy can hold.
DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("float32"),
    2: np.dtype("uint8"),
    3: np.dtype("int8"),
    4: np.dtype("uint16"),
    5: np.dtype("int16"),
    6: np.dtype("int32"),
    7: np.dtype("int64"),
    9: np.dtype("bool"),
    10: np.dtype("float16"),
    11: np.dtype("float64"),
    12: np.dtype("uint32"),
    13: np.dtype("uint64"),
}

#: A field's payload: an integer (varint), or the bytes of a fixed-width number, string or message.
Payload: TypeAlias = int | memoryview

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Port:
    """An input or output of the graph; `shape` has None where a dimension is not fixed."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Node:
    """One operation. An empty input name is an optional input that was left out."""

    operator: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Model:
    """The graph in execution order; `constants` are its initializers by name."""

    opset: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    constants: dict[str, np.ndarray]
    nodes: tuple[Node, ...]


class Subgraph:
    """Stands for an attribute that holds a graph (the body of If, Loop or Scan), which is not read."""


def read_model(data: bytes, where: str) -> Model:
    """The model in `data`; `where` names its file in the `UserError` raised for anything malformed."""
    try:
        return _model(memoryview(data))
    except _Malformed as error:
        raise UserError(f"{where}: {error}; export the artifact again") from None
    except (ValueError, OverflowError, IndexError, MemoryError):
        raise UserError(f"{where} is not a readable ONNX model; export the artifact again") from None


class _Malformed(Exception):
    """What is wrong, as the middle of a sentence."""


# --- wire format ---------------------------------------------------------------------------------


def _fields(message: Payload) -> Iterator[tuple[int, int, Payload]]:
    """`(field number, wire type, payload)` for every field of a message."""
    if isinstance(message, int):
        raise _Malformed("a message was expected and a number found")
    position, end = 0, len(message)
    while position < end:
        key, position = _varint(message, position)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, position = _varint(message, position)
            yield number, wire, value
            continue
        if wire == _BYTES:
            size, position = _varint(message, position)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise _Malformed(f"wire type {wire} is not valid")
        if size > end - position:
            raise _Malformed("the model is cut short")
        yield number, wire, message[position : position + size]
        position += size


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise _Malformed("the model is cut short")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
    raise _Malformed("a number is longer than ten bytes")


def _int(payload: Payload) -> int:
    if not isinstance(payload, int):
        raise _Malformed("a number was expected and bytes found")
    return payload - (1 << 64) if payload >= 1 << 63 else payload


def _ints(wire: int, payload: Payload) -> list[int]:
    """One entry of a repeated integer field: a single number, or many packed into bytes."""
    if wire == _VARINT or isinstance(payload, int):
        return [_int(payload)]
    values, position = [], 0
    while position < len(payload):
        value, position = _varint(payload, position)
        values.append(_int(value))
    return values


def _bytes(payload: Payload) -> bytes:
    if isinstance(payload, int):
        raise _Malformed("bytes were expected and a number found")
    return bytes(payload)


def _text(payload: Payload) -> str:
    return _bytes(payload).decode("utf-8")


def _floats(payload: Payload) -> list[float]:
    return np.frombuffer(_bytes(payload), "<f4").tolist()


# --- messages ------------------------------------------------------------------------------------


def _model(data: memoryview) -> Model:
    graph: Payload | None = None
    opset: int | None = None
    for number, _, payload in _fields(data):
        if number == 7:
            graph = payload
        elif number == 8:
            domain, version = _opset(payload)
            opset = version if domain in ("", "ai.onnx") else opset
        elif number == 25:
            raise _Malformed("functions defined inside the model are not supported")
    if graph is None or opset is None:
        raise _Malformed("it holds no graph or no operator set version")
    return _graph(graph, opset)


def _opset(data: Payload) -> tuple[str, int]:
    domain, version = "", 0
    for number, _, payload in _fields(data):
        if number == 1:
            domain = _text(payload)
        elif number == 2:
            version = _int(payload)
    return domain, version


def _graph(data: Payload, opset: int) -> Model:
    nodes, inputs, outputs = [], [], []
    constants: dict[str, np.ndarray] = {}
    for number, _, payload in _fields(data):
        if number == 1:
            nodes.append(_node(payload))
        elif number == 5:
            name, array = _tensor(payload)
            constants[name] = array
        elif number == 11:
            inputs.append(_port(payload))
        elif number == 12:
            outputs.append(_port(payload))
        elif number == 15:
            raise _Malformed("sparse constants are not supported")
    # Old exporters list the constants among the inputs as well.
    return Model(opset, tuple(p for p in inputs if p.name not in constants), tuple(outputs), constants, tuple(nodes))


def _node(data: Payload) -> Node:
    operator = domain = ""
    inputs, outputs = [], []
    attributes: dict[str, Any] = {}
    for number, _, payload in _fields(data):
        if number == 1:
            inputs.append(_text(payload))
        elif number == 2:
            outputs.append(_text(payload))
        elif number == 4:
            operator = _text(payload)
        elif number == 5:
            name, value = _attribute(payload)
            attributes[name] = value
        elif number == 7:
            domain = _text(payload)
    if not operator or not outputs:
        raise _Malformed("a node names no operator or no output")
    return Node(operator, "" if domain == "ai.onnx" else domain, tuple(inputs), tuple(outputs), attributes)


def _attribute(data: Payload) -> tuple[str, Any]:
    """Name and value. `type` says which of the value fields counts, so zero and [] survive proto3's defaults."""
    name, kind = "", 0
    single: dict[int, Any] = {1: 0.0, 2: 0, 3: ""}
    floats: list[float] = []
    ints: list[int] = []
    strings: list[str] = []
    for number, wire, payload in _fields(data):
        if number == 1:
            name = _text(payload)
        elif number == 2:
            single[1] = _floats(payload)[0]
        elif number == 3:
            single[2] = _int(payload)
        elif number == 4:
            single[3] = _text(payload)
        elif number == 5:
            single[4] = _tensor(payload)[1]
        elif number == 7:
            floats += _floats(payload)
        elif number == 8:
            ints += _ints(wire, payload)
        elif number == 9:
            strings.append(_text(payload))
        elif number == 20:
            kind = _int(payload)
    single |= {5: Subgraph(), 6: tuple(floats), 7: tuple(ints), 8: tuple(strings), 10: Subgraph()}
    if kind not in single:
        raise _Malformed(f"attribute {name!r} has a type that is not supported ({kind})")
    return name, single[kind]


def _tensor(data: Payload) -> tuple[str, np.ndarray]:
    name, kind = "", 0
    dims: list[int] = []
    raw: bytes | None = None
    floats: list[bytes] = []
    ints: list[int] = []
    for number, wire, payload in _fields(data):
        if number == 1:
            dims += _ints(wire, payload)
        elif number == 2:
            kind = _int(payload)
        elif number in (4, 10):
            floats.append(_bytes(payload))
        elif number in (5, 7, 11):
            ints += _ints(wire, payload)
        elif number == 8:
            name = _text(payload)
        elif number == 9:
            raw = _bytes(payload)
        elif number == 13 or (number == 14 and _int(payload) != 0):
            # A path in a model file would let it read any file of the robot.
            raise _Malformed("weights kept outside the model file are not supported")
        elif number == 3:
            raise _Malformed("a constant split into segments is not supported")
    if kind not in DTYPES:
        raise _Malformed(f"constant {name!r} has an element type that is not supported ({kind})")
    return name, _array(name, DTYPES[kind], dims, raw, b"".join(floats), ints)


def _array(
    name: str, dtype: np.dtype[Any], dims: list[int], raw: bytes | None, floats: bytes, ints: list[int]
) -> np.ndarray:
    if any(n < 0 for n in dims):
        raise _Malformed(f"constant {name!r} has a negative dimension")
    if raw is not None:
        values = np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype)
    elif dtype.kind == "f" and dtype.itemsize >= 4:
        values = np.frombuffer(floats, dtype.newbyteorder("<")).astype(dtype)
    elif dtype.kind == "f":
        # float16 travels as the integer of its bits.
        values = np.asarray(ints, np.uint16).view(np.float16)
    else:
        values = np.asarray(ints, np.int64).astype(dtype)
    # Python integers: a product of crafted dimensions must not wrap around.
    expected = 1
    for n in dims:
        expected *= n
    if values.size != expected:
        raise _Malformed(f"constant {name!r} holds {values.size} values where its shape {tuple(dims)} needs {expected}")
    array = values.reshape(dims)
    array.flags.writeable = False
    return array


def _port(data: Payload) -> Port:
    name, dtype = "", None
    shape: tuple[int | None, ...] = ()
    for number, _, payload in _fields(data):
        if number == 1:
            name = _text(payload)
        elif number == 2:
            for kind, _, tensor_type in _fields(payload):
                if kind == 1:
                    dtype, shape = _tensor_type(tensor_type)
    if dtype is None:
        raise _Malformed(f"input or output {name!r} is not a tensor of a supported type")
    return Port(name, dtype, shape)


def _tensor_type(data: Payload) -> tuple[np.dtype[Any] | None, tuple[int | None, ...]]:
    dtype, shape = None, []
    for number, _, payload in _fields(data):
        if number == 1:
            dtype = DTYPES.get(_int(payload))
        elif number == 2:
            for kind, _, dimension in _fields(payload):
                if kind == 1:
                    sizes = [_int(value) for field, _, value in _fields(dimension) if field == 1]
                    shape.append(sizes[0] if sizes else None)
    return dtype, tuple(shape)
