"""Operators that write their result into an array that exists already: what the `numpy` engine runs every tick.

A *binder* gets a node, its operands and its result as the arrays that they will always be, and returns functions
without arguments that compute the one from the others. Whatever depends on shapes is settled then: a call finds
nothing left to decide and allocates nothing. An operator that has no binder runs its kernel from `onnx_operators`,
and the result is copied.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from mcsd_agent.runtime.onnx_file import Node

Array: TypeAlias = np.ndarray
Call: TypeAlias = Callable[[], Any]
Binder: TypeAlias = Callable[[Node, Sequence[Any], Array], list[Call] | None]

_UFUNCS: dict[str, Any] = {
    "Abs": np.absolute,
    "Add": np.add,
    "Cos": np.cos,
    "Div": np.divide,
    "Exp": np.exp,
    "Log": np.log,
    "Mul": np.multiply,
    "Neg": np.negative,
    "Reciprocal": np.reciprocal,
    "Sin": np.sin,
    "Sqrt": np.sqrt,
    "Sub": np.subtract,
    "Tanh": np.tanh,
}


def bind(node: Node, inputs: Sequence[Any], output: Array) -> list[Call] | None:
    """The calls that compute `output` from `inputs`; None where the operator has no binder for such arrays."""
    name = f"{node.domain}::{node.operator}" if node.domain else node.operator
    floats = [a for a in (*inputs, output) if a is not None and a.dtype.kind == "f"]
    if output.dtype.kind != "f" or any(a.dtype != np.float32 for a in floats):
        return None
    if name in _UFUNCS:
        return [partial(_UFUNCS[name], *inputs, output)]
    binder = _BINDERS.get(name)
    return None if binder is None else binder(node, inputs, output)


# --- activations ---------------------------------------------------------------------------------


def _sigmoid(node: Node, inputs: Sequence[Any], output: Array) -> list[Call]:
    (x,) = inputs
    return [
        partial(np.negative, x, output),
        partial(np.exp, output, output),
        partial(np.add, output, np.float32(1), output),
        partial(np.reciprocal, output, output),
    ]


def _quick_gelu(node: Node, inputs: Sequence[Any], output: Array) -> list[Call]:
    (x,) = inputs
    alpha = np.float32(node.attributes.get("alpha", 1.702))
    return [
        partial(np.multiply, x, -alpha, output),
        partial(np.exp, output, output),
        partial(np.add, output, np.float32(1), output),
        partial(np.divide, x, output, output),
    ]


def _softplus(node: Node, inputs: Sequence[Any], output: Array) -> list[Call]:
    """log(1 + e^-|x|) + max(x, 0): NumPy's logaddexp takes one number at a time."""
    (x,) = inputs
    above = np.empty_like(output)
    return [
        partial(np.absolute, x, output),
        partial(np.negative, output, output),
        partial(np.exp, output, output),
        partial(np.log1p, output, output),
        partial(np.maximum, x, np.float32(0), out=above),
        partial(np.add, output, above, output),
    ]


def _hard_sigmoid(node: Node, inputs: Sequence[Any], output: Array) -> list[Call]:
    (x,) = inputs
    alpha, beta = np.float32(node.attributes.get("alpha", 0.2)), np.float32(node.attributes.get("beta", 0.5))
    return [
        partial(np.multiply, x, alpha, output),
        partial(np.add, output, beta, output),
        partial(np.maximum, output, np.float32(0), out=output),
        partial(np.minimum, output, np.float32(1), out=output),
    ]


def _softsign(node: Node, inputs: Sequence[Any], output: Array) -> list[Call]:
    (x,) = inputs
    return [
        partial(np.absolute, x, output),
        partial(np.add, output, np.float32(1), output),
        partial(np.divide, x, output, output),
    ]


# --- normalisation and rotation ------------------------------------------------------------------


def _rms_norm(node: Node, inputs: Sequence[Any], output: Array) -> list[Call] | None:
    """x √n w / √(Σ x² + n ε)."""
    x, weight = inputs
    if node.attributes.get("axis", -1) not in (-1, x.ndim - 1) or weight.shape != x.shape[-1:]:
        return None
    size = x.shape[-1]
    total = np.float32(size * node.attributes.get("epsilon", 1e-5))
    root = np.float32(math.sqrt(size)) * weight
    squares, length = np.empty_like(output), np.empty((*x.shape[:-1], 1), np.float32)
    return [
        partial(np.multiply, x, x, squares),
        partial(np.add.reduce, squares, -1, None, length, True),
        partial(np.add, length, total, length),
        partial(np.sqrt, length, length),
        partial(np.divide, x, length, output),
        partial(np.multiply, output, root[0] if (root == root[0]).all() else root, output),
    ]


def _rotary(node: Node, inputs: Sequence[Any], output: Array) -> list[Call]:
    x, _, cos, sin = inputs
    half = cos.shape[1]
    turned = np.empty_like(output)
    return [
        partial(np.multiply, x, np.concatenate([cos, cos], 1), output),
        partial(np.multiply, x[..., half:], -sin, turned[..., :half]),
        partial(np.multiply, x[..., :half], sin, turned[..., half:]),
        partial(np.add, output, turned, output),
    ]


# --- products and joining ------------------------------------------------------------------------


def _matmul(node: Node, inputs: Sequence[Any], output: Array) -> list[Call]:
    a, b = inputs
    if a.ndim == b.ndim == 2 and a.shape[0] == 1 and output.flags.c_contiguous:
        # A row: BLAS has a routine of its own for it.
        return [partial(np.dot, a[0], b, output[0])]
    return [partial(np.matmul, a, b, output)]


def _gemm(node: Node, inputs: Sequence[Any], output: Array) -> list[Call] | None:
    a, b, *c = inputs
    unusual = {"alpha": 1.0, "transA": 0}
    if any(node.attributes.get(name, usual) != usual for name, usual in unusual.items()):
        return None
    if node.attributes.get("transB", 0):
        b = np.ascontiguousarray(b.T) if not b.flags.writeable else b.T
    calls, beta = _matmul(node, (a, b), output), np.float32(node.attributes.get("beta", 1.0))
    if not c:
        return calls
    if beta == 1:
        return [*calls, partial(np.add, output, c[0], output)]
    scaled = np.empty_like(c[0])
    return [*calls, partial(np.multiply, c[0], beta, scaled), partial(np.add, output, scaled, output)]


def _concat(node: Node, inputs: Sequence[Any], output: Array) -> list[Call]:
    axis, position = node.attributes["axis"] % output.ndim, 0
    calls: list[Call] = []
    for part in inputs:
        place = (slice(None),) * axis + (slice(position, position + part.shape[axis]),)
        calls.append(partial(np.copyto, output[place], part))
        position += part.shape[axis]
    return calls


_BINDERS: dict[str, Binder] = {
    "Concat": _concat,
    "Gemm": _gemm,
    "HardSigmoid": _hard_sigmoid,
    "MatMul": _matmul,
    "RMSNormalization": _rms_norm,
    "Sigmoid": _sigmoid,
    "SimplifiedLayerNormalization": _rms_norm,
    "Softplus": _softplus,
    "Softsign": _softsign,
    "com.microsoft::QuickGelu": _quick_gelu,
    "com.microsoft::RotaryEmbedding": _rotary,
}
