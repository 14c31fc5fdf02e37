"""Constants of an ONNX model: TensorProto messages to NumPy arrays, of the types that a policy's step can hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from mcsd_agent.runtime.protobuf import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    Layout,
    Malformed,
    Payload,
    fields,
    integer,
    integers,
    raw,
    text,
)

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
#: TensorProto.DataType of bfloat16: read as float32, to which a step casts it before use.
_BFLOAT16 = 16

#: Element types whose values may be spelled out, by field of TensorProto; the others are raw bytes.
_SPELLED = {1: 4, 2: 5, 3: 5, 4: 5, 5: 5, 6: 5, 7: 7, 9: 5, 10: 5, 11: 10, 12: 11, 13: 11}

#: Largest number of values in one constant, and most dimensions.
_MAX_VALUES, _MAX_DIMENSIONS = 1 << 28, 16

_TENSOR = Layout(
    "a constant",
    {2: VARINT, 8: BYTES, 9: BYTES, 12: BYTES, 14: VARINT},
    {1: VARINT, 4: FIXED32, 5: VARINT, 7: VARINT, 10: FIXED64, 11: VARINT, 13: BYTES},
)


def read_tensor(data: Payload) -> tuple[str, np.ndarray]:
    """Name and values, read-only; raises `Malformed`."""
    name, kind = "", 0
    dims: list[int] = []
    content: bytes | None = None
    numbers: list[bytes] = []
    ints: list[int] = []
    spelled = set()
    for number, _, payload in fields(data, _TENSOR):
        if number == 1:
            dims += integers(payload)
        elif number == 2:
            kind = integer(payload)
        elif number in (4, 10):
            spelled.add(number)
            numbers.append(raw(payload))
        elif number in (5, 7, 11):
            spelled.add(number)
            ints += integers(payload)
        elif number == 8:
            name = text(payload)
        elif number == 9:
            content = raw(payload)
        elif number == 13 or (number == 14 and integer(payload) != 0):
            # A path in a model file would let it read any file of the robot.
            raise Malformed("weights kept outside the model file are not supported")
    if kind == _BFLOAT16:
        if content is None or spelled:
            raise Malformed(f"constant {name!r} of type bfloat16 is not raw")
        # The upper half of a float32, which NumPy has.
        wide = np.frombuffer(content, "<u2").astype("<u4") << 16
        return name, _array(name, DTYPES[1], dims, wide.astype("<u4").tobytes(), b"", [])
    if kind not in DTYPES:
        raise Malformed(f"constant {name!r} has an element type that is not supported ({kind})")
    if spelled - (set() if content is not None else {_SPELLED.get(kind)}):
        raise Malformed(f"constant {name!r} has values of several types")
    return name, _array(name, DTYPES[kind], dims, content, b"".join(numbers), ints)


def _array(
    name: str, dtype: np.dtype[Any], dims: list[int], content: bytes | None, numbers: bytes, ints: list[int]
) -> np.ndarray:
    if any(n < 0 for n in dims):
        raise Malformed(f"constant {name!r} has a negative dimension")
    # Python integers: a product of crafted dimensions must not wrap around.
    expected, extent = 1, 1
    for n in dims:
        expected, extent = expected * n, extent * max(1, n)
    if extent > _MAX_VALUES or len(dims) > _MAX_DIMENSIONS:
        raise Malformed(f"constant {name!r} is too large")
    if content is not None:
        values = np.frombuffer(content, dtype.newbyteorder("<")).astype(dtype)
        if dtype.kind == "b" and np.frombuffer(content, np.uint8).max(initial=0) > 1:
            raise Malformed(f"constant {name!r} holds a boolean that is neither 0 nor 1")
    elif dtype.kind == "f" and dtype.itemsize >= 4:
        values = np.frombuffer(numbers, dtype.newbyteorder("<")).astype(dtype)
    elif dtype.kind == "f":
        # float16 travels as the integer of its bits.
        values = np.asarray(ints, np.uint16).view(np.float16)
    else:
        wide = np.asarray(ints, np.int64)
        values = wide.astype(dtype)
        if (values.astype(np.int64) != wide).any():
            raise Malformed(f"constant {name!r} holds a number that does not fit {dtype}")
    if values.size != expected:
        raise Malformed(f"constant {name!r} holds {values.size} values where its shape {tuple(dims)} needs {expected}")
    array = values.reshape(dims)
    array.flags.writeable = False
    return array
