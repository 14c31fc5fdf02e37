"""The compiled engine: what it computes is what NumPy computes, whatever the shapes and numbers are."""

from __future__ import annotations

import shutil
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes
from runtime.onnx_models import model_bytes, node, read, tiny_artifact
from runtime.rich_artifact import rich_artifact

from mcsd_agent.artifact import export_policy
from mcsd_agent.bench.stream_inputs import write_default_artifact
from mcsd_agent.errors import UserError
from mcsd_agent.policy import PolicyConfig
from mcsd_agent.runtime import Stream, native_program
from mcsd_agent.runtime import stream as streams
from mcsd_agent.runtime.onnx_native import NativeEngine
from mcsd_agent.runtime.onnx_numpy import NumpyEngine
from mcsd_agent.runtime.package import parse_package
from mcsd_agent.training.runs import policy_for

SMALL = (0.0, -0.0, 1e-40, 1e-20, -1e-7, 1e-3, 0.3, -0.624, 0.626, 1.0, -5.0, 17.0, -17.0)
STRANGE = np.float32([*SMALL, 88.0, -88.0, 88.8, 89.5, -103.0, -110.0, 3e38, -3e38, np.inf, -np.inf, np.nan])


def both(nodes: list[Any], arrays: dict[str, np.ndarray], constants: dict[str, np.ndarray] | None = None) -> Any:
    """The last node's result by the compiled engine, and by NumPy's; that it was compiled is demanded."""
    data = model_bytes(nodes, arrays, ["y"], constants or {}, opset=20, opsets={"com.microsoft": 1})
    native = NativeEngine(read(data))
    assert native.is_whole
    return native.run(arrays)[0], NumpyEngine(read(data)).run(arrays)[0]


def same(nodes: list[Any], arrays: dict[str, np.ndarray], constants: dict[str, np.ndarray] | None = None) -> None:
    found, expected = both(nodes, arrays, constants)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


def test_it_is_there_where_a_compiler_is():
    assert native_program.is_compiled() or not (shutil.which("cc") or shutil.which("gcc"))


@pytest.mark.parametrize(
    "operator", ["Abs", "Neg", "Exp", "Sigmoid", "Tanh", "Softplus", "Softsign", "Relu", "Reciprocal", "HardSigmoid"]
)
def test_functions_of_one_number_are_right_at_the_ends_and_near_0(operator):
    found, expected = both([node(operator, ["x"], ["y"])], {"x": STRANGE})
    # Relative, since a memory that holds lives of what is left of a small rate.
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-37)


@given(x=st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=40))
def test_functions_of_one_number_are_relatively_right(x):
    values = np.float32(x)
    for operator, truth in (
        ("Tanh", np.tanh),
        ("Softplus", lambda v: np.logaddexp(0, v)),
        ("Exp", np.exp),
        ("Sigmoid", lambda v: 1 / (1 + np.exp(-v))),
    ):
        found, _ = both([node(operator, ["x"], ["y"])], {"x": values})
        np.testing.assert_allclose(found, truth(values.astype(np.float64)), rtol=6e-7, atol=1e-37)


@given(shapes=mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=4), seed=st.integers(0, 99))
def test_whatever_broadcasts_is_walked_through(shapes, seed):
    rng = np.random.default_rng(seed)
    a, b, c = (rng.normal(size=s).astype(np.float32) for s in shapes.input_shapes)
    for operator in ("Add", "Sub", "Mul", "Div", "Max", "Min"):
        same([node(operator, ["a", "b"], ["y"])], {"a": a, "b": b})
    for operator in ("Less", "Equal", "GreaterOrEqual"):
        same([node(operator, ["a", "b"], ["y"])], {"a": np.round(a), "b": np.round(b)})
        whole = {"a": np.round(a).astype(np.int64), "b": np.round(b).astype(np.int64)}
        same([node(operator, ["a", "b"], ["y"])], whole)
    nodes = [node("Less", ["a", "b"], ["t"]), node("Where", ["t", "b", "c"], ["y"])]
    same(nodes, {"a": a, "b": b, "c": c})


