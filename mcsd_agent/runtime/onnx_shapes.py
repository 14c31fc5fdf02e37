"""The ONNX operators that move, select and make values rather than compute with them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from mcsd_agent.runtime.onnx_operators import Array, Kernel, NodeReader, operator


@operator("Constant")
def _constant(node: NodeReader) -> Kernel:
    readers: dict[str, Callable[[Any], Any]] = {
        "value": np.asarray,
        "value_float": np.float32,
        "value_floats": lambda v: np.asarray(v, np.float32),
        "value_int": np.int64,
        "value_ints": lambda v: np.asarray(v, np.int64),
    }
    for name, read in readers.items():
        value = node.attribute(name, None)
        if value is not None:
            array = np.asarray(read(value))
            return lambda: array
    raise node.error("of this type")


@operator("ConstantOfShape")
def _constant_of_shape(node: NodeReader) -> Kernel:
    value = node.attribute("value", None)
    fill = np.zeros(1, np.float32) if value is None else np.ravel(value)
    shape = node.integers(0)
    return lambda _: np.full(shape, fill[0], fill.dtype)


@operator("Range")
def _range(node: NodeReader) -> Kernel:
    return lambda start, limit, delta: np.arange(start, limit, delta, dtype=start.dtype)


@operator("Reshape")
def _reshape(node: NodeReader) -> Kernel:
    keep_zero, target = node.only("allowzero", 0, 1), node.integers(1)
    if keep_zero or 0 not in target:
        return lambda x, _: x.reshape(target)
    # Without allowzero a zero copies the input's dimension.
    return lambda x, _: x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(target)])


@operator("Transpose")
def _transpose(node: NodeReader) -> Kernel:
    order = node.attribute("perm", None)
    return lambda x: x.transpose(order)


@operator("Flatten")
def _flatten(node: NodeReader) -> Kernel:
    axis = node.attribute("axis", 1)
    return lambda x: x.reshape(int(np.prod(x.shape[:axis], dtype=np.int64)), -1)


class _ShapeCache(dict[tuple[int, ...], Any]):
    """Something that depends on the input's shape alone, made when a shape is first seen.

    Basic indexing with a ready tuple is several times faster than expand_dims or split.
    """

    def __init__(self, make: Callable[[tuple[int, ...]], Any]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, shape: tuple[int, ...]) -> Any:
        self[shape] = self._make(shape)
        return self[shape]


@operator("Unsqueeze")
def _unsqueeze(node: NodeReader) -> Kernel:
    axes = node.integers(1)
    targets = _ShapeCache(lambda shape: np.expand_dims(np.empty(shape, np.bool_), axes).shape)
    return lambda x, _: x.reshape(targets[x.shape])


@operator("Squeeze")
def _squeeze(node: NodeReader) -> Kernel:
    axes = node.integers(1, None)
    return lambda x, *_: x.squeeze(axes)


@operator("Expand")
def _expand(node: NodeReader) -> Kernel:
    target = node.integers(1)
    # Broadcasts both ways: the target may have ones where the input is longer.
    return lambda x, _: np.broadcast_to(x, np.broadcast_shapes(x.shape, target))


@operator("Tile")
def _tile(node: NodeReader) -> Kernel:
    repeats = node.integers(1)
    return lambda x, _: np.tile(x, repeats)


@operator("Concat")
def _concat(node: NodeReader) -> Kernel:
    axis = node.attribute("axis")
    return lambda *arrays: np.concatenate(arrays, axis)


@operator("Split")
def _split(node: NodeReader) -> Kernel:
    axis, count = node.attribute("axis", 0), node.attribute("num_outputs", node.outputs)
    sizes = node.integers(1, None)
    if count != node.outputs:
        raise node.error(f"with num_outputs={count} and {node.outputs} outputs")

    def parts(shape: tuple[int, ...]) -> list[tuple[slice, ...]]:
        # Equal parts; where the length does not divide, the last one is shorter.
        size, each = shape[axis], -(-shape[axis] // count)
        lengths = sizes or [max(0, min(each, size - i * each)) for i in range(count)]
        if sum(lengths) != size:
            raise ValueError(f"parts of {lengths} do not add up to {size}")
        before = (slice(None),) * (axis % len(shape))
        stops = list(itertools.accumulate(lengths))
        return [(*before, slice(stop - length, stop)) for stop, length in zip(stops, lengths, strict=True)]

    indices = _ShapeCache(parts)
    if count == 1:
        return lambda x, *_: x
    return lambda x, *_: [x[index] for index in indices[x.shape]]


@operator("Slice")
def _slice(node: NodeReader) -> Kernel:
    starts, ends = node.integers(1), node.integers(2)
    axes = node.integers(3, tuple(range(len(starts))))
    steps = node.integers(4, (1,) * len(starts))

    def index(shape: tuple[int, ...]) -> tuple[slice, ...]:
        result = [slice(None)] * len(shape)
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            # Python clamps a start before the first element to nothing when walking backwards, ONNX to the first.
            size, back = shape[axis], step < 0
            start, end = (n + size if n < 0 else n for n in (start, end))
            start, end = max(0, min(start, size - back)), max(-back, min(end, size - back))
            result[axis] = slice(start, None if end < 0 else end, step)
        return tuple(result)

    indices = _ShapeCache(index)
    return lambda x, *_: x[indices[x.shape]]


@operator("Gather")
def _gather(node: NodeReader) -> Kernel:
    axis, indices = node.attribute("axis", 0), node.constant(1)
    if indices is not None and indices.ndim == 0:
        position = int(indices)
        if axis >= 0:
            # A view: basic indexing is much cheaper than np.take.
            index = (slice(None),) * axis + (position,)
            return lambda x, _: x[index]
    return lambda x, i: np.take(x, i, axis=axis)


@operator("GatherElements")
def _gather_elements(node: NodeReader) -> Kernel:
    axis = node.attribute("axis", 0)
    return lambda x, i: np.take_along_axis(x, i, axis)


@operator("GatherND")
def _gather_nd(node: NodeReader) -> Kernel:
    node.only("batch_dims", 0)
    return lambda x, i: x[tuple(np.moveaxis(i, -1, 0))]


@operator("ScatterElements")
def _scatter_elements(node: NodeReader) -> Kernel:
    axis = node.attribute("axis", 0)
    node.only("reduction", "none")

    def kernel(x: Array, indices: Array, updates: Array) -> Array:
        result = x.copy()
        np.put_along_axis(result, indices, updates, axis)
        return result

    return kernel


@operator("ScatterND")
def _scatter_nd(node: NodeReader) -> Kernel:
    node.only("reduction", "none")

    def kernel(x: Array, indices: Array, updates: Array) -> Array:
        result = x.copy()
        result[tuple(np.moveaxis(indices, -1, 0))] = updates
        return result

    return kernel


@operator("OneHot")
def _one_hot(node: NodeReader) -> Kernel:
    axis, (depth,) = node.attribute("axis", -1), node.integers(1)

    def kernel(indices: Array, _: Array, values: Array) -> Array:
        hot = np.expand_dims(indices % depth, axis) == _along(np.arange(depth), axis, indices.ndim + 1)
        return np.where(hot, values[1], values[0])

    return kernel


def _along(vector: Array, axis: int, ndim: int) -> Array:
    shape = [1] * ndim
    shape[axis] = -1
    return vector.reshape(shape)


@operator("Trilu")
def _trilu(node: NodeReader) -> Kernel:
    keep = np.triu if node.only("upper", 1, 0) else np.tril
    (diagonal,) = node.integers(1, (0,))
    return lambda x, *_: keep(x, diagonal)


@operator("Pad")
def _pad(node: NodeReader) -> Kernel:
    mode, pads, axes = node.only("mode", "constant", "reflect", "edge"), node.integers(1), node.integers(3, None)
    half = len(pads) // 2
    if min(pads) < 0:
        raise node.error("with negative padding")

    def kernel(x: Array, _: Array, value: Array | None = None, *rest: Array) -> Array:
        widths = [(0, 0)] * x.ndim
        for axis, before, after in zip(axes or range(half), pads[:half], pads[half:], strict=True):
            widths[axis] = (before, after)
        if mode != "constant":
            return np.pad(x, widths, mode=mode)
        return np.pad(x, widths, constant_values=0 if value is None else value.item())

    return kernel
