"""ONNX's operators as instructions of `native.c`.

A *compiler* of an operator gets a node, its operands and its result as the arrays that they will always be, and returns
the operations that compute the one from the others; None where these arrays or attributes are not what it knows, and
NumPy is to do it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from mcsd_agent.runtime import native_program as native
from mcsd_agent.runtime.native_program import Array, Operation, walk
from mcsd_agent.runtime.onnx_file import Node

Operations: TypeAlias = list[Operation] | None


class Parts(NamedTuple):
    """A node as arrays: its inputs (None where left out), which of them never change, and its output."""

    node: Node
    inputs: Sequence[Any]
    constant: Sequence[bool]
    output: Array

    def attribute(self, name: str, default: Any) -> Any:
        return self.node.attributes.get(name, default)


def compiled(parts: Parts) -> Operations:
    """The operations that compute `parts.output`."""
    name = f"{parts.node.domain}::{parts.node.operator}" if parts.node.domain else parts.node.operator
    if not parts.output.size or not parts.output.flags.c_contiguous:
        return None
    compiler = _COMPILERS.get(name)
    return None if compiler is None else compiler(parts)


def _are(dtype: Any, *arrays: Any) -> bool:
    return all(a is not None and a.dtype == dtype for a in arrays)


def _flat(x: Array) -> tuple[Array, list[Operation]]:
    """`x` with its numbers side by side, and what lays them so."""
    if x.flags.c_contiguous:
        return x, []
    flat = np.empty(x.shape, x.dtype)
    operations = _copy(flat, x)
    # Whoever cannot be walked through has too many dimensions for a policy's step.
    return (x, []) if operations is None else (flat, operations)


def _copy(output: Array, x: Array) -> Operations:
    found = walk(output, x)
    if found is None or output.dtype != x.dtype:
        return None
    return [Operation(native.COPY, output.itemsize, found[0], output, [x], found[1])]


def _broadcast(operation: int, kind: int, output: Array, operands: Sequence[Array]) -> Operations:
    """Operands of any shapes that broadcast; numbers of one row lie side by side or are one number."""
    before: list[Operation] = []
    usable = []
    for x in operands:
        flat, copies = (x, []) if not x.ndim or x.strides[-1] in (0, x.itemsize) else _flat(x)
        usable.append(flat)
        before += copies
    found = walk(output, *usable)
    if found is None:
        return None
    sizes, strides = found
    if strides[0][2] != 1 or any(s[2] not in (0, 1) for s in strides):
        return None
    return [*before, Operation(operation, kind, sizes, output, usable, strides)]


# --- number by number ------------------------------------------------------------------------------

_UNARY = {
    "Abs": 0,
    "Neg": 1,
    "Reciprocal": 2,
    "Sqrt": 3,
    "Exp": 4,
    "Sigmoid": 5,
    "Tanh": 6,
    "Softplus": 7,
    "Softsign": 8,
    "Relu": 9,
    "com.microsoft::QuickGelu": 10,
    "Swish": 10,
    "HardSigmoid": 11,
}
_CLIP = 12
_ALPHA = {"com.microsoft::QuickGelu": 1.702, "Swish": 1.0, "HardSigmoid": 0.2}


def _of_one(kind: int, name: str) -> Callable[[Parts], Operations]:
    def compiler(parts: Parts) -> Operations:
        (x,) = parts.inputs
        if name == "Abs" and _are(np.int64, x, parts.output) and x.flags.c_contiguous:
            return [Operation(native.CAST, _SIZE_OF_INTEGER, (1, 1, x.size), parts.output, [x])]
        alpha = parts.attribute("alpha", _ALPHA.get(name, 0.0))
        return _unary(kind, x, parts.output, alpha, parts.attribute("beta", 0.5))

    return compiler


def _unary(kind: int, x: Array, output: Array, alpha: float = 0.0, beta: float = 0.0) -> Operations:
    if not _are(np.float32, x, output):
        return None
    flat, before = _flat(x)
    if not flat.flags.c_contiguous:
        return None
    return [*before, Operation(native.UNARY, kind, (1, 1, x.size), output, [flat], alpha=alpha, beta=beta)]


def _clip(parts: Parts) -> Operations:
    x, *limits = parts.inputs
    if not all(parts.constant[1:]) or any(a is not None and a.size != 1 for a in limits):
        return None
    low, high = (*limits, None, None)[:2]
    bounds = (-math.inf if low is None else float(low.item()), math.inf if high is None else float(high.item()))
    return _unary(_CLIP, x, parts.output, *bounds)


_BINARY = {"Add": 0, "Sub": 1, "Mul": 2, "Div": 3, "Max": 4, "Min": 5}
_COMPARE = {"Equal": 0, "Less": 1, "LessOrEqual": 2, "Greater": 3, "GreaterOrEqual": 4}
_INTEGERS = 8


def _of_two(kind: int) -> Callable[[Parts], Operations]:
    def compiler(parts: Parts) -> Operations:
        if len(parts.inputs) != 2:
            return None
        if _are(np.float32, *parts.inputs, parts.output):
            return _broadcast(native.BINARY, kind, parts.output, parts.inputs)
        if _are(np.int64, *parts.inputs, parts.output) and kind < _BINARY["Div"]:
            return _broadcast(native.BINARY, kind + _INTEGERS, parts.output, parts.inputs)
        return None

    return compiler


def _comparison(kind: int) -> Callable[[Parts], Operations]:
    def compiler(parts: Parts) -> Operations:
        if not _are(np.bool_, parts.output):
            return None
        if _are(np.float32, *parts.inputs):
            return _broadcast(native.COMPARE, kind, parts.output, parts.inputs)
        if _are(np.int64, *parts.inputs):
            return _broadcast(native.COMPARE, kind + _INTEGERS, parts.output, parts.inputs)
        return None

    return compiler


def _where(parts: Parts) -> Operations:
    condition, yes, no = parts.inputs
    if not _are(np.float32, yes, no, parts.output) or not _are(np.bool_, condition):
        return None
    return _broadcast(native.SELECT, 0, parts.output, (condition, yes, no))


_CASTS = {("bool", "float32"): 0, ("int64", "float32"): 1, ("bool", "int64"): 2, ("uint8", "float32"): 3}
_NOT, _SIZE_OF_INTEGER = 4, 5


def _cast(parts: Parts) -> Operations:
    (x,) = parts.inputs
    if parts.node.operator == "Not":
        kind = _NOT if _are(np.bool_, x, parts.output) else None
    else:
        kind = _CASTS.get((x.dtype.name, parts.output.dtype.name))
    if kind is None or not x.flags.c_contiguous:
        return None
    return [Operation(native.CAST, kind, (1, 1, x.size), parts.output, [x])]


# --- products ----------------------------------------------------------------------------------------


_TILE = 64


def _gemm(parts: Parts) -> Operations:
    a, b, *rest = parts.inputs
    if parts.attribute("transA", 0) or parts.attribute("alpha", 1.0) != 1.0 or not parts.constant[1]:
        return None
    added = rest[0] if rest else None
    return _product(parts, a, b, bool(parts.attribute("transB", 0)), added, parts.attribute("beta", 1.0))


def _product(parts: Parts, a: Array, b: Array, transposed: bool, added: Array | None, beta: float) -> Operations:
    """a `(m, k)`, whose rows may lie apart, by a constant b."""
    output = parts.output.reshape(-1, parts.output.shape[-1])
    operands = [a, b] if added is None else [a, b, added]
    if not _are(np.float32, *operands, output) or a.ndim != 2 or b.ndim != 2 or not a.size:
        return None
    flat, before = (a, []) if a.strides[1] == a.itemsize or a.shape[1] == 1 else _flat(a)
    if flat.strides[1] != flat.itemsize and a.shape[1] != 1:
        return None
    weights = _tiles(b.T if transposed else b)
    strides = [(output.shape[1], 0, 0), (flat.strides[0] // flat.itemsize, 0, 0)]
    arrays = [flat, weights]
    if added is not None:
        wide = np.broadcast_to(added, output.shape)
        arrays.append(added)
        strides += [(0, 0, 0), (wide.strides[0] // wide.itemsize, wide.strides[1] // wide.itemsize, 0)]
    size = (output.shape[0], a.shape[1], output.shape[1])
    return [*before, Operation(native.PRODUCT, 0, size, output, arrays, strides, beta=beta)]


def _tiles(matrix: Array) -> Array:
    """One tile of columns behind the other: of 64, and what is left of 8, filled up with zeros."""
    k, n = matrix.shape
    whole = n // _TILE * _TILE
    rest = np.zeros((k, (n - whole + 7) // 8 * 8), matrix.dtype)
    rest[:, : n - whole] = matrix[:, whole:]
    tiles = [matrix[:, i : i + _TILE] for i in range(0, whole, _TILE)]
    tiles += [rest[:, i : i + 8] for i in range(0, rest.shape[1], 8)]
    return np.concatenate([tile.ravel() for tile in tiles])


def _matmul(parts: Parts) -> Operations:
    a, b = parts.inputs
    output = parts.output
    if not _are(np.float32, a, b, output) or a.ndim < 2 or b.ndim < 2:
        return None
    if parts.constant[1] and b.ndim == 2 and a.flags.c_contiguous:
        return _product(parts, a.reshape(-1, a.shape[-1]), b, False, None, 1.0)
    leading = output.shape[:-2]
    if not leading:
        leading, output = (1,), output[None]
    wide = [np.broadcast_to(x, (*leading, *x.shape[-2:])) for x in (a, b)]
    # What the products of the leading dimensions move on by: one stride each, or it takes more than one instruction.
    shifts = [walk(output[..., 0, 0], *(x[..., 0, 0] for x in wide))]
    if shifts[0] is None or shifts[0][0][:2] != [1, 1]:
        return None
    sizes, moves = shifts[0]
    inner = [tuple(s // x.itemsize for s in x.strides[-2:]) for x in (output, *wide)]
    strides = [(move[2], *steps) for move, steps in zip(moves, inner, strict=True)]
    size = (sizes[2], output.shape[-2], output.shape[-1])
    return [Operation(native.MATMUL, a.shape[-1], size, output, [a, b], strides)]


# --- rows ----------------------------------------------------------------------------------------------


def _rms_norm(parts: Parts) -> Operations:
    x, weight = parts.inputs
    if parts.attribute("axis", -1) not in (-1, x.ndim - 1) or weight.shape != x.shape[-1:]:
        return None
    if not _are(np.float32, x, weight, parts.output) or not x.flags.c_contiguous or not weight.flags.c_contiguous:
        return None
    size = (1, x.size // x.shape[-1], x.shape[-1])
    epsilon = parts.attribute("epsilon", 1e-5)
    return [Operation(native.NORM, 0, size, parts.output, [x, weight], alpha=epsilon)]


def _rotary(parts: Parts) -> Operations:
    x, _, cos, sin = parts.inputs
    if not _are(np.float32, x, cos, sin) or not all(a.flags.c_contiguous for a in (x, cos, sin)):
        return None
    size = (x.shape[0], *cos.shape)
    return [Operation(native.ROTARY, 0, size, parts.output, [x, cos, sin])]


_REDUCTIONS = {"ReduceSum": 0, "ReduceMean": 0, "ReduceL1": 1, "ReduceMax": 2}


def _reduce(kind: int) -> Callable[[Parts], Operations]:
    def compiler(parts: Parts) -> Operations:
        x, *rest = parts.inputs
        axes = parts.attribute("axes", ())
        if not axes and rest and rest[0] is not None:
            if not parts.constant[1]:
                return None
            axes = tuple(int(n) for n in rest[0].ravel())
        if not axes and parts.attribute("noop_with_empty_axes", 0):
            return None
        reduced = sorted(axis % x.ndim for axis in axes) or list(range(x.ndim))
        if not _are(np.float32, x, parts.output) or not x.flags.c_contiguous or not x.size or not reduced:
            return None
        first, last = reduced[0], reduced[-1]
        if reduced != list(range(first, last + 1)):
            return None
        size = (math.prod(x.shape[:first]), math.prod(x.shape[first : last + 1]), math.prod(x.shape[last + 1 :]))
        scale = 1.0 / size[1] if parts.node.operator == "ReduceMean" else 1.0
        return [Operation(native.REDUCE, kind, size, parts.output, [x], alpha=scale)]

    return compiler


def _over_last(operation: int, dtype: Any, default: int) -> Callable[[Parts], Operations]:
    def compiler(parts: Parts) -> Operations:
        (x,) = parts.inputs
        if not _are(np.float32, x) or not _are(dtype, parts.output) or not x.ndim or not x.flags.c_contiguous:
            return None
        if parts.attribute("axis", default) % x.ndim != x.ndim - 1 or parts.attribute("select_last_index", 0):
            return None
        return [Operation(operation, 0, (1, x.size // x.shape[-1], x.shape[-1]), parts.output, [x])]

    return compiler


# --- moving --------------------------------------------------------------------------------------------


def _concat(parts: Parts) -> Operations:
    axis, position = parts.attribute("axis", 0) % parts.output.ndim, 0
    operations: list[Operation] = []
    for part in parts.inputs:
        place = (slice(None),) * axis + (slice(position, position + part.shape[axis]),)
        copies = _copy(parts.output[place], part)
        if copies is None:
            return None
        operations += copies
        position += part.shape[axis]
    return operations


def _gather(parts: Parts) -> Operations:
    x, places = parts.inputs
    axis = parts.attribute("axis", 0) % x.ndim
    if not parts.constant[1] or not x.flags.c_contiguous or x.dtype != parts.output.dtype or not places.size:
        return None
    count = x.shape[axis]
    found = np.where(places < 0, places + count, places).astype(np.int64).ravel()
    if ((found < 0) | (found >= count)).any():
        return None
    inner = math.prod(x.shape[axis + 1 :])
    size = (math.prod(x.shape[:axis]), found.size, inner)
    strides = [(0, 0, 0), (count * inner, 0, 0)]
    return [Operation(native.GATHER, x.itemsize, size, parts.output, [x, found], strides)]


_COMPILERS: dict[str, Callable[[Parts], Operations]] = {
    **{name: _of_one(kind, name) for name, kind in _UNARY.items()},
    **{name: _of_two(kind) for name, kind in _BINARY.items()},
    **{name: _comparison(kind) for name, kind in _COMPARE.items()},
    **{name: _reduce(kind) for name, kind in _REDUCTIONS.items()},
    "ArgMax": _over_last(native.ARGMAX, np.int64, 0),
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Gather": _gather,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Not": _cast,
    "RMSNormalization": _rms_norm,
    "SimplifiedLayerNormalization": _rms_norm,
    "Softmax": _over_last(native.SOFTMAX, np.float32, -1),
    "Where": _where,
    "com.microsoft::RotaryEmbedding": _rotary,
}