@given(
    rows=st.integers(1, 4), k=st.integers(1, 70), n=st.integers(1, 140), transposed=st.booleans(),
    added=st.sampled_from(["nothing", "row", "column", "all", "one"]), seed=st.integers(0, 99),
)  # fmt: skip
def test_products_of_any_size(rows, k, n, transposed, added, seed):
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(rows, k)).astype(np.float32), rng.normal(size=(k, n)).astype(np.float32)
    constants = {"w": w.T.copy() if transposed else w}
    arrays, names = {"x": x}, ["x", "w"]
    if added != "nothing":
        shape = {"row": (n,), "column": (rows, 1), "all": (rows, n), "one": ()}[added]
        arrays["c"] = rng.normal(size=shape).astype(np.float32)
        names.append("c")
    found, expected = both([node("Gemm", names, ["y"], transB=int(transposed), beta=-2.0)], arrays, constants)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_parts_of_arrays_and_turned_ones_are_read_where_they_lie():
    x = np.random.default_rng(0).normal(size=(2, 6, 5)).astype(np.float32)
    turned = [node("Transpose", ["x"], ["t"], perm=[2, 0, 1])]
    same([*turned, node("Tanh", ["t"], ["y"])], {"x": x})
    same([*turned, node("Mul", ["t", "t"], ["y"])], {"x": x})
    same([*turned, node("Concat", ["t", "t"], ["y"], axis=1)], {"x": x})
    cut = [node("Split", ["x", "sizes"], ["a", "b"], axis=2)]
    sizes = {"sizes": np.array([2, 3])}
    same([*cut, node("Sigmoid", ["b"], ["y"])], {"x": x}, sizes)
    same([*cut, node("Concat", ["b", "a", "b"], ["y"], axis=2)], {"x": x}, sizes)
    two = {"x": x[:, :, 0]}
    same([*[node("Split", ["x", "sizes"], ["a", "b"], axis=1)], node("Gemm", ["b", "w"], ["y"])], two,
         {"sizes": np.array([2, 4]), "w": np.ones((4, 3), np.float32)})  # fmt: skip


def test_one_condition_for_all_chooses_between_a_row_and_a_number():
    arrays = {"a": np.float32([[1.0]]), "x": np.float32([[1.0, 2.0, 3.0]]), "zero": np.float32(0.0)}
    for first, second in (("x", "zero"), ("zero", "x")):
        for limit in (0.5, 1.5):
            nodes = [node("Less", ["a", "limit"], ["t"]), node("Where", ["t", first, second], ["y"])]
            same(nodes, arrays, {"limit": np.float32(limit)})


def test_a_column_cut_out_of_a_table():
    x = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    cut = node("Split", ["x", "sizes"], ["a", "b"], axis=1)
    for last in (node("Exp", ["b"], ["y"]), node("Mul", ["b", "b"], ["y"]), node("Mul", ["b", "x"], ["y"])):
        data = model_bytes([cut, last], {"x": x}, ["y"], {"sizes": np.array([4, 1])}, opset=20)
        (found,) = NativeEngine(read(data)).run({"x": x})
        np.testing.assert_allclose(found, NumpyEngine(read(data)).run({"x": x})[0], rtol=1e-6)


@pytest.mark.parametrize("operator", ["ReduceSum", "ReduceMean", "ReduceL1", "ReduceMax"])
def test_reductions_over_axes_side_by_side_and_apart(operator):
    x = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    for axes in ([0], [1], [2], [0, 1], [1, -1], [0, 1, 2]):
        same([node(operator, ["x", "axes"], ["y"])], {"x": x}, {"axes": np.array(axes)})
    data = model_bytes([node(operator, ["x", "axes"], ["y"])], {"x": x}, ["y"], {"axes": np.array([0, 2])}, opset=20)
    (found,) = NativeEngine(read(data)).run({"x": x})
    np.testing.assert_allclose(found, NumpyEngine(read(data)).run({"x": x})[0], rtol=1e-5)


def test_places_count_from_the_end_as_well():
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    for axis in (0, 1, 2):
        same([node("Gather", ["x", "places"], ["y"], axis=axis)], {"x": x}, {"places": np.array([[1, -1], [0, -2]])})


