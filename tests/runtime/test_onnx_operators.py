"""Every operator of the engines numpy and native gives what onnxruntime gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes
from runtime.onnx_models import infer_outputs, model_bytes, node, read

from mcsd_agent.errors import UserError
from mcsd_agent.runtime.native_program import is_compiled
from mcsd_agent.runtime.onnx_native import NativeEngine
from mcsd_agent.runtime.onnx_numpy import NumpyEngine
from mcsd_agent.runtime.onnx_operators import FACTORIES

RNG = np.random.default_rng(0)
ENGINES = [NumpyEngine, *([NativeEngine] if is_compiled() else [])]


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def integers(high: int, *shape: int) -> np.ndarray:
    return RNG.integers(0, high, shape)


def ids(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def compare(
    operator: str,
    live: list[Any],
    constants: list[Any] | None = None,
    outputs: int = 1,
    opset: int = 20,
    tolerance: float = 2e-6,
    **attributes: Any,
) -> None:
    """Runs one node in all engines. `live` inputs come first, then constants; None is a left-out input."""
    arrays: dict[str, np.ndarray] = {}
    fixed: dict[str, np.ndarray] = {}
    names = []
    for target, values in ((arrays, live), (fixed, constants or [])):
        for value in values:
            names.append("" if value is None else f"x{len(names)}")
            if value is not None:
                target[names[-1]] = np.asarray(value)
    results = [f"y{i}" for i in range(outputs)]
    data = infer_outputs(
        model_bytes([node(operator, names, results, **attributes)], arrays, results, fixed, opset=opset)
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    expected = onnxruntime.InferenceSession(data, options).run(None, arrays)
    for make in ENGINES:
        engine = make(read(data))
        for _ in range(2):  # the second run meets whatever the first one cached
            found = engine.run(arrays)
            for f, e in zip(found, expected, strict=True):
                assert f.dtype == e.dtype
                assert f.shape == e.shape
                np.testing.assert_allclose(f, e, rtol=tolerance, atol=tolerance)


X = np.float32([[-120.0, -3.0, -0.5, 0.0], [0.5, 1.0, 3.0, 120.0]])
POSITIVE = np.abs(X) + np.float32(0.1)
TRUTH, OTHER = integers(2, 2, 3).astype(bool), integers(2, 2, 3).astype(bool)
IMAGE = normal(1, 4, 7, 6)
SEQUENCE, STATE = normal(5, 2, 3), normal(1, 2, 4)
GRU = [normal(1, 12, 3), normal(1, 12, 4), normal(1, 24)]
LSTM = [normal(1, 16, 3), normal(1, 16, 4), normal(1, 32)]
TWO = [np.repeat(a, 2, 0) for a in GRU]

UNARY = (
    *("Abs", "Atan", "Ceil", "Cos", "Erf", "Floor", "HardSwish", "Identity", "IsNaN", "Mish", "Neg", "Relu", "Round"),
    *("Shape", "Sigmoid", "Sign", "Sin", "Size", "Softplus", "Softsign", "Tanh"),
)
REDUCTIONS = (
    *("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"),
    *("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"),
)

#: Arguments of `compare`, by operator.
CASES: dict[str, list[dict[str, Any]]] = {
    **{name: [{"live": [X]}] for name in UNARY},
    **{name: [{"live": [POSITIVE]}] for name in ("Log", "Reciprocal", "Sqrt")},
    **{
        name: [{"live": [X, X[:1] + 1]}]
        for name in ["Add", "Sub", "Mul", "Div", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"]
    },
    **{name: [{"live": [TRUTH, OTHER]}] for name in ("And", "Or", "Xor")},
    **{name: [{"live": [X, X[:1]]}, {"live": [X, X[:1], X + 1]}] for name in ("Max", "Min", "Sum", "Mean")},
    **{
        name: [
            {"live": [X], "constants": [ids(1)]},
            {"live": [X], "constants": [ids(0, -1)], "keepdims": 0},
            {"live": [X]},
        ]
        for name in REDUCTIONS
    },
    "ReduceLogSum": [{"live": [POSITIVE], "constants": [ids(1)]}],
    "Exp": [{"live": [X[:, :3]]}],
    "Tan": [{"live": [X[:, 1:3]]}],
    "Not": [{"live": [TRUTH]}],
    "Dropout": [{"live": [X]}],
    "Where": [{"live": [TRUTH, normal(2, 3), normal(3)]}],
    "Pow": [
        {"live": [X], "constants": [np.float32(2)]},
        {"live": [POSITIVE], "constants": [np.float32([0.5])]},
        {"live": [POSITIVE, X / 40]},
        {"live": [integers(5, 3)], "constants": [np.float32(3)]},
    ],
    "Mod": [
        {"live": [ids(-7, 7, 5), ids(3, -3, 5)]},
        {"live": [X, X + np.float32(0.25)], "fmod": 1},
    ],
    "Cast": [{"live": [X], "to": 7}, {"live": [X], "to": 9}, {"live": [TRUTH], "to": 1}, {"live": [X], "to": 11}],
    "CastLike": [{"live": [ids(1, 2), X]}],
    "Clip": [
        {"live": [X], "constants": [np.float32(-1), np.float32(1)]},
        {"live": [X], "constants": [np.float32(-1)]},
        {"live": [X], "constants": [None, np.float32(1)]},
        {"live": [X]},
    ],
    "Gelu": [{"live": [X]}, {"live": [X], "approximate": "tanh"}],
    "Elu": [{"live": [X], "alpha": 0.7}],
    "Celu": [{"live": [X], "alpha": 0.7}],
    "Selu": [{"live": [X]}],
    "LeakyRelu": [{"live": [X]}, {"live": [X], "alpha": 0.3}],
    "HardSigmoid": [{"live": [X]}],
    "ThresholdedRelu": [{"live": [X], "alpha": 0.6}],
    "PRelu": [{"live": [X], "constants": [normal(4)]}],
    "MatMul": [{"live": [normal(1, 3), normal(3, 4)]}, {"live": [normal(2, 1, 3, 4), normal(5, 4, 2)]}],
    "Gemm": [
        {"live": [normal(2, 3)], "constants": [normal(4, 3), normal(4)], "transB": 1},
        {"live": [normal(2, 3)], "constants": [normal(3, 4)], "alpha": 0.5},
        {"live": [normal(3, 2), normal(3, 4), normal(2, 4)], "transA": 1, "alpha": 2.0, "beta": 0.5},
        {"live": [normal(1, 3), normal(3, 4), normal(1, 4)], "beta": -2.0},
        {"live": [normal(2, 3), normal(3, 4), normal(4)], "beta": -2.0},
    ],
    "Einsum": [{"live": [normal(2, 3, 4), normal(3, 4, 5)], "equation": "bci,cij->bcj"}],
    "ArgMax": [{"live": [X]}, {"live": [X], "axis": 1, "keepdims": 0}, {"live": [X * 0], "select_last_index": 1}],
    "ArgMin": [{"live": [X], "axis": -1}],
    "Softmax": [{"live": [X]}, {"live": [X], "axis": 0}],
    "LogSoftmax": [{"live": [X]}],
    "CumSum": [{"live": [X], "constants": [ids(1)[0]]}, {"live": [X], "constants": [ids(0)[0]], "reverse": 1}],
    "TopK": [
        {"live": [normal(3, 6)], "constants": [ids(2)], "outputs": 2},
        {"live": [normal(3, 6)], "constants": [ids(2)], "outputs": 2, "largest": 0, "axis": 0},
    ],
    "ConstantOfShape": [{"live": [], "constants": [ids(2, 3)]}],
    "Range": [{"live": [], "constants": [ids(1)[0], ids(9)[0], ids(3)[0]]}],
    "Reshape": [
        {"live": [normal(2, 6)], "constants": [ids(0, 3, -1)]},
        {"live": [normal(2, 6)], "constants": [ids(-1)]},
    ],
    "Transpose": [{"live": [normal(2, 3, 4)], "perm": [2, 0, 1]}, {"live": [normal(2, 3)]}],
    "Flatten": [{"live": [normal(2, 3, 4)]}, {"live": [normal(2, 3, 4)], "axis": 0}],
    "Unsqueeze": [{"live": [normal(2, 3)], "constants": [ids(0, -1)]}],
    "Squeeze": [{"live": [normal(1, 2, 1)], "constants": [ids(0)]}, {"live": [normal(1, 2, 1)]}],
    "Expand": [{"live": [normal(3, 1)], "constants": [ids(2, 1, 4)]}],
    "Tile": [{"live": [normal(2, 3)], "constants": [ids(2, 1)]}],
    "Concat": [{"live": [normal(2, 3), normal(2, 1), normal(2, 2)], "axis": -1}],
    "Split": [
        {"live": [normal(2, 6)], "axis": 1, "num_outputs": 2, "outputs": 2},
        {"live": [normal(7, 2)], "num_outputs": 3, "outputs": 3},
        {"live": [normal(2, 6)], "constants": [ids(1, 3, 2)], "axis": -1, "outputs": 3},
        {"live": [normal(2, 6)], "constants": [ids(6)], "axis": 1},
    ],
    "Slice": [
        {"live": [normal(4, 6)], "constants": [ids(1), ids(1000), ids(1)]},
        {"live": [normal(4, 6)], "constants": [ids(-1, 0), ids(-1000, 5), ids(0, 1), ids(-1, 2)]},
        {"live": [normal(4, 6)], "constants": [ids(1, 2), ids(3, -1)]},
    ],
    "Gather": [
        {"live": [normal(4, 6)], "constants": [ids(2)[0]], "axis": 1},
        {"live": [normal(4, 6)], "constants": [ids(-1)[0]], "axis": -1},
        {"live": [normal(9, 6), integers(9, 2, 3)]},
    ],
    "GatherElements": [{"live": [normal(3, 4), integers(3, 2, 4)]}],
    "GatherND": [{"live": [normal(3, 4, 2), integers(3, 5, 2)]}],
    "ScatterElements": [{"live": [normal(3, 4), ids(2, 0, 1, 1)[None], normal(1, 4)]}],
    "ScatterND": [{"live": [normal(3, 4), ids(2, 0)[:, None], normal(2, 4)]}],
    "OneHot": [
        {"live": [ids(0, 3, -1)], "constants": [ids(4), np.float32([0, 1])]},
        {"live": [ids(0, 3, 2)], "constants": [ids(4), np.float32([-1, 2])], "axis": 0},
    ],
    "Trilu": [{"live": [normal(4, 4)]}, {"live": [normal(4, 4)], "constants": [ids(-1)[0]], "upper": 0}],
    "Pad": [
        {"live": [normal(2, 3)], "constants": [ids(1, 0, 0, 2)]},
        {"live": [normal(2, 3)], "constants": [ids(1, 2), np.float32(7), ids(1)]},
        {"live": [normal(4, 4)], "constants": [ids(1, 2, 2, 1)], "mode": "reflect"},
        {"live": [normal(4, 4)], "constants": [ids(1, 2, 2, 1)], "mode": "edge"},
    ],
    "Conv": [
        {"live": [IMAGE], "constants": [normal(6, 4, 3, 3), normal(6)], "strides": [2, 1], "pads": [1, 0, 2, 1]},
        {"live": [IMAGE], "constants": [normal(6, 2, 3, 2)], "group": 2, "dilations": [2, 1]},
        {"live": [IMAGE, normal(2, 4, 3, 3)], "kernel_shape": [3, 3], "auto_pad": "VALID"},
        {"live": [normal(2, 3, 9)], "constants": [normal(4, 3, 4), normal(4)], "pads": [3, 0]},
        {"live": [normal(2, 4, 9)], "constants": [normal(4, 1, 3)], "group": 4},
    ],
    "MaxPool": [{"live": [IMAGE], "kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}],
    "AveragePool": [
        {"live": [IMAGE], "kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]},
        {"live": [IMAGE], "kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "count_include_pad": 1},
        {"live": [IMAGE], "kernel_shape": [2, 2]},
    ],
    "GlobalAveragePool": [{"live": [IMAGE]}],
    "GlobalMaxPool": [{"live": [IMAGE]}],
    "LayerNormalization": [
        {"live": [normal(2, 3, 4)], "constants": [normal(4), normal(4)]},
        {"live": [normal(2, 3, 4)], "constants": [normal(3, 4)], "axis": 1, "epsilon": 1e-3},
    ],
    "RMSNormalization": [{"live": [normal(2, 3, 4)], "constants": [normal(4)], "epsilon": 1e-3, "opset": 23}],
    "BatchNormalization": [{"live": [IMAGE], "constants": [normal(4), normal(4), normal(4), normal(4) ** 2]}],
    "InstanceNormalization": [{"live": [IMAGE], "constants": [normal(4), normal(4)]}],
    "GroupNormalization": [{"live": [IMAGE], "constants": [normal(4), normal(4)], "num_groups": 2, "opset": 21}],
    "GRU": [
        {"live": [SEQUENCE], "constants": GRU, "hidden_size": 4, "outputs": 2, "linear_before_reset": 1},
        {"live": [SEQUENCE], "constants": [*GRU, None, STATE], "hidden_size": 4, "outputs": 2},
        {"live": [SEQUENCE], "constants": GRU[:2], "hidden_size": 4, "direction": "reverse"},
        {"live": [SEQUENCE], "constants": TWO, "hidden_size": 4, "direction": "bidirectional", "outputs": 2},
    ],
    "LSTM": [
        {"live": [SEQUENCE], "constants": LSTM, "hidden_size": 4, "outputs": 3},
        {"live": [SEQUENCE], "constants": [*LSTM, None, STATE, STATE * 2], "hidden_size": 4, "outputs": 3},
        {"live": [SEQUENCE], "constants": LSTM[:2], "hidden_size": 4, "direction": "reverse"},
    ],
}


@pytest.mark.parametrize(("operator", "case"), [(o, c) for o, cases in CASES.items() for c in cases])
def test_operator_equals_onnxruntime(operator: str, case: dict[str, Any]) -> None:
    compare(operator, **case)


def test_every_operator_is_compared_with_onnxruntime() -> None:
    compared_elsewhere = {"Constant", "Swish", "SimplifiedLayerNormalization", *MICROSOFT}
    assert set(FACTORIES) == set(CASES) | compared_elsewhere


#: Rows of eight: halves of four complex numbers.
ROWS = normal(2, 3, 8)
MICROSOFT: dict[str, tuple[list[Any], list[Any], dict[str, Any]]] = {
    "com.microsoft::QuickGelu": ([X], [], {"alpha": 1.0}),
    "com.microsoft::RotaryEmbedding": ([ROWS], [ids(0), normal(3, 4), normal(3, 4)], {}),
}


@pytest.mark.parametrize(
    ("operator", "live", "constants", "attributes"),
    [
        *((name, *case) for name, case in MICROSOFT.items()),
        ("com.microsoft::QuickGelu", [X], [], {}),
        ("SimplifiedLayerNormalization", [ROWS], [normal(8)], {"axis": -1, "epsilon": 1e-6}),
        ("SimplifiedLayerNormalization", [ROWS * 1e-4], [np.ones(8, np.float32)], {"axis": -1, "epsilon": 1e-6}),
        ("SimplifiedLayerNormalization", [np.float32([[0, 0], [1e3, -1e3]])], [normal(2)], {"axis": 1}),
    ],
)
def test_operators_of_onnxruntime_alone_equal_it(
    operator: str, live: list[Any], constants: list[Any], attributes: dict[str, Any]
) -> None:
    domain, _, name = operator.rpartition("::")
    arrays = {f"x{i}": v for i, v in enumerate(live)}
    fixed = {f"c{i}": v for i, v in enumerate(constants)}
    one = node(name, [*arrays, *fixed], ["y"], domain=domain, **attributes)
    data = model_bytes([one], arrays, ["y"], fixed, opsets={"com.microsoft": 1})
    (expected,) = onnxruntime.InferenceSession(data).run(None, arrays)
    for make in ENGINES:
        (found,) = make(read(data)).run(arrays)
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


def test_rotations_that_are_not_those_of_the_rows_are_refused() -> None:
    fixed = {"p": ids(1), "cos": normal(4, 4), "sin": normal(4, 4)}
    one = node("RotaryEmbedding", ["x", *fixed], ["y"], domain="com.microsoft")
    data = model_bytes([one], {"x": ROWS}, ["y"], fixed, opsets={"com.microsoft": 1})
    with pytest.raises(UserError, match=r"RotaryEmbedding whose positions are not those of the rows"):
        NumpyEngine(read(data))


@pytest.mark.parametrize("operator", REDUCTIONS[:5])
def test_reduction_over_no_axes_may_be_switched_off(operator: str) -> None:
    compare(operator, [X], noop_with_empty_axes=1)


@given(shapes=mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3), seed=st.integers(0, 99))
def test_broadcasting_equals_onnxruntime(shapes: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.normal(size=s).astype(np.float32) for s in shapes.input_shapes)
    compare("Mul", [a, b])
    compare("Div", [rng.integers(-9, 9, a.shape), rng.integers(1, 5, b.shape)])
    compare("Max", [a, b])


@given(
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    groups=st.sampled_from([1, 2, 4]),
)
def test_convolution_equals_onnxruntime(
    size: Any, kernel: Any, strides: Any, dilations: Any, pads: Any, groups: int
) -> None:
    weight = normal(8, 4 // groups, *kernel)
    compare(
        "Conv",
        [normal(1, 4, *size)],
        [weight, normal(8)],
        strides=strides,
        dilations=dilations,
        pads=pads,
        group=groups,
        tolerance=2e-5,
    )


@given(
    start=st.integers(-8, 8),
    end=st.integers(-8, 8),
    axis=st.integers(-2, 1),
    step=st.sampled_from([-3, -2, -1, 1, 2, 3]),
)
def test_slice_equals_onnxruntime(start: int, end: int, axis: int, step: int) -> None:
    compare("Slice", [normal(5, 4)], [ids(start), ids(end), ids(axis), ids(step)])


def test_swish_is_x_times_sigmoid() -> None:
    """Operator set 24 is newer than the onnxruntime that is required."""
    nodes = [node("Swish", ["x"], ["y"], alpha=0.5)]
    engine = NumpyEngine(read(model_bytes(nodes, {"x": X}, ["y"], opset=23)))
    (y,) = engine.run({"x": X})
    x = X.astype(np.float64)
    np.testing.assert_allclose(y, x / (1 + np.exp(-0.5 * x)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("value_int", 3), ("value_ints", [1, 2]), ("value_float", 0.5), ("value_floats", [0.5, 1.5])],
)
def test_constant_holds_its_value(attribute: str, value: Any) -> None:
    nodes = [node("Constant", [], ["c"], **{attribute: value}), node("Identity", ["c"], ["y"])]
    (y,) = NumpyEngine(read(model_bytes(nodes, {}, ["y"]))).run({})
    assert y.dtype == (np.float32 if "float" in attribute else np.int64)
    assert y.tolist() == value


@pytest.mark.parametrize(
    ("operator", "live", "attributes", "named"),
    [
        ("ScatterND", [normal(3), ids(0)[:, None], normal(1)], {"reduction": "add"}, "reduction='add'"),
        ("AveragePool", [IMAGE], {"kernel_shape": [2, 2], "ceil_mode": 1}, "ceil_mode=1"),
        ("Reshape", [normal(4), ids(2, 2)], {}, "input 1 is computed at run time"),
        ("Relu", [X], {"mystery": 1}, "attribute 'mystery'"),
        ("Gather", [X, ids(0)], {"axis": 0, "mode": "wrap"}, "attribute 'mode'"),
    ],
)
def test_unknown_options_are_refused_by_name(
    operator: str, live: list[Any], attributes: dict[str, Any], named: str
) -> None:
    arrays = {f"x{i}": v for i, v in enumerate(live)}
    data = model_bytes([node(operator, list(arrays), ["y"], **attributes)], arrays, ["y"])
    with pytest.raises(UserError, match=f"ONNX operator {operator}.*{named}.*not supported.*engine='onnx'"):
        NumpyEngine(read(data))
