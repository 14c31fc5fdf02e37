"""The part of CBOR (RFC 8949) that rosbridge servers send, read with a bound on what it may become in memory.

Numbers, text, bytes, lists, maps with text keys, true, false, null, and typed arrays (RFC 8746), which become NumPy
arrays. Everything else is refused with `ValueError`: other tags (a decoder that builds dates, regular expressions or
giant decimals for a stranger can be made to do anything but read messages), indefinite lengths, and trailing bytes.
A library decodes all of that and has no bound on the number of items: 16 MiB of empty lists are a gigabyte.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

MAX_DEPTH = 64
#: Bytes that the smallest item needs once it is a Python object in a list or a map, about.
ITEM_BYTES = 100

#: RFC 8746's typed arrays: element types by tag.
_TYPED: dict[int, np.dtype[Any]] = {
    tag: np.dtype(spelling)
    for tag, spelling in {
        64: ">u1", 65: ">u2", 66: ">u4", 67: ">u8", 68: "<u1", 69: "<u2", 70: "<u4", 71: "<u8",
        72: ">i1", 73: ">i2", 74: ">i4", 75: ">i8", 77: "<i2", 78: "<i4", 79: "<i8",
        80: ">f2", 81: ">f4", 82: ">f8", 84: "<f2", 85: "<f4", 86: "<f8",
    }.items()
}  # fmt: skip
_SIMPLE = {20: False, 21: True, 22: None}
_FLOATS = {25: struct.Struct(">e"), 26: struct.Struct(">f"), 27: struct.Struct(">d")}
_LENGTHS = {24: struct.Struct(">B"), 25: struct.Struct(">H"), 26: struct.Struct(">I"), 27: struct.Struct(">Q")}
_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _LIST, _MAP, _TAG = range(7)


def loads(payload: bytes, limit: int) -> tuple[Any, int]:
    """The value in `payload`, and its size in memory, bytes (an upper estimate).

    Raises `ValueError` for anything that is not described above, and `MemoryError` beyond `limit` bytes.
    """
    reader = _Reader(payload, limit)
    value = reader.item(0)
    if reader.position != len(payload):
        raise ValueError(f"{len(payload) - reader.position} bytes after the end")
    return value, reader.size


class _Reader:
    def __init__(self, payload: bytes, limit: int) -> None:
        self.position = 0
        self.size = 0
        self._payload = payload
        self._limit = limit

    def item(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} deep")
        self._grow(ITEM_BYTES)
        position = self.position
        if position == len(self._payload):
            raise ValueError("ends 1 bytes early")
        initial, self.position = self._payload[position], position + 1
        major, detail = initial >> 5, initial & 31
        if major > _TAG:
            if detail in _SIMPLE:
                return _SIMPLE[detail]
            if detail in _FLOATS:
                form = _FLOATS[detail]
                return form.unpack(self._take(form.size))[0]
            raise ValueError(f"simple value or break {detail}")
        count = detail if detail < 24 else self._length(detail)
        if major == _TEXT:
            return self._text(count)
        if major == _UNSIGNED:
            return count
        if major == _NEGATIVE:
            return -1 - count
        if major == _BYTES:
            return self._bytes(count)
        if major == _LIST:
            self._check_items(count)
            return [self.item(depth + 1) for _ in range(count)]
        if major == _MAP:
            self._check_items(2 * count)
            value = {}
            for _ in range(count):
                key = self.item(MAX_DEPTH)
                if not isinstance(key, str):
                    raise ValueError(f"a map's key is {type(key).__name__}, not text")
                value[key] = self.item(depth + 1)
            return value
        return self._typed_array(count)

    def _take(self, count: int) -> bytes:
        start, self.position = self.position, self.position + count
        if self.position > len(self._payload):
            raise ValueError(f"ends {self.position - len(self._payload)} bytes early")
        return self._payload[start : self.position]

    def _grow(self, count: int) -> None:
        self.size += count
        if self.size > self._limit:
            raise MemoryError(f"would take more than {self._limit} bytes of memory")

    def _length(self, detail: int) -> int:
        form = _LENGTHS.get(detail)
        if form is None:
            raise ValueError("indefinite or reserved length")
        return int(form.unpack(self._take(form.size))[0])

    def _check_items(self, count: int) -> None:
        # Each needs a byte at least: an announcement alone makes nothing big.
        if count > len(self._payload) - self.position:
            raise ValueError(f"announces {count} items in {len(self._payload) - self.position} bytes")
        self._grow(16 * count)

    def _bytes(self, count: int) -> bytes:
        self._grow(count)
        return self._take(count)

    def _text(self, count: int) -> str:
        text = self._take(count)
        self._grow(count if text.isascii() else 4 * count)  # characters may take four bytes each
        return text.decode()

    def _typed_array(self, tag: int) -> np.ndarray:
        dtype = _TYPED.get(tag)
        if dtype is None:
            raise ValueError(f"tag {tag}")
        data = self.item(MAX_DEPTH)
        if not isinstance(data, bytes) or len(data) % dtype.itemsize:
            raise ValueError(f"typed array of {dtype.name} that is not whole")
        # A copy, so that whoever gets it may write to it.
        return np.frombuffer(data, dtype).astype(dtype.newbyteorder("="))
