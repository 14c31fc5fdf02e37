"""Reads an ONNX model file into plain Python objects, with NumPy alone.

ONNX files are Protocol Buffers messages. The part of that format an exported step needs is small: a
dozen messages (field numbers from onnx/onnx.proto3, IR version 10). Reading it here keeps `onnx` and
`protobuf` off the robot, and lets every artifact be checked before a native library sees it. Whatever
is not read is refused, so that a file cannot say more to that library than it says here: functions,
graphs inside nodes, weights in other files, training information, metadata. Anything malformed raises
`UserError`; nothing in a file is ever executed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.runtime.onnx_tensors import DTYPES, read_tensor
from mcsd_agent.runtime.protobuf import (
    BYTES,
    FIXED32,
    VARINT,
    Layout,
    Malformed,
    Payload,
    fields,
    floats,
    integer,
    integers,
    text,
)


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


#: Domain of the operators that onnxruntime has beside ONNX's; each is on the list of the numpy engine or refused.
CONTRIBUTED = "com.microsoft"

MODEL = Layout("a model", {1: VARINT, 2: BYTES, 3: BYTES, 4: BYTES, 5: VARINT, 6: BYTES, 7: BYTES}, {8: BYTES})
_OPSET = Layout("an operator set", {1: BYTES, 2: VARINT}, {})
GRAPH = Layout("a graph", {2: BYTES, 10: BYTES}, {1: BYTES, 5: BYTES, 11: BYTES, 12: BYTES})
_NODE = Layout("a node", {3: BYTES, 4: BYTES, 6: BYTES, 7: BYTES}, {1: BYTES, 2: BYTES, 5: BYTES})
_ATTRIBUTE = Layout(
    "an attribute",
    {1: BYTES, 2: FIXED32, 3: VARINT, 4: BYTES, 5: BYTES, 13: BYTES, 20: VARINT},
    {7: FIXED32, 8: VARINT, 9: BYTES},
)
PORT = Layout("an input or output", {1: BYTES, 2: BYTES, 3: BYTES}, {})
_TYPE = Layout("a type", {1: BYTES}, {})
_TENSOR_TYPE = Layout("a tensor type", {1: VARINT, 2: BYTES}, {})
_SHAPE = Layout("a shape", {}, {1: BYTES})
_DIMENSION = Layout("a dimension", {1: VARINT, 2: BYTES}, {})

#: Of an attribute: its field by its type (AttributeProto.AttributeType).
_VALUE_FIELD = {1: 2, 2: 3, 3: 4, 4: 5, 6: 7, 7: 8, 8: 9}


def read_model(data: bytes, where: str) -> Model:
    """The model in `data`; `where` names its file in the `UserError` raised for anything malformed."""
    try:
        return _model(memoryview(data))
    except Malformed as error:
        raise UserError(f"{where}: {error}; export the artifact again") from None
    except (ValueError, OverflowError, IndexError, MemoryError):
        raise UserError(f"{where} is not a readable ONNX model; export the artifact again") from None


def _model(data: memoryview) -> Model:
    graph: Payload | None = None
    opset: int | None = None
    for number, _, payload in fields(data, MODEL):
        if number == 7:
            graph = payload
        elif number == 8:
            domain, version = _opset(payload)
            if domain == CONTRIBUTED and version == 1:
                continue
            if domain not in ("", "ai.onnx"):
                raise Malformed(f"operators of {domain!r} (version {version}) are not supported")
            if opset is not None:
                raise Malformed("it names two operator sets")
            opset = version
    if graph is None or opset is None:
        raise Malformed("it holds no graph or no operator set version")
    return _graph(graph, opset)


def _opset(data: Payload) -> tuple[str, int]:
    domain, version = "", 0
    for number, _, payload in fields(data, _OPSET):
        if number == 1:
            domain = text(payload)
        else:
            version = integer(payload)
    return domain, version


def _graph(data: Payload, opset: int) -> Model:
    nodes, inputs, outputs = [], [], []
    constants: dict[str, np.ndarray] = {}
    for number, _, payload in fields(data, GRAPH):
        if number == 1:
            nodes.append(_node(payload))
        elif number == 5:
            name, array = read_tensor(payload)
            if name in constants:
                raise Malformed(f"constant {name!r} comes twice")
            constants[name] = array
        elif number == 11:
            inputs.append(_port(payload))
        elif number == 12:
            outputs.append(_port(payload))
    for port in inputs:
        # The other way to write a constant, which would make it an input that may be overridden.
        if port.name in constants:
            raise Malformed(f"{port.name!r} is both an input and a constant")
    return Model(opset, tuple(inputs), tuple(outputs), constants, tuple(nodes))


def _node(data: Payload) -> Node:
    operator = domain = ""
    inputs, outputs = [], []
    attributes: dict[str, Any] = {}
    for number, _, payload in fields(data, _NODE):
        if number == 1:
            inputs.append(text(payload))
        elif number == 2:
            outputs.append(text(payload))
        elif number == 4:
            operator = text(payload)
        elif number == 5:
            name, value = _attribute(payload)
            if name in attributes:
                raise Malformed(f"attribute {name!r} comes twice")
            attributes[name] = value
        elif number == 7:
            domain = text(payload)
    if not operator or not outputs:
        raise Malformed("a node names no operator or no output")
    return Node(operator, "" if domain == "ai.onnx" else domain, tuple(inputs), tuple(outputs), attributes)


def _attribute(data: Payload) -> tuple[str, Any]:
    """Name and value. `type` says which of the value fields counts, so zero and [] survive proto3's defaults."""
    name, kind = "", 0
    single: dict[int, Any] = {1: 0.0, 2: 0, 3: ""}
    numbers: list[float] = []
    ints: list[int] = []
    strings: list[str] = []
    present = set()
    for number, _, payload in fields(data, _ATTRIBUTE):
        present.add(number)
        if number == 1:
            name = text(payload)
        elif number == 2:
            single[1] = floats(payload)[0]
        elif number == 3:
            single[2] = integer(payload)
        elif number == 4:
            single[3] = text(payload)
        elif number == 5:
            single[4] = read_tensor(payload)[1]
        elif number == 7:
            numbers += floats(payload)
        elif number == 8:
            ints += integers(payload)
        elif number == 9:
            strings.append(text(payload))
        elif number == 20:
            kind = integer(payload)
    single |= {6: tuple(numbers), 7: tuple(ints), 8: tuple(strings)}
    if kind not in single:
        raise Malformed(f"attribute {name!r} has a type that is not supported ({kind})")
    if present - {1, 13, 20, _VALUE_FIELD[kind]}:
        raise Malformed(f"attribute {name!r} has values of several types")
    return name, single[kind]


def _port(data: Payload) -> Port:
    name, dtype = "", None
    shape: tuple[int | None, ...] = ()
    for number, _, payload in fields(data, PORT):
        if number == 1:
            name = text(payload)
        elif number == 2:
            for _, _, tensor_type in fields(payload, _TYPE):
                dtype, shape = _tensor_type(tensor_type)
    if dtype is None:
        raise Malformed(f"input or output {name!r} is not a tensor of a supported type")
    return Port(name, dtype, shape)


def _tensor_type(data: Payload) -> tuple[np.dtype[Any] | None, tuple[int | None, ...]]:
    dtype = None
    shape: list[int | None] = []
    for number, _, payload in fields(data, _TENSOR_TYPE):
        if number == 1:
            dtype = DTYPES.get(integer(payload))
            continue
        for _, _, dimension in fields(payload, _SHAPE):
            sizes = [integer(value) for field, _, value in fields(dimension, _DIMENSION) if field == 1]
            shape.append(sizes[0] if sizes else None)
    return dtype, tuple(shape)
