"""How much an ONNX operation makes and computes, from the shapes of its inputs, before it runs.

What depends on values that are known only at run time (a shape, a length, a depth) is refused, and so is
what ends a process in compiled code instead of raising: an integer divided by 0, a stride of 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from mcsd_agent.runtime.onnx_file import Node

#: Most values in one array.
MAX_VALUES = 1 << 26

_Arrays: TypeAlias = Sequence[Any]
#: The values that come out or lie in between, and the multiply-adds.
_Bound: TypeAlias = tuple[int, int]


def work_of(node: Node, inputs: _Arrays, known: _Arrays) -> int:
    """An upper bound of the multiply-adds of `node`.

    `inputs` are its operands (None where left out), `known` those that are constant. Raises `ValueError` for
    what makes more than `MAX_VALUES`, and whatever NumPy raises for shapes that do not fit.
    """
    arrays = [a for a in inputs if a is not None]
    made, work = _BY_NAME.get(node.operator, _product)(node, inputs, arrays, known)
    if made > MAX_VALUES:
        raise ValueError(f"it makes {made} values")
    return max(made, work)


def _product(node: Node, inputs: _Arrays, arrays: _Arrays, known: _Arrays) -> _Bound:
    """Of an operator that is not in the table: nothing makes more than all pairs of its inputs' values."""
    size = math.prod(max(1, a.size) for a in arrays)
    return size, size


def _sum(node: Node, inputs: _Arrays, arrays: _Arrays, known: _Arrays) -> _Bound:
    size = sum(a.size for a in arrays)
    return size, size


def _broadcast(node: Node, inputs: _Arrays, arrays: _Arrays, known: _Arrays) -> _Bound:
    size = math.prod(np.broadcast_shapes(*(a.shape for a in arrays)))
    return size, size * len(arrays)


def _divide(node: Node, inputs: _Arrays, arrays: _Arrays, known: _Arrays) -> _Bound:
    # An integer divided by 0, or the smallest by -1, ends the process in compiled code.
    if arrays[1].dtype.kind != "f" and (known[1] is None or not ((known[1] > 0) | (known[1] < -1)).all()):
        raise ValueError("integers are divided by what may be 0 or -1")
    if node.operator == "Mod" and arrays[1].dtype.kind == "f" and not node.attributes.get("fmod", 0):
        raise ValueError("numbers that are no integers need fmod=1")
    return _broadcast(node, inputs, arrays, known)


def _matmul(node: Node, inputs: _Arrays, arrays: _Arrays, known: _Arrays) -> _Bound:
    a, b = arrays[0], arrays[1]
    made = max(1, a.size) * max(1, b.size)
    if a.ndim >= 2 and b.ndim >= 2:
        transposed = node.operator == "Gemm" and node.attributes.get("transB", 0)
        inner = b.shape[-1] if transposed else b.shape[-2]
        batch = math.prod(np.broadcast_shapes(a.shape[:-2], b.shape[:-2]))
        rows, columns = math.prod(a.shape[-2:]) // max(1, inner), math.prod(b.shape[-2:]) // max(1, inner)
        made = batch * max(1, rows) * max(1, columns)
        return made, made * max(1, inner)
    return made, made


def _target(index: int) -> Callable[..., _Bound]:
    """The shape is a constant input."""

    def bound(node: Node, inputs: _Arrays, arrays: _Arrays, known: _Arrays) -> _Bound:
        if known[index] is None:
            raise ValueError("its shape is computed at run time")
        shape = [max(1, abs(int(n))) for n in np.ravel(known[index])]
        if node.operator == "Expand":
            shape = list(np.broadcast_shapes(inputs[0].shape, shape))
        size = math.prod(shape) * (max(1, inputs[0].size) if node.operator == "Tile" else 1)
        return size, size

    return bound


def _pad(node: Node, inputs: _Arrays, arrays: _Arrays, known: _Arrays) -> _Bound:
    if known[1] is None:
        raise ValueError("its padding is computed at run time")
    widest = sum(abs(int(n)) for n in np.ravel(known[1]))
    size = math.prod(n + widest for n in inputs[0].shape) if widest > MAX_VALUES else _padded(inputs[0], known)
    return size, size


def _padded(x: Any, known: _Arrays) -> int:
    pads = [abs(int(n)) for n in np.ravel(known[1])]
    half = len(pads) // 2
    axes = range(x.ndim) if len(known) < 4 or known[3] is None else [int(n) for n in np.ravel(known[3])]
    shape = list(x.shape)
    for axis, before, after in zip(axes, pads[:half], pads[half:], strict=True):
        shape[axis] += before + after
    return math.prod(shape)


def _range(node: Node, inputs: _Arrays, arrays: _Arrays, known: _Arrays) -> _Bound:
    if any(k is None for k in known):
        raise ValueError("its length is computed at run time")
    start, limit, delta = (float(k) for k in known)
    size = max(0, math.ceil((limit - start) / delta))
    return size, size


