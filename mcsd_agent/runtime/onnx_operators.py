"""The ONNX operators of a policy's step, each as a function over NumPy arrays.

A *factory* gets one node and the values of its inputs that are constant, does all the work that can
be done once (reads attributes, turns axes and slices into tuples), and returns the function that
runs every tick: arrays in, array out (a tuple of arrays for several outputs). Meanings follow
onnx/docs/Operators.md, operator sets 18 to 23. Convolutions, normalisations and recurrent layers are
in `onnx_layers`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.runtime.onnx_file import DTYPES, Node

Array: TypeAlias = np.ndarray
Kernel: TypeAlias = Callable[..., Any]

_REQUIRED = object()


class NodeReader:
    """A node whose attributes are read once each; what is left over is an option we do not know."""

    def __init__(self, node: Node, constants: tuple[Array | None, ...], opset: int) -> None:
        self.operator = node.operator
        self.outputs = len(node.outputs)
        self.inputs = node.inputs
        self.opset = opset
        self._constants = constants
        self._unread = dict(node.attributes)

    def attribute(self, name: str, default: Any = _REQUIRED) -> Any:
        if name not in self._unread and default is _REQUIRED:
            raise self.error(f"without attribute {name!r}")
        return self._unread.pop(name, default)

    def only(self, name: str, *allowed: Any) -> Any:
        """An attribute of which only some values are supported; the first is ONNX's default."""
        value = self.attribute(name, allowed[0])
        if value not in allowed:
            raise self.error(f"with {name}={value!r}")
        return value

    def has_input(self, index: int) -> bool:
        return index < len(self.inputs) and self.inputs[index] != ""

    def constant(self, index: int) -> Array | None:
        """The value of an input that never changes; None where it is computed or left out."""
        return self._constants[index] if index < len(self._constants) else None

    def integers(self, index: int, default: Any = _REQUIRED) -> tuple[int, ...]:
        """A constant input as a tuple: shapes, axes, paddings. Exported policies have static shapes."""
        if not self.has_input(index) and default is not _REQUIRED:
            return default
        value = self.constant(index)
        if value is None or value.dtype.kind not in "iu":
            raise self.error(f"whose input {index} is computed at run time")
        return tuple(int(n) for n in np.atleast_1d(value))

    def check_all_read(self) -> None:
        if self._unread:
            raise self.error(f"with attribute {sorted(self._unread)[0]!r}")

    def error(self, how: str) -> UserError:
        return UserError(f"ONNX operator {self.operator} {how} is not supported by the numpy engine; use engine='onnx'")


Factory: TypeAlias = Callable[[NodeReader], Kernel]
FACTORIES: dict[str, Factory] = {}


def operator(*names: str) -> Callable[[Factory], Factory]:
    """Registers a factory for these ONNX operators."""

    def register(factory: Factory) -> Factory:
        FACTORIES.update(dict.fromkeys(names, factory))
        return factory

    return register


