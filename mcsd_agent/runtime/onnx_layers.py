"""The ONNX operators that are whole layers: convolution, pooling, normalisation, GRU and LSTM."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from mcsd_agent.runtime.onnx_operators import Array, Kernel, NodeReader, operator, sigmoid

# --- windows: convolution and pooling ------------------------------------------------------------


class _Windows:
    """Kernel size, strides, dilations and padding of one node, over any number of space dimensions."""

    def __init__(self, node: NodeReader, kernel_shape: tuple[int, ...] | None) -> None:
        declared = node.attribute("kernel_shape", kernel_shape)
        if declared is None:
            raise node.error("without a constant kernel shape")
        self.kernel: tuple[int, ...] = declared
        rank = len(self.kernel)
        automatic = node.only("auto_pad", "NOTSET", "VALID")
        self.strides: tuple[int, ...] = node.attribute("strides", (1,) * rank)
        self.dilations: tuple[int, ...] = node.attribute("dilations", (1,) * rank)
        pads = node.attribute("pads", (0,) * 2 * rank)
        pads = (0,) * 2 * rank if automatic == "VALID" else pads
        self.widths = [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)]
        self.is_padded = any(pads)

    def pad(self, x: Array, value: float) -> Array:
        return np.pad(x, self.widths, constant_values=value) if self.is_padded else x

    def view(self, x: Array) -> Array:
        """(batch, channels, *places, *kernel), without copying."""
        axes = tuple(range(2, x.ndim))
        spans = tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))
        every = (slice(None), slice(None), *(slice(None, None, s) for s in self.strides))
        inside = tuple(slice(None, None, d) for d in self.dilations)
        return sliding_window_view(x, spans, axis=axes)[every + inside]


@operator("Conv")
def _conv(node: NodeReader) -> Kernel:
    weight = node.constant(1)
    windows = _Windows(node, None if weight is None else weight.shape[2:])
    groups = node.attribute("group", 1)

    def kernel(x: Array, w: Array, bias: Array | None = None) -> Array:
        view = windows.view(windows.pad(x, 0))
        rank = len(windows.kernel)
        batch, places = x.shape[0], view.shape[2 : 2 + rank]
        # One matrix product a group: (out, in * kernel) by (in * kernel, places).
        columns = np.moveaxis(view, range(2 + rank, 2 + 2 * rank), range(2, 2 + rank))
        columns = columns.reshape(batch, groups, -1, math.prod(places))
        y = np.matmul(w.reshape(groups, w.shape[0] // groups, -1), columns)
        y = y.reshape(batch, w.shape[0], *places)
        return y if bias is None else y + bias.reshape(-1, *[1] * rank)

    return kernel


@operator("MaxPool", "AveragePool")
def _pool(node: NodeReader) -> Kernel:
    node.only("ceil_mode", 0)
    if node.operator == "MaxPool":
        node.only("storage_order", 0)
    if node.outputs > 1:
        raise node.error("with indices")
    counts_padding = node.operator == "AveragePool" and node.only("count_include_pad", 0, 1)
    windows = _Windows(node, None)
    axes = tuple(range(-len(windows.kernel), 0))
    if node.operator == "MaxPool":
        return lambda x: np.maximum.reduce(windows.view(windows.pad(x, -math.inf)), axis=axes)

    def average(x: Array) -> Array:
        total = np.add.reduce(windows.view(windows.pad(x, 0)), axis=axes)
        if counts_padding or not windows.is_padded:
            return total / x.dtype.type(math.prod(windows.kernel))
        return total / np.add.reduce(windows.view(windows.pad(np.ones_like(x), 0)), axis=axes)

    return average


@operator("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(node: NodeReader) -> Kernel:
    reduce = np.mean if node.operator == "GlobalAveragePool" else np.max
    return lambda x: reduce(x, axis=tuple(range(2, x.ndim)), keepdims=True)


# --- normalisation -------------------------------------------------------------------------------


@operator("LayerNormalization")
def _layer_norm(node: NodeReader) -> Kernel:
    axis, epsilon = node.attribute("axis", -1), node.attribute("epsilon", 1e-5)
    node.only("stash_type", 1)
    if node.outputs > 1:
        raise node.error("with more than one output")

    def kernel(x: Array, scale: Array, bias: Array | None = None) -> Array:
        axes = tuple(range(axis % x.ndim, x.ndim))
        count = x.dtype.type(math.prod(x.shape[axis % x.ndim :]))
        centred = x - np.add.reduce(x, axis=axes, keepdims=True) / count
        variance = np.add.reduce(np.square(centred), axis=axes, keepdims=True) / count
        y = centred / np.sqrt(variance + x.dtype.type(epsilon)) * scale
        return y if bias is None else y + bias

    return kernel


@operator("RMSNormalization")
def _rms_norm(node: NodeReader) -> Kernel:
    axis, epsilon = node.attribute("axis", -1), node.attribute("epsilon", 1e-5)
    node.only("stash_type", 1)

    def kernel(x: Array, scale: Array) -> Array:
        axes = tuple(range(axis % x.ndim, x.ndim))
        count = x.dtype.type(math.prod(x.shape[axis % x.ndim :]))
        mean_square = np.add.reduce(np.square(x), axis=axes, keepdims=True) / count
        return x / np.sqrt(mean_square + x.dtype.type(epsilon)) * scale

    return kernel


@operator("SimplifiedLayerNormalization")
def _simplified_layer_norm(node: NodeReader) -> Kernel:
    """onnxruntime's name for RMSNormalization, which it has had since before ONNX named it."""
    return _rms_norm(node)