def _one_hot(node: Node, inputs: _Arrays, arrays: _Arrays, known: _Arrays) -> _Bound:
    if known[1] is None:
        raise ValueError("its depth is computed at run time")
    size = inputs[0].size * abs(int(np.ravel(known[1])[0]))
    return size, size


def _gather(node: Node, inputs: _Arrays, arrays: _Arrays, known: _Arrays) -> _Bound:
    x, indices = arrays
    size = x.size // max(1, x.shape[node.attributes.get("axis", 0)]) * indices.size
    return size, size


def _gather_nd(node: Node, inputs: _Arrays, arrays: _Arrays, known: _Arrays) -> _Bound:
    x, indices = arrays
    last = indices.shape[-1]
    size = math.prod(x.shape[last:]) * (indices.size // max(1, last))
    return size, size


def _windows(node: Node, inputs: _Arrays, arrays: _Arrays, known: _Arrays) -> _Bound:
    """Convolution and pooling: every place of the padded input, times the kernel, times the filters."""
    x, pooled = arrays[0], node.operator != "Conv"
    kernel = node.attributes.get("kernel_shape", () if pooled else arrays[1].shape[2:])
    numbers = [*kernel, *node.attributes.get("strides", ()), *node.attributes.get("dilations", ())]
    pads = node.attributes.get("pads", ())
    if min([*numbers, node.attributes.get("group", 1)]) < 1 or min(pads, default=0) < 0:
        raise ValueError("a kernel, stride, dilation or group below 1, or a negative padding")
    rank = len(kernel)
    places = math.prod(n + sum(pads[i::rank]) for i, n in enumerate(x.shape[2:]))
    columns = x.shape[0] * x.shape[1] * places * math.prod(kernel)
    return columns, columns if pooled else columns * arrays[1].shape[0] // node.attributes.get("group", 1)


def _recurrent(node: Node, inputs: _Arrays, arrays: _Arrays, known: _Arrays) -> _Bound:
    x, w, r = arrays[:3]
    if node.attributes.get("hidden_size", 0) != r.shape[-1]:
        raise ValueError("hidden_size is not that of its weights")
    work = math.prod(x.shape[:2]) * (w.size + r.size)
    return math.prod(x.shape[:2]) * w.shape[0] * w.shape[1], work


def _groups(node: Node, inputs: _Arrays, arrays: _Arrays, known: _Arrays) -> _Bound:
    if node.operator == "GroupNormalization" and node.attributes.get("num_groups", 0) < 1:
        raise ValueError("num_groups is below 1")
    return _sum(node, inputs, arrays, known)


def _einsum(node: Node, inputs: _Arrays, arrays: _Arrays, known: _Arrays) -> _Bound:
    equation = node.attributes.get("equation", "").replace(" ", "")
    terms = equation.partition("->")[0].split(",")
    if "." in equation or [len(t) for t in terms] != [a.ndim for a in arrays]:
        raise ValueError(f"equation {equation!r:.60} does not fit its inputs")
    sizes = {label: n for term, a in zip(terms, arrays, strict=True) for label, n in zip(term, a.shape, strict=True)}
    size = math.prod(sizes.values())
    return size, size


_BOUNDS: dict[str, Callable[[Node, _Arrays, _Arrays, _Arrays], _Bound]] = {
    "Add And Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mul Or Pow PRelu Sub Sum Where Xor": _broadcast,
    "Abs Atan Cast CastLike Ceil Celu Clip Cos Dropout Elu Erf Exp Floor Gelu HardSigmoid HardSwish": _broadcast,
    "Identity IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Sigmoid Sign Sin Softplus": _broadcast,
    "Softsign Sqrt Swish Tan Tanh ThresholdedRelu": _broadcast,
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum": _sum,
    "ReduceSumSquare ArgMax ArgMin CumSum TopK Softmax LogSoftmax BatchNormalization LayerNormalization": _sum,
    "SimplifiedLayerNormalization RotaryEmbedding QuickGelu": _sum,
    "RMSNormalization GlobalAveragePool GlobalMaxPool Concat Constant Flatten GatherElements Reshape": _sum,
    "ScatterElements ScatterND Shape Size Slice Split Squeeze Transpose Trilu Unsqueeze": _sum,
    "SimplifiedLayerNormalization QuickGelu RotaryEmbedding": _sum,
    "QuantizeLinear DequantizeLinear DynamicQuantizeLinear": _sum,
    "GroupNormalization InstanceNormalization": _groups,
    "Div Mod": _divide,
    "MatMul Gemm MatMulInteger": _matmul,
    "Expand Tile": _target(1),
    "ConstantOfShape": _target(0),
    "Pad": _pad,
    "Range": _range,
    "OneHot": _one_hot,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "Conv MaxPool AveragePool": _windows,
    "GRU LSTM": _recurrent,
    "Einsum": _einsum,
}
_BY_NAME = {name: bound for names, bound in _BOUNDS.items() for name in names.split()}
