"""Constants of an exported step in fewer bytes: stored small, and expanded by operators that engines run at load."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mcsd_agent.export.weights import Kind

_SMALLEST = 1024
_TYPES = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16, "int8": TensorProto.INT8}

#: A constant as it is in the graph, and as two factors of which the first is a rounded weight.
Product = tuple[np.ndarray, np.ndarray, np.ndarray]


def shrink(model: bytes, kind: Kind, products: Sequence[Product] = ()) -> bytes:
    """`model` with every constant that is a rounded weight stored as `kind`.

    A constant is one if `kind` holds it without loss; of `products` only the first factor has to be.
    """
    if kind == "float32":
        return model
    proto = onnx.load_from_string(model)
    kept, expansions = [], []
    for constant in proto.graph.initializer:
        small = _small(constant, kind, products)
        if small is None:
            kept.append(constant)
            continue
        tensor, factors = small
        kept.append(tensor)
        name = f"{constant.name}__cast"
        chain = [name, *(f"{constant.name}__{i}" for i in range(len(factors)))]
        chain[-1] = constant.name
        expansions.append(helper.make_node("Cast", [tensor.name], [chain[0]], to=TensorProto.FLOAT))
        for i, factor in enumerate(factors):
            kept.append(numpy_helper.from_array(factor, f"{constant.name}__factor{i}"))
            expansions.append(helper.make_node("Mul", [chain[i], kept[-1].name], [chain[i + 1]]))
    nodes = [*expansions, *proto.graph.node]
    del proto.graph.initializer[:], proto.graph.node[:]
    proto.graph.initializer.extend(kept)
    proto.graph.node.extend(nodes)
    return proto.SerializeToString(deterministic=True)


def _small(
    constant: TensorProto, kind: Kind, products: Sequence[Product]
) -> tuple[TensorProto, list[np.ndarray]] | None:
    """The small constant and what it is to be multiplied by, or None for one that stays as it is."""
    if constant.data_type != TensorProto.FLOAT or len(constant.dims) < 2:
        return None
    array = numpy_helper.to_array(constant)
    if array.size < _SMALLEST:
        return None
    factors = []
    for whole, first, second in products:
        if whole.shape == array.shape and np.array_equal(whole, array):
            array, factors = first, [second]
            break
    if kind == "int8":
        found = _as_int8(array)
        if found is None:
            return None
        values, scale = found
        factors = [scale * factors[0]] if factors else [scale]
        content = values.tobytes()
    elif kind == "float16":
        values = array.astype(np.float16)
        if not np.array_equal(values.astype(np.float32), array):
            return None
        content = values.tobytes()
    else:
        bits = array.view(np.uint32)
        if (bits & 0xFFFF).any():
            return None
        content = (bits >> 16).astype("<u2").tobytes()
    name = f"{constant.name}__{kind}"
    return helper.make_tensor(name, _TYPES[kind], array.shape, content, raw=True), factors


def _as_int8(array: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Integers and scales whose product `array` is, one scale per output channel, whichever axis that is."""
    every = tuple(range(array.ndim))
    for axes in ((array.ndim - 2,), (array.ndim - 1,), every[1:]):
        largest = np.abs(array).max(axes, keepdims=True)
        scale = np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)
        values = np.rint(array / scale)
        if (np.abs(values * scale - array) <= 1e-6 * largest).all():
            return values.astype(np.int8), scale
    return None