@operator("com.microsoft::RotaryEmbedding")
def _rotary(node: NodeReader) -> Kernel:
    """Halves of the last dimension as complex numbers, times those of the row's position (the rows' order)."""
    for name in ("interleaved", "num_heads", "rotary_embedding_dim", "is_packed_batching"):
        node.only(name, 0)
    node.only("scale", 1.0)
    positions, cos, sin = (node.constant(i) for i in (1, 2, 3))
    if positions is None or positions.shape != (1,) or positions[0] != 0 or cos is None or sin is None:
        raise node.error("whose positions are not those of the rows")
    if cos.ndim != 2 or cos.shape != sin.shape:
        raise node.error("whose cosines and sines differ in shape")

    def kernel(x: Array, _: Array, cos: Array, sin: Array) -> Array:
        if x.ndim != 3 or x.shape[1:] != (cos.shape[0], 2 * cos.shape[1]):
            raise ValueError(f"input {x.shape} does not fit cosines {cos.shape}")
        real, imaginary = np.split(x, 2, -1)
        return np.concatenate([cos * real - sin * imaginary, sin * real + cos * imaginary], -1)

    return kernel


@operator("BatchNormalization")
def _batch_norm(node: NodeReader) -> Kernel:
    epsilon = node.attribute("epsilon", 1e-5)
    node.only("training_mode", 0)
    node.attribute("momentum", 0.9)

    def kernel(x: Array, scale: Array, bias: Array, mean: Array, variance: Array) -> Array:
        shape = (-1, *[1] * (x.ndim - 2))
        factor = scale / np.sqrt(variance + x.dtype.type(epsilon))
        return x * factor.reshape(shape) + (bias - mean * factor).reshape(shape)

    return kernel


@operator("InstanceNormalization", "GroupNormalization")
def _group_norm(node: NodeReader) -> Kernel:
    epsilon = node.attribute("epsilon", 1e-5)
    groups = node.attribute("num_groups") if node.operator == "GroupNormalization" else None
    if groups is not None:
        node.only("stash_type", 1)
        if node.opset < 21:
            # Scale and bias were per group at first, which ONNX withdrew as a mistake.
            raise node.error("before operator set 21")

    def kernel(x: Array, scale: Array, bias: Array) -> Array:
        shape = (-1, *[1] * (x.ndim - 2))
        grouped = x.reshape(x.shape[0], groups or x.shape[1], -1)
        centred = grouped - grouped.mean(-1, keepdims=True)
        variance = np.square(centred).mean(-1, keepdims=True)
        normal = (centred / np.sqrt(variance + x.dtype.type(epsilon))).reshape(x.shape)
        return normal * scale.reshape(shape) + bias.reshape(shape)

    return kernel


# --- recurrent layers ----------------------------------------------------------------------------


