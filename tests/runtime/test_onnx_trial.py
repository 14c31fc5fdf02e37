"""What a step may ask for is known before any engine gets it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from runtime.onnx_models import model_bytes, node, read, tiny_step
from runtime.rich_artifact import rich_artifact

from mcsd_agent.errors import UserError
from mcsd_agent.runtime.onnx_operators import FACTORIES
from mcsd_agent.runtime.onnx_sizes import _BY_NAME
from mcsd_agent.runtime.onnx_trial import try_step
from mcsd_agent.runtime.package import parse_package

HUGE = np.int64([1 << 40])
FLOATS = np.zeros((1, 4), np.float32)
INTEGERS = np.zeros((1, 4), np.int64)


def model(nodes: list[Any], constants: dict[str, np.ndarray], shape: tuple[int, ...] = (1, 4), opset: int = 20) -> Any:
    port = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    inputs = {"x": FLOATS, "i": INTEGERS}
    return read(model_bytes(nodes, inputs, ["y"], constants, opset=opset, output_ports=[port]))


def refusal(nodes: list[Any], constants: dict[str, np.ndarray] | None = None, **options: Any) -> str:
    with pytest.raises(UserError) as error:
        try_step(model(nodes, constants or {}, **options), "the step")
    return str(error.value)


def test_every_operator_has_a_bound() -> None:
    assert sorted({name.rpartition(":")[2] for name in FACTORIES} - set(_BY_NAME)) == []


def test_honest_steps_pass() -> None:
    try_step(read(tiny_step()), "tiny")
    parse_package(rich_artifact(), "rich")


@pytest.mark.parametrize(
    "made",
    [
        node("ConstantOfShape", ["huge"], ["y"]),
        node("Expand", ["column", "huges"], ["y"]),
        node("Tile", ["x", "huges"], ["y"]),
        node("OneHot", ["i", "huge", "pair"], ["y"]),
        node("Range", ["zero", "far", "step"], ["y"]),
        node("Pad", ["x", "pads"], ["y"]),
        node("MatMul", ["column", "row"], ["y"]),
        node("Add", ["column", "row"], ["y"]),
        node("Einsum", ["column", "row"], ["y"], equation="ij,kl->ijkl"),
    ],
    ids=lambda n: n.op_type,
)
def test_what_would_not_fit_into_memory_is_refused_before_it_is_made(made: Any) -> None:
    constants = {
        "huge": HUGE,
        "huges": np.int64([1, 1 << 40]),
        "pair": np.float32([0, 1]),
        "zero": np.float32(0),
        "far": np.float32(1e12),
        "step": np.float32(1),
        "pads": np.int64([0, 0, 0, 1 << 40]),
        "column": np.zeros((1 << 14, 1), np.float32),
        "row": np.zeros((1, 1 << 14), np.float32),
    }
    assert "it makes" in refusal([made], constants)


def test_chain_that_grows_is_refused() -> None:
    nodes = [node("Concat", [f"a{i}"] * 9, [f"a{i + 1}"], axis=1) for i in range(1, 20)]
    nodes = [node("Identity", ["x"], ["a1"]), *nodes, node("Neg", ["a20"], ["y"])]
    assert "Concat is malformed (it makes" in refusal(nodes)


def test_work_of_all_operations_is_bounded() -> None:
    square = np.zeros((1024, 1024), np.float32)
    nodes = [node("MatMul", [f"a{i}", "square"], [f"a{i + 1}"]) for i in range(8)]
    assert "more than 4e+09 operations" in refusal(nodes, {"a0": square, "square": square})


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([node("Loop", ["n", "", "x"], ["y"])], "Loop is not supported"),
        ([node("Add", ["x", "x"], ["y"], domain="com.microsoft")], "com.microsoft::Add is not supported"),
        ([node("NonZero", ["x"], ["y"])], "NonZero is not supported"),
        ([node("Neg", ["nowhere"], ["y"])], "'nowhere'"),
        ([node("Neg", ["x"], ["y"]), node("Abs", ["x"], ["y"])], "computed twice"),
        ([node("Neg", ["x"], ["x"])], "computed twice"),
        ([node("Neg", ["x"], ["z"])], "output 'y' is computed by no node"),
        ([node("Reshape", ["x", "i"], ["y"])], "Reshape whose input 1 is computed at run time"),
        ([node("Mod", ["i", "i"], ["m"]), node("Neg", ["x"], ["y"])], "divided by what may be 0"),
        ([node("Div", ["i", "none"], ["m"]), node("Neg", ["x"], ["y"])], "divided by what may be 0"),
        ([node("Cast", ["x"], ["y"], to=TensorProto.DOUBLE)], "computed as float64"),
        ([node("Neg", ["x"], ["y"], surplus=1)], "attribute 'surplus'"),
    ],
)
def test_what_cannot_or_must_not_run_is_named(nodes: list[Any], reason: str) -> None:
    message = refusal(nodes, {"none": np.int64([0]), "n": np.int64([9])})
    assert reason in message
    assert message.startswith("the step")


def test_range_over_an_observation_is_refused() -> None:
    """Its length would be whatever a sensor says."""
    nodes = [node("Range", ["zero", "i", "one"], ["r"]), node("Neg", ["x"], ["y"])]
    assert "length is computed at run time" in refusal(nodes, {"zero": np.int64(0), "one": np.int64(1)})


@pytest.mark.parametrize("opset", [17, 99])
def test_operator_sets_that_are_not_known_are_refused(opset: int) -> None:
    assert f"operator set {opset}" in refusal([node("Neg", ["x"], ["y"])], opset=opset)


def test_declared_shape_must_be_the_computed_one() -> None:
    assert "declared float32 (1, 5) and computed as float32 (1, 4)" in refusal(
        [node("Neg", ["x"], ["y"])], shape=(1, 5)
    )


def open_model(nodes: list[Any], constants: dict[str, np.ndarray], columns: int | str) -> Any:
    """For any number of robots: `x` is (robots, 4), `y` (robots, columns)."""
    port = helper.make_tensor_value_info("y", TensorProto.FLOAT, ("batch", columns))
    made = onnx.load_from_string(model_bytes(nodes, {"x": FLOATS}, ["y"], constants, output_ports=[port]))
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    return read(made.SerializeToString())


def test_step_for_any_number_of_robots_passes() -> None:
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Add", ["h", "b"], ["y"])]
    try_step(open_model(nodes, {"w": np.ones((4, 3), np.float32), "b": np.ones(3, np.float32)}, 3), "the step")


def test_work_that_grows_with_the_square_of_robots_is_refused() -> None:
    """It is nothing for one robot, and all the memory for four thousand."""
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0]),
        node("MatMul", ["x", "t"], ["square"]),
        node("ReduceSum", ["square", "last"], ["y"], keepdims=1),
    ]
    with pytest.raises(UserError, match="does not grow with their number"):
        try_step(open_model(nodes, {"last": np.int64([1])}, 1), "the step")


def test_step_that_fits_one_robot_only_is_refused_for_any_number() -> None:
    nodes = [node("Reshape", ["x", "one"], ["y"])]
    with pytest.raises(UserError, match="Reshape is malformed"):
        try_step(open_model(nodes, {"one": np.int64([1, 4])}, 4), "the step")
