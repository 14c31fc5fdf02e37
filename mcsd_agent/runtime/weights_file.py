"""Reads `weights.safetensors` with NumPy alone.

The format (huggingface/safetensors, "Format"): eight bytes with the length of a JSON header, the
header `{name: {dtype, shape, data_offsets}}`, then the tensors one after the other, little-endian.
There is nothing in it to execute.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from mcsd_agent.errors import UserError

#: Names that safetensors gives to the types a policy's tensors may have.
DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("bool"),
}

_MAX_HEADER_BYTES = 16 << 20


def read_weights(data: bytes, where: str) -> dict[str, np.ndarray]:
    """Tensors by name, read-only views of `data`; `UserError` for anything malformed or NaN."""
    try:
        size = int.from_bytes(data[:8], "little")
        if len(data) < 8 or size > min(len(data) - 8, _MAX_HEADER_BYTES):
            raise ValueError("the header is cut short")
        header = json.loads(data[8 : 8 + size])
        header.pop("__metadata__", None)
        return _tensors(header, memoryview(data)[8 + size :])
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{where}: weights.safetensors is malformed ({reason}); export the artifact again") from None


def _tensors(header: dict[str, Any], body: memoryview) -> dict[str, np.ndarray]:
    position = 0
    tensors = {}
    # Without gaps and overlaps every byte of the file belongs to exactly one tensor.
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, shape, (start, stop) = DTYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
        if start != position or any(not isinstance(n, int) or n < 0 for n in shape):
            raise ValueError(f"tensor {name!r} is not where it should be")
        if stop - start != math.prod(shape) * dtype.itemsize or stop > len(body):
            raise ValueError(f"tensor {name!r} has the wrong length")
        array = np.frombuffer(body[start:stop], dtype).reshape(shape)
        if dtype.kind == "f" and np.isnan(array).any():
            raise ValueError(f"weight {name!r} holds NaN: the training diverged")
        array.flags.writeable = False
        tensors[name] = array
        position = stop
    if position != len(body):
        raise ValueError("bytes follow the last tensor")
    return tensors