def test_products_of_what_both_change():
    rng = np.random.default_rng(0)
    for left, right in (((3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((2, 7, 3, 4), (2, 7, 4, 5)), ((2, 3, 4), (4, 5))):
        a, b = rng.normal(size=left).astype(np.float32), rng.normal(size=right).astype(np.float32)
        same([node("MatMul", ["a", "b"], ["y"])], {"a": a, "b": b})
    a, b = rng.normal(size=(2, 3, 4)).astype(np.float32), rng.normal(size=(2, 5, 4)).astype(np.float32)
    turned = node("Transpose", ["b"], ["t"], perm=[0, 2, 1])
    same([turned, node("MatMul", ["a", "t"], ["y"])], {"a": a, "b": b})


def test_masked_choices_have_no_share_and_a_nan_is_seen():
    x = np.float32([[1.0, -np.inf, 2.0], [0.0, np.nan, 1.0], [-3e38, -3e38, 3e38]])
    found, expected = both([node("Softmax", ["x"], ["y"])], {"x": x})
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found[0, 1] == 0
    found, expected = both([node("ArgMax", ["x"], ["y"], axis=-1)], {"x": x})
    assert found.tolist() == expected.tolist()
    found, expected = both([node("ReduceMax", ["x", "axes"], ["y"])], {"x": x}, {"axes": np.array([1])})
    np.testing.assert_array_equal(found, expected)


def test_a_bound_keeps_what_is_no_number():
    x = np.float32([[np.nan, -2.0, 0.5, 2.0]])
    for operator in ("Max", "Min"):
        same([node(operator, ["x", "bound"], ["y"])], {"x": x}, {"bound": np.float32([1, 1, np.nan, 1])})


def test_what_is_not_known_numpy_computes_in_between():
    x = np.random.default_rng(0).normal(size=(2, 6)).astype(np.float32)
    nodes = [node("Tanh", ["x"], ["a"]), node("CumSum", ["a", "axis"], ["b"]), node("Exp", ["b"], ["y"])]
    data = model_bytes(nodes, {"x": x}, ["y"], {"axis": np.array(1)})
    engine = NativeEngine(read(data))
    assert not engine.is_whole
    np.testing.assert_allclose(engine.run({"x": x})[0], NumpyEngine(read(data)).run({"x": x})[0], rtol=1e-5)


def test_results_belong_to_the_caller():
    x = np.float32([[1.0, 2.0]])
    engine = NativeEngine(read(model_bytes([node("Exp", ["x"], ["y"])], {"x": x}, ["y"])))
    (first,) = engine.run({"x": x})
    kept = first.copy()
    engine.run({"x": x + 1})
    np.testing.assert_array_equal(first, kept)


def test_the_fastest_engine_that_is_there_is_taken(monkeypatch, tmp_path):
    seeing, package = (parse_package(data, "artifact") for data in (rich_artifact(), tiny_artifact()))
    assert Stream(package).engine == "native"
    assert Stream(seeing).engine == "onnx"  # convolutions
    policy = policy_for("mcsd/PendulumNoVel-v1", {}, PolicyConfig(width=16, layers=1), 0)
    export_policy(policy, tmp_path / "p.mcsd", rate_hz=20.0)
    assert Stream.load(tmp_path / "p.mcsd", batch=2).engine == "native"
    assert Stream.load(write_default_artifact(tmp_path / "d.mcsd", 100.0, 0)).engine == "native"
    assert Stream.load(tmp_path / "p.mcsd", batch=64).engine == "onnx"  # products of matrices
    monkeypatch.setattr(streams, "is_compiled", lambda: False)
    assert Stream(package).engine == "onnx"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert Stream(package).engine == "numpy"
    assert "native" not in streams.engines_here()


def test_compiled_code_of_another_version_is_not_run(monkeypatch):
    make = native_program.library.__wrapped__
    assert make() is not None
    monkeypatch.setattr(native_program, "_VERSION", native_program._VERSION + 1)
    assert make() is None


def test_without_the_compiled_code_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr("mcsd_agent.runtime.onnx_native.is_compiled", lambda: False)
    with pytest.raises(UserError, match=r"engine 'native' was not compiled .* or use engine='onnx' or 'numpy'"):
        Stream(parse_package(rich_artifact(), "artifact"), "native")