# --- element by element --------------------------------------------------------------------------


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)); exp may overflow to infinity, which gives the right 0."""
    return np.reciprocal(1.0 + np.exp(-x))


def softplus(x: Array) -> Array:
    """log(1 + exp(x)) without overflow."""
    return np.logaddexp(x, x.dtype.type(0))


def erf(x: Array) -> Array:
    """Abramowitz and Stegun 7.1.26: absolute error below 1.5e-7, on a par with float32."""
    z = np.abs(x, dtype=np.float64)
    t = 1.0 / (1.0 + 0.3275911 * z)
    poly = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t
    return (np.sign(x) * (1.0 - poly * np.exp(-z * z))).astype(x.dtype)


def _divide(a: Array, b: Array) -> Array:
    """ONNX divides integers towards zero, NumPy towards minus infinity."""
    if a.dtype.kind == "f":
        return np.divide(a, b)
    return (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)


def _hard_sigmoid(alpha: float, beta: float) -> Kernel:
    return lambda x: np.clip(alpha * x + beta, 0, 1).astype(x.dtype)


_ELEMENTWISE: dict[str, Kernel] = {
    "Abs": np.abs,
    "Add": np.add,
    "And": np.logical_and,
    "Atan": np.arctan,
    "Ceil": np.ceil,
    "Cos": np.cos,
    "Div": _divide,
    "Dropout": lambda x, *_: x,
    "Equal": np.equal,
    "Erf": erf,
    "Exp": np.exp,
    "Floor": np.floor,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Identity": lambda x: x,
    "IsNaN": np.isnan,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Log": np.log,
    "MatMul": np.matmul,
    "Mul": np.multiply,
    "Neg": np.negative,
    "Not": np.logical_not,
    "Or": np.logical_or,
    "Reciprocal": np.reciprocal,
    "Relu": lambda x: np.maximum(x, x.dtype.type(0)),
    "Round": np.rint,
    "Shape": lambda x: np.asarray(x.shape, np.int64),
    "Sigmoid": sigmoid,
    "Sign": np.sign,
    "Sin": np.sin,
    "Size": lambda x: np.asarray(x.size, np.int64),
    "Softplus": softplus,
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Sqrt": np.sqrt,
    "Sub": np.subtract,
    "Tan": np.tan,
    "Tanh": np.tanh,
    "Where": np.where,
    "Xor": np.logical_xor,
    "HardSwish": lambda x: x * _hard_sigmoid(1 / 6, 0.5)(x),
    "Mish": lambda x: x * np.tanh(softplus(x)),
}


@operator(*_ELEMENTWISE)
def _elementwise(node: NodeReader) -> Kernel:
    if node.operator == "Shape":
        start, end = node.attribute("start", 0), node.attribute("end", None)
        return lambda x: np.asarray(x.shape[start:end], np.int64)
    if node.operator == "Dropout":
        node.attribute("seed", 0)
    return _ELEMENTWISE[node.operator]


@operator("Max", "Min", "Sum", "Mean")
def _variadic(node: NodeReader) -> Kernel:
    ufunc = {"Max": np.maximum, "Min": np.minimum}.get(node.operator, np.add)
    if len(node.inputs) == 2 and node.operator != "Mean":
        return ufunc
    divisor = len(node.inputs) if node.operator == "Mean" else None

    def kernel(*arrays: Array) -> Array:
        total = arrays[0]
        for array in arrays[1:]:
            total = ufunc(total, array)
        return total if divisor is None else (total / divisor).astype(total.dtype)

    return kernel


@operator("Pow")
def _pow(node: NodeReader) -> Kernel:
    exponent = node.constant(1)
    if exponent is not None and exponent.ndim == 0 and float(exponent) == 2.0:
        return lambda x, _: np.square(x)
    return lambda x, y: np.power(x, y).astype(x.dtype, copy=False)


@operator("Mod")
def _mod(node: NodeReader) -> Kernel:
    return np.fmod if node.only("fmod", 0, 1) else np.mod


@operator("Cast")
def _cast(node: NodeReader) -> Kernel:
    to = node.attribute("to")
    node.attribute("saturate", 1)
    node.attribute("round_mode", "up")
    if to not in DTYPES:
        raise node.error(f"to element type {to}")
    dtype = DTYPES[to]
    return lambda x: x.astype(dtype, copy=False)


@operator("CastLike")
def _cast_like(node: NodeReader) -> Kernel:
    node.attribute("saturate", 1)
    return lambda x, like: x.astype(like.dtype, copy=False)


@operator("Clip")
def _clip(node: NodeReader) -> Kernel:
    if node.has_input(1) and node.has_input(2):
        return lambda x, low, high: np.minimum(np.maximum(x, low), high)
    if node.has_input(1):
        return lambda x, low, *_: np.maximum(x, low)
    return (lambda x, _, high: np.minimum(x, high)) if node.has_input(2) else lambda x, *_: x


@operator("com.microsoft::QuickGelu")
def _quick_gelu(node: NodeReader) -> Kernel:
    alpha = node.attribute("alpha", 1.702)
    return lambda x: x * sigmoid(x if alpha == 1.0 else x.dtype.type(alpha) * x)


@operator("Gelu")
def _gelu(node: NodeReader) -> Kernel:
    if node.only("approximate", "none", "tanh") == "tanh":
        scale = math.sqrt(2 / math.pi)
        return lambda x: 0.5 * x * (1 + np.tanh(scale * (x + 0.044715 * x * x * x)))
    return lambda x: 0.5 * x * (1 + erf(x * math.sqrt(0.5)))


@operator("Elu", "Celu", "Selu", "LeakyRelu", "HardSigmoid", "ThresholdedRelu", "Swish")
def _activation(node: NodeReader) -> Kernel:
    name = node.operator
    defaults = {"Selu": 1.67326319217681884765625, "LeakyRelu": 0.01, "HardSigmoid": 0.2}
    alpha = node.attribute("alpha", defaults.get(name, 1.0))
    if name == "Swish":
        return lambda x: x * sigmoid(alpha * x)
    if name == "LeakyRelu":
        return lambda x: np.where(x < 0, alpha * x, x)
    if name == "ThresholdedRelu":
        return lambda x: np.where(x > alpha, x, x.dtype.type(0))
    if name == "HardSigmoid":
        return _hard_sigmoid(alpha, node.attribute("beta", 0.5))
    if name == "Celu":
        return lambda x: np.where(x > 0, x, alpha * np.expm1(x / alpha))
    gamma = node.attribute("gamma", 1.05070102214813232421875) if name == "Selu" else 1.0
    return lambda x: gamma * np.where(x > 0, x, alpha * np.expm1(x))


@operator("PRelu")
def _prelu(node: NodeReader) -> Kernel:
    return lambda x, slope: np.where(x < 0, slope * x, x)


# --- reductions ----------------------------------------------------------------------------------


_sum: Any = np.add.reduce
_max: Any = np.maximum.reduce
_min: Any = np.minimum.reduce
_prod: Any = np.multiply.reduce


def _mean(x: Array, axis: Any, keepdims: bool) -> Array:
    """np.mean goes through Python and costs three times as much on small arrays."""
    total = _sum(x, axis=axis, keepdims=keepdims)
    count = x.size // max(1, total.size)
    return total / x.dtype.type(count) if x.dtype.kind == "f" else (total // count).astype(x.dtype)


def _logsumexp(x: Array, axis: Any, keepdims: bool) -> Array:
    top = _max(x, axis=axis, keepdims=True)
    total = np.log(_sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return total if keepdims else total.reshape(_sum(x, axis=axis).shape)


_REDUCTIONS: dict[str, Callable[[Array, Any, bool], Array]] = {
    "ReduceSum": lambda x, a, k: _sum(x, axis=a, dtype=x.dtype, keepdims=k),
    "ReduceMean": _mean,
    "ReduceMax": lambda x, a, k: _max(x, axis=a, keepdims=k),
    "ReduceMin": lambda x, a, k: _min(x, axis=a, keepdims=k),
    "ReduceProd": lambda x, a, k: _prod(x, axis=a, dtype=x.dtype, keepdims=k),
    "ReduceL1": lambda x, a, k: _sum(np.abs(x), axis=a, dtype=x.dtype, keepdims=k),
    "ReduceL2": lambda x, a, k: np.sqrt(_sum(np.square(x), axis=a, keepdims=k)),
    "ReduceSumSquare": lambda x, a, k: _sum(np.square(x), axis=a, dtype=x.dtype, keepdims=k),
    "ReduceLogSum": lambda x, a, k: np.log(_sum(x, axis=a, keepdims=k)),
    "ReduceLogSumExp": _logsumexp,
}


@operator(*_REDUCTIONS)
def _reduce(node: NodeReader) -> Kernel:
    keepdims = bool(node.only("keepdims", 1, 0))
    is_plain = node.operator in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd")
    # Of the composite ones (L1, L2, ...) ONNX's versions disagree on what is left when nothing is reduced.
    nothing_to_do = node.only("noop_with_empty_axes", 0, 1) if is_plain else node.only("noop_with_empty_axes", 0)
    # Before operator set 18 (ReduceSum: 13) the axes were an attribute.
    axes = node.attribute("axes", None) or node.integers(1, ())
    reduce = _REDUCTIONS[node.operator]
    if not axes and nothing_to_do:
        return lambda x, *_: x
    return lambda x, *_: reduce(x, axes or None, keepdims)


@operator("ArgMax", "ArgMin")
def _arg(node: NodeReader) -> Kernel:
    axis, keepdims = node.attribute("axis", 0), bool(node.only("keepdims", 1, 0))
    find = np.argmax if node.operator == "ArgMax" else np.argmin
    if node.only("select_last_index", 0, 1):
        return lambda x: x.shape[axis] - 1 - find(np.flip(x, axis), axis=axis, keepdims=keepdims)
    return lambda x: find(x, axis=axis, keepdims=keepdims)


@operator("Softmax", "LogSoftmax")
def _softmax(node: NodeReader) -> Kernel:
    axis = node.attribute("axis", -1)

    def kernel(x: Array) -> Array:
        e = np.exp(x - _max(x, axis=axis, keepdims=True))
        return e / _sum(e, axis=axis, keepdims=True)

    if node.operator == "Softmax":
        return kernel
    return lambda x: x - _logsumexp(x, axis, True)


@operator("CumSum")
def _cumsum(node: NodeReader) -> Kernel:
    node.only("exclusive", 0)
    reverse = node.only("reverse", 0, 1)
    (axis,) = node.integers(1)
    if reverse:
        return lambda x, _: np.flip(np.cumsum(np.flip(x, axis), axis, dtype=x.dtype), axis)
    return lambda x, _: np.cumsum(x, axis, dtype=x.dtype)


@operator("TopK")
def _top_k(node: NodeReader) -> Kernel:
    axis, (count,) = node.attribute("axis", -1), node.integers(1)
    largest, _ = node.only("largest", 1, 0), node.only("sorted", 1, 0)

    def kernel(x: Array, _: Array) -> tuple[Array, Array]:
        # Negating keeps the sort stable, so that of equal values the first index comes first.
        order = np.argsort(-x if largest else x, axis=axis, kind="stable")
        order = np.take(order, np.arange(count), axis=axis)
        return np.take_along_axis(x, order, axis), order

    return kernel


# --- linear algebra ------------------------------------------------------------------------------


@operator("Gemm")
def _gemm(node: NodeReader) -> Kernel:
    """alpha * A B + beta * C. A constant B is laid out once for the product that runs every tick."""
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    transpose_a, transpose_b = node.only("transA", 0, 1), node.only("transB", 0, 1)
    weight, bias = node.constant(1), node.constant(2)
    has_bias = node.has_input(2)
    if not transpose_a and weight is not None and (bias is not None or not has_bias):
        b = np.ascontiguousarray((weight.T if transpose_b else weight) * weight.dtype.type(alpha))
        if not has_bias:
            return lambda a, *_: np.dot(a, b)
        c = bias * bias.dtype.type(beta)  # type: ignore[union-attr]
        return lambda a, *_: np.dot(a, b) + c

    def kernel(a: Array, b: Array, c: Array | None = None) -> Array:
        product = a.dtype.type(alpha) * np.matmul(a.T if transpose_a else a, b.T if transpose_b else b)
        return product if c is None else product + c.dtype.type(beta) * c

    return kernel


@operator("Einsum")
def _einsum(node: NodeReader) -> Kernel:
    equation = node.attribute("equation")
    return lambda *arrays: np.einsum(equation, *arrays)