class _Recurrent:
    """What GRU and LSTM share: directions, layout, and the loop over time.

    ONNX shapes: x (time, batch, in), w (directions, gates, in), r (directions, gates, hidden),
    b (directions, 2 * gates); states (directions, batch, hidden). With layout=1 the batch comes first.
    """

    def __init__(self, node: NodeReader) -> None:
        self.hidden = node.attribute("hidden_size")
        direction = node.only("direction", "forward", "reverse", "bidirectional")
        self.backwards = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[direction]
        self.batch_first = node.only("layout", 0, 1)
        for name in ("activations", "activation_alpha", "activation_beta", "clip"):
            if node.attribute(name, None):
                raise node.error(f"with {name}")
        if node.has_input(4):
            raise node.error("with sequence lengths")

    def run(self, step: Any, x: Array, w: Array, r: Array, b: Array | None, states: tuple[Array | None, ...]) -> Any:
        """`step(gates_of_x, state, r, b_r) -> state`; returns y and the last states, shaped as ONNX says."""
        x = x.swapaxes(0, 1) if self.batch_first else x
        time, batch = x.shape[:2]
        outputs, finals = [], []
        for d, backwards in enumerate(self.backwards):
            gates = w.shape[1]
            bias_x, bias_r = (0, 0) if b is None else (b[d, :gates], b[d, gates:])
            from_x = np.matmul(x, w[d].T) + bias_x
            state = tuple(self._initial(s, d, batch, x.dtype) for s in states)
            sequence = np.empty((time, batch, self.hidden), x.dtype)
            for t in reversed(range(time)) if backwards else range(time):
                state = step(from_x[t], state, r[d].T, bias_r)
                sequence[t] = state[0]
            outputs.append(sequence)
            finals.append(state)
        y = np.stack(outputs, 1)  # (time, directions, batch, hidden)
        last = [np.stack(parts, 0) for parts in zip(*finals, strict=True)]
        if self.batch_first:
            y, last = y.transpose(2, 0, 1, 3), [s.swapaxes(0, 1) for s in last]
        return (y, *last)

    def _initial(self, state: Array | None, direction: int, batch: int, dtype: Any) -> Array:
        if state is None:
            return np.zeros((batch, self.hidden), dtype)
        return state[:, direction] if self.batch_first else state[direction]


@operator("GRU")
def _gru(node: NodeReader) -> Kernel:
    layer, wanted = _Recurrent(node), node.outputs
    hidden = layer.hidden
    reset_after = node.only("linear_before_reset", 0, 1)

    def step(from_x: Array, state: tuple[Array], r: Array, bias: Any) -> tuple[Array]:
        # Gates in ONNX's order: update z, reset r, candidate n.
        (h,) = state
        two = 2 * hidden
        bias_zr, bias_n = (bias[:two], bias[two:]) if isinstance(bias, np.ndarray) else (0, 0)
        zr = sigmoid(from_x[:, :two] + h @ r[:, :two] + bias_zr)
        z, reset = zr[:, :hidden], zr[:, hidden:]
        from_h = reset * (h @ r[:, two:] + bias_n) if reset_after else (reset * h) @ r[:, two:] + bias_n
        n = np.tanh(from_x[:, two:] + from_h)
        return ((1 - z) * n + z * h,)

    def kernel(x: Array, w: Array, r: Array, b: Array | None = None, _: Any = None, h0: Array | None = None) -> Any:
        return _first(layer.run(step, x, w, r, b, (h0,)), wanted)

    return kernel


@operator("LSTM")
def _lstm(node: NodeReader) -> Kernel:
    layer, wanted = _Recurrent(node), node.outputs
    node.only("input_forget", 0)
    if node.has_input(7):
        raise node.error("with peepholes")

    def step(from_x: Array, state: tuple[Array, Array], r: Array, bias: Any) -> tuple[Array, Array]:
        # Gates in ONNX's order: input i, output o, forget f, candidate g.
        h, c = state
        i, o, f, g = np.split(from_x + h @ r + bias, 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c

    def kernel(
        x: Array,
        w: Array,
        r: Array,
        b: Array | None = None,
        _: Any = None,
        h0: Array | None = None,
        c0: Array | None = None,
        *peepholes: Any,
    ) -> Any:
        return _first(layer.run(step, x, w, r, b, (h0, c0)), wanted)

    return kernel


def _first(outputs: tuple[Array, ...], wanted: int) -> Any:
    return outputs[:wanted] if wanted > 1 else outputs[0]
