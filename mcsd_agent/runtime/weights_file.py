"""Reads `weights.safetensors` with NumPy alone.

The format (huggingface/safetensors, "Format"): eight bytes with the length of a JSON header, the
header `{name: {dtype, shape, data_offsets}}`, then the tensors one after the other, little-endian.
There is nothing in it to execute.
"""

from __future__ import annotations

import json
import math
import mmap
from collections import Counter
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

#: NumPy has no such type: it is read as float32.
_BFLOAT16 = "BF16"

_MAX_HEADER_BYTES = 16 << 20


def stored_types(data: bytes) -> dict[str, int]:
    """How many values of each type a file that `read_weights` has read holds, the most frequent first."""
    size = int.from_bytes(data[:8], "little")
    counts: Counter[str] = Counter()
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name != "__metadata__":
            stored = entry["dtype"]
            counts["bfloat16" if stored == _BFLOAT16 else str(DTYPES[stored])] += math.prod(entry["shape"])
    return dict(counts.most_common())


def read_weights(data: bytes | mmap.mmap, where: str) -> dict[str, np.ndarray]:
    """Tensors by name, read-only views of `data`; `UserError` for anything malformed or NaN."""
    try:
        size = int.from_bytes(data[:8], "little")
        if len(data) < 8 or size > min(len(data) - 8, _MAX_HEADER_BYTES):
            raise ValueError("the header is cut short")
        header = json.loads(data[8 : 8 + size].decode("utf-8"), object_pairs_hook=_unique)
        header.pop("__metadata__", None)
        return _tensors(header, memoryview(data)[8 + size :])
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{where}: weights.safetensors is malformed ({reason}); export the artifact again") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({k for k, _ in pairs}) != len(pairs):
        raise ValueError("a tensor appears twice")
    return dict(pairs)


def _tensors(header: dict[str, Any], body: memoryview) -> dict[str, np.ndarray]:
    position = 0
    tensors = {}
    # Without gaps and overlaps every byte of the file belongs to exactly one tensor.
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        is_bfloat = entry["dtype"] == _BFLOAT16
        dtype = np.dtype("<u2") if is_bfloat else DTYPES[entry["dtype"]]
        shape, (start, stop) = tuple(entry["shape"]), entry["data_offsets"]
        if set(entry) != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"tensor {name!r} is described by other fields")
        if start != position or any(type(n) is not int or n < 0 for n in (start, stop, *shape)):
            raise ValueError(f"tensor {name!r} is not where it should be")
        if stop - start != math.prod(shape) * dtype.itemsize or stop > len(body):
            raise ValueError(f"tensor {name!r} has the wrong length")
        if dtype.kind == "b" and np.frombuffer(body[start:stop], np.uint8).max(initial=0) > 1:
            raise ValueError(f"tensor {name!r} holds a boolean that is neither 0 nor 1")
        array = np.frombuffer(body[start:stop], dtype).reshape(shape)
        if is_bfloat:
            # The upper half of a float32.
            array = (array.astype(np.uint32) << 16).view(np.float32)
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise ValueError(f"weight {name!r} holds NaN: the training diverged")
        array.flags.writeable = False
        tensors[name] = array
        position = stop
    if position != len(body):
        raise ValueError("bytes follow the last tensor")
    return tensors
