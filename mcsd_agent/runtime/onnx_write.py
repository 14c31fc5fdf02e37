"""Writes a part of an ONNX file as a file of its own: fewer nodes, other inputs; everything else byte for byte."""

from __future__ import annotations

from collections.abc import Iterable

from mcsd_agent.runtime.onnx_file import GRAPH, MODEL, PORT
from mcsd_agent.runtime.protobuf import BYTES, VARINT, Payload, fields, raw, text

_NODES, _INPUTS = 1, 11  # of a graph
_GRAPH_OF_A_MODEL = 7


def with_nodes(
    step: bytes,
    nodes: set[int],
    without_inputs: set[str],
    new_inputs: Iterable[tuple[str, int, tuple[int | None, ...]]],
) -> bytes:
    """The model in `step` with the nodes of these numbers only, without some inputs and with others.

    A new input is its name, the code of its type (TensorProto.DataType) and its shape. `step` was read before.
    """
    parts = []
    for number, wire, payload in fields(memoryview(step), MODEL):
        if number == _GRAPH_OF_A_MODEL:
            payload = memoryview(_graph(payload, nodes, without_inputs, new_inputs))
        parts.append(_field(number, wire, payload))
    return b"".join(parts)


def _graph(
    graph: Payload,
    nodes: set[int],
    without_inputs: set[str],
    new_inputs: Iterable[tuple[str, int, tuple[int | None, ...]]],
) -> bytes:
    parts, count = [], 0
    for number, wire, payload in fields(graph, GRAPH):
        if number == _NODES:
            count += 1
            if count - 1 not in nodes:
                continue
        elif number == _INPUTS and _name(payload) in without_inputs:
            continue
        parts.append(_field(number, wire, payload))
    return b"".join([*parts, *(_message(_INPUTS, _port(*port)) for port in new_inputs)])


def _name(port: Payload) -> str:
    return next((text(payload) for number, _, payload in fields(port, PORT) if number == 1), "")


def _port(name: str, code: int, shape: tuple[int | None, ...]) -> bytes:
    dimensions = b"".join(_message(1, _number(1, n or 0)) for n in shape)
    tensor = _number(1, code) + _message(2, dimensions)
    return _message(1, name.encode()) + _message(2, _message(1, tensor))


def _field(number: int, wire: int, payload: Payload) -> bytes:
    if isinstance(payload, int):
        return _number(number, payload)
    if wire == BYTES:
        return _message(number, raw(payload))
    return _varint(number << 3 | wire) + raw(payload)


def _message(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | BYTES) + _varint(len(payload)) + payload


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3 | VARINT) + _varint(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
