"""The ONNX reader agrees with the onnx package, and refuses everything malformed."""

from __future__ import annotations

import contextlib

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from runtime.onnx_models import model_bytes, node, read, tiny_step

from mcsd_agent.errors import UserError
from mcsd_agent.runtime.onnx_file import DTYPES, Model

STEP = tiny_step()


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.parametrize("raw", [True, False])
def test_constants_of_every_type_are_read_exactly(dtype: np.dtype, raw: bool) -> None:
    values = np.array([[0, 1, 3], [7, 100, 0]]).astype(dtype)
    tensor = numpy_helper.from_array(values, "c")
    if not raw:
        flat = values.view(np.uint16) if dtype == np.float16 else values
        tensor = helper.make_tensor("c", tensor.data_type, values.shape, flat.ravel().tolist(), raw=False)
        if dtype == np.float16:
            tensor.ClearField("int32_data")
            tensor.int32_data.extend(flat.ravel().tolist())
    model = onnx.load_from_string(model_bytes([node("Identity", ["c"], ["y"])], {}, ["y"]))
    model.graph.initializer.append(tensor)
    found = read(model.SerializeToString()).constants["c"]
    assert found.dtype == dtype
    assert found.tolist() == values.tolist()


def test_negative_integers_survive() -> None:
    values = np.array([-1, -(2**62), 5])
    tensor = helper.make_tensor("c", TensorProto.INT64, (3,), values.tolist(), raw=False)
    model = onnx.load_from_string(STEP)
    model.graph.initializer.append(tensor)
    assert read(model.SerializeToString()).constants["c"].tolist() == values.tolist()


def test_attributes_of_every_kind_are_read() -> None:
    made = node(
        "Anything",
        ["x"],
        ["y"],
        zero=0,
        negative=-3,
        number=0.5,
        text="reflect",
        tensor=numpy_helper.from_array(np.float32([1, 2])),
        many=[1, -2],
        floats=[0.5, 1.5],
        texts=["a", "b"],
    )
    (found,) = read(model_bytes([made], {"x": np.zeros(1, np.float32)}, ["y"])).nodes
    tensor = found.attributes.pop("tensor")
    assert tensor.tolist() == [1, 2]
    assert found.attributes == {
        "zero": 0,
        "negative": -3,
        "number": 0.5,
        "text": "reflect",
        "many": (1, -2),
        "floats": (0.5, 1.5),
        "texts": ("a", "b"),
    }


def test_ports_say_name_type_and_shape() -> None:
    model = read(STEP)
    assert [(p.name, p.dtype.name, p.shape) for p in model.inputs] == [
        ("position", "float32", (1, 2)),
        ("action_root", "float32", (1, 1)),
        ("state_root", "float32", (1, 1)),
        ("instruction", "int64", (1, 4)),
        ("state", "float32", (1, 1, 3)),
    ]
    assert model.opset == 20


def test_symbolic_dimensions_are_unknown() -> None:
    port = helper.make_tensor_value_info("y", TensorProto.FLOAT, ("batch", 2))
    data = model_bytes([node("Neg", ["x"], ["y"])], {"x": np.zeros((1, 2), np.float32)}, ["y"], output_ports=[port])
    assert read(data).outputs[0].shape == (None, 2)


def test_weights_outside_the_file_are_refused() -> None:
    """A path in a model must not make the reader open files."""
    model = onnx.load_from_string(STEP)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(UserError, match="outside the model file"):
        read(model.SerializeToString())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.graph.initializer[0].dims.append(7), "holds 1 values where its shape"),
        (lambda m: m.graph.initializer[0].dims.__setitem__(0, -1), "negative dimension"),
        (lambda m: setattr(m.graph.initializer[0], "data_type", TensorProto.STRING), "element type"),
        (lambda m: m.graph.sparse_initializer.add(), "field 15 of a graph is not supported"),
        (lambda m: m.functions.add(name="f"), "field 25 of a model is not supported"),
        (lambda m: m.metadata_props.add(key="ort_config", value="{}"), "field 14 of a model is not supported"),
        (lambda m: m.training_info.add(), "field 20 of a model is not supported"),
        (lambda m: m.opset_import.add(domain="com.microsoft", version=2), r"'com.microsoft' \(version 2\)"),
        (lambda m: m.opset_import.add(domain="ai.onnx.ml", version=1), "'ai.onnx.ml'"),
        (lambda m: m.opset_import.add(domain="", version=21), "two operator sets"),
        (lambda m: m.graph.value_info.add(name="p"), "field 13 of a graph is not supported"),
        (lambda m: m.graph.initializer.append(m.graph.initializer[0]), "comes twice"),
        (lambda m: setattr(m.graph.input[0], "name", m.graph.initializer[0].name), "both an input and a constant"),
        (lambda m: setattr(m.graph.node[0], "overload", "x"), "field 8 of a node is not supported"),
        (lambda m: m.graph.node[0].attribute.add(name="g", type=5).g.SetInParent(), "field 6 of an attribute"),
        (lambda m: m.graph.node[0].attribute.add(name="g", type=10), "type that is not supported"),
        (lambda m: m.graph.node[0].attribute.add(name="r", ref_attr_name="x", type=1), "field 21 of an attribute"),
        (lambda m: m.graph.node[0].attribute.add(name="n", type=1, f=1.0, i=2), "values of several types"),
        (lambda m: m.graph.initializer[0].int32_data.append(1), "values of several types"),
        (lambda m: m.graph.initializer[0].dims.extend([0, 1 << 40, 1 << 40]), "too large"),
        (lambda m: m.ClearField("opset_import"), "no operator set"),
        (lambda m: m.ClearField("graph"), "no graph"),
        (lambda m: m.graph.node[0].ClearField("op_type"), "no operator"),
    ],
)
def test_what_is_unsupported_or_inconsistent_is_named(change, reason: str) -> None:
    model = onnx.load_from_string(STEP)
    change(model)
    with pytest.raises(UserError, match=reason):
        read(model.SerializeToString())


def test_two_graphs_are_refused() -> None:
    """Protocol Buffers would merge them, and another reader see nodes that this one did not."""
    model = onnx.load_from_string(STEP)
    graph = onnx.ModelProto(graph=model.graph).SerializeToString()
    with pytest.raises(UserError, match="field 7 of a model comes twice"):
        read(STEP + graph)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_read_but_never_crash(data: bytes) -> None:
    with pytest.raises(UserError):
        read(data)


@given(st.integers(0, len(STEP) - 1), st.binary(min_size=1, max_size=4), st.integers(0, 4))
def test_damaged_models_are_refused_or_read_but_never_crash(position: int, new: bytes, removed: int) -> None:
    with contextlib.suppress(UserError):
        assert isinstance(read(STEP[:position] + new + STEP[position + removed :]), Model)


@given(st.integers(1, len(STEP) - 1))
def test_models_cut_short_are_refused_or_lack_something(length: int) -> None:
    try:
        model = read(STEP[:length])
    except UserError:
        return
    whole = read(STEP)
    assert (model.nodes, model.outputs, set(model.constants)) != (whole.nodes, whole.outputs, set(whole.constants))
