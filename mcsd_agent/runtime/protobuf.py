"""The wire format of Protocol Buffers, read strictly: what ONNX files are made of.

A reader that skips what it does not know would let a file say more to another reader than it says to
this one. So each message is read against a list of its fields (`Layout`): a field that is not on it, has
another wire type, or comes twice where once is meant (which other readers merge) is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

#: A field's payload: an integer (varint), or the bytes of a fixed-width number, string or message.
Payload: TypeAlias = int | memoryview

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_KNOWN = (VARINT, FIXED64, BYTES, FIXED32)

#: Numbers that are not packed into bytes cost Python time each; exporters pack what is long.
_MAX_NUMBERS = 1 << 16


class Malformed(Exception):
    """What is wrong, as the middle of a sentence."""


@dataclass(frozen=True)
class Layout:
    """The fields of one message: `once` by number and wire type, and `many` (repeated) by number.

    A repeated number may come singly (its own wire type) or packed (as bytes).
    """

    name: str
    once: dict[int, int]
    many: dict[int, int]


def fields(message: Payload, layout: Layout) -> Iterator[tuple[int, int, Payload]]:
    """`(field number, wire type, payload)` for every field of a message."""
    if isinstance(message, int):
        raise Malformed("a message was expected and a number found")
    position, end = 0, len(message)
    seen: set[int] = set()
    while position < end:
        key, position = _varint(message, position)
        number, wire = key >> 3, key & 7
        if wire not in _KNOWN:
            raise Malformed(f"wire type {wire} is not valid")
        if number in layout.once:
            if number in seen:
                raise Malformed(f"field {number} of {layout.name} comes twice")
            seen.add(number)
            fits = wire == layout.once[number]
        elif number in layout.many:
            fits = wire in (layout.many[number], BYTES)
        else:
            raise Malformed(f"field {number} of {layout.name} is not supported")
        if not fits:
            raise Malformed(f"field {number} of {layout.name} has wire type {wire}")
        if wire == VARINT:
            value, position = _varint(message, position)
            yield number, wire, value
            continue
        if wire == BYTES:
            size, position = _varint(message, position)
        else:
            size = 4 if wire == FIXED32 else 8
        if size > end - position:
            raise Malformed("the model is cut short")
        yield number, wire, message[position : position + size]
        position += size


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise Malformed("the model is cut short")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
    raise Malformed("a number is longer than ten bytes")


def integer(payload: Payload) -> int:
    """A signed 64-bit number."""
    if not isinstance(payload, int):
        raise Malformed("a number was expected and bytes found")
    return payload - (1 << 64) if payload >= 1 << 63 else payload


def integers(payload: Payload) -> list[int]:
    """One entry of a repeated integer field: a single number, or many packed into bytes."""
    if isinstance(payload, int):
        return [integer(payload)]
    if len(payload) > 10 * _MAX_NUMBERS:
        raise Malformed("a long list of numbers is not kept as raw bytes")
    values, position = [], 0
    while position < len(payload):
        value, position = _varint(payload, position)
        values.append(integer(value))
    return values


def raw(payload: Payload) -> bytes:
    """The bytes of a string, a message or a fixed-width number."""
    if isinstance(payload, int):
        raise Malformed("bytes were expected and a number found")
    return bytes(payload)


def text(payload: Payload) -> str:
    """A string; `ValueError` unless it is UTF-8."""
    return raw(payload).decode("utf-8")


def floats(payload: Payload) -> list[float]:
    """float32 numbers: one, or many packed."""
    if not isinstance(payload, int) and len(payload) > 4 * _MAX_NUMBERS:
        raise Malformed("a long list of numbers is not kept as raw bytes")
    return np.frombuffer(raw(payload), "<f4").tolist()
