"""What depends on the instruction alone is computed when it changes, and the results are those of the whole step."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper
from runtime.onnx_models import model_bytes, read

from mcsd_agent.runtime.onnx_numpy import NumpyEngine
from mcsd_agent.runtime.onnx_session import OnnxEngine
from mcsd_agent.runtime.onnx_steady import cut

RANDOM = np.random.default_rng(0)
CONSTANTS = {
    "table": RANDOM.standard_normal((5, 3)).astype(np.float32),
    "axis": np.array([1]),
    "weight": RANDOM.standard_normal((3, 3)).astype(np.float32),
    "two": np.float32(2),
}
INPUTS = {"x": np.zeros((1, 3), np.float32), "words": np.zeros((1, 4), np.int64)}


def two_paths() -> bytes:
    """y = (table[words] summed + the batch size) @ weight * (x + 2)."""
    nodes = [
        helper.make_node("Gather", ["table", "words"], ["looked_up"]),
        helper.make_node("ReduceSum", ["looked_up", "axis"], ["code"], keepdims=0),
        helper.make_node("Shape", ["x"], ["shape"], end=1),
        helper.make_node("Cast", ["shape"], ["rows"], to=1),
        helper.make_node("Add", ["x", "two"], ["moved"]),
        helper.make_node("Add", ["code", "rows"], ["counted"]),
        helper.make_node("MatMul", ["counted", "weight"], ["heard"]),
        helper.make_node("Mul", ["heard", "moved"], ["y"]),
    ]
    port = helper.make_tensor_value_info("y", 1, [1, 3])
    return model_bytes(nodes, INPUTS, ["y"], CONSTANTS, output_ports=[port])


def ticks(count: int = 12):
    for i in range(count):
        words = np.array([[1, 2, 3, 4]]) * (i % 3 > 0) * (i < 9) + (i == 5)
        yield {"x": RANDOM.standard_normal((1, 3)).astype(np.float32), "words": words % 5}


def test_results_are_those_of_the_whole_step_whenever_the_text_changes():
    data = two_paths()
    model = read(data)
    whole, parted = OnnxEngine(data, model, "it"), OnnxEngine(data, model, "it", steady=["words"])
    reference = NumpyEngine(model)
    for inputs in ticks():
        (found,) = parted.run(inputs)
        np.testing.assert_allclose(found, whole.run(inputs)[0], rtol=1e-6)
        np.testing.assert_allclose(found, reference.run(inputs)[0], rtol=1e-6)


def test_the_rest_no_longer_reads_the_text(monkeypatch):
    data = two_paths()
    parts = cut(data, read(data), ["words"], "it", 1)
    assert parts is not None
    steady, rest = parts
    onnx.checker.check_model(onnx.load_from_string(rest))
    model = read(rest)
    assert [port.name for port in model.inputs] == ["x", "heard"]
    assert {"Gather", "ReduceSum", "MatMul"}.isdisjoint(node.operator for node in model.nodes)
    # And what was cut off runs when the text changes, not at every tick.
    runs = []
    monkeypatch.setattr(steady._engine, "run", lambda inputs: runs.append(1) or (np.zeros((1, 3), np.float32),))
    changed = [steady.update({"words": np.full((1, 4), n)}) for n in (1, 1, 2, 2, 1)]
    assert changed == [True, False, True, False, True]
    assert len(runs) == 3


def test_without_steady_inputs_a_step_stays_whole():
    data = two_paths()
    assert cut(data, read(data), [], "it", 1) is None


def test_a_size_that_is_read_from_the_text_keeps_nothing_in_the_rest():
    nodes = [
        helper.make_node("Shape", ["words"], ["shape"], end=1),
        helper.make_node("Cast", ["shape"], ["rows"], to=1),
        helper.make_node("Gather", ["table", "words"], ["looked_up"]),
        helper.make_node("ReduceSum", ["looked_up", "axis"], ["code"], keepdims=0),
        helper.make_node("Mul", ["code", "rows"], ["heard"]),
        helper.make_node("Add", ["x", "rows"], ["moved"]),
        helper.make_node("Mul", ["heard", "moved"], ["y"]),
    ]
    port = helper.make_tensor_value_info("y", 1, [1, 3])
    data = model_bytes(nodes, INPUTS, ["y"], CONSTANTS, output_ports=[port])
    parts = cut(data, read(data), ["words"], "it", 1)
    assert parts is not None
    assert "words" not in [port.name for port in read(parts[1]).inputs]
    whole, parted = OnnxEngine(data, read(data), "it"), OnnxEngine(data, read(data), "it", steady=["words"])
    for inputs in ticks():
        np.testing.assert_allclose(parted.run(inputs)[0], whole.run(inputs)[0], rtol=1e-6)


def test_a_step_whose_rest_reads_the_text_itself_stays_whole():
    nodes = [
        helper.make_node("ReduceSum", ["times", "first"], ["total"], keepdims=1),
        helper.make_node("Tile", ["x", "times"], ["y"]),
    ]
    inputs = {"x": np.zeros((1, 3), np.float32), "times": np.ones(2, np.int64)}
    data = model_bytes(nodes, inputs, ["y"], {"first": np.array([0])})
    assert cut(data, read(data), ["times"], "it", 1) is None


def test_a_failed_update_does_not_pass_for_done(monkeypatch):
    data = two_paths()
    parts = cut(data, read(data), ["words"], "it", 1)
    assert parts is not None
    run = parts[0]._engine.run

    def fail(inputs):
        raise MemoryError

    words = {"words": np.array([[1, 2, 3, 4]])}
    monkeypatch.setattr(parts[0]._engine, "run", fail)
    with pytest.raises(MemoryError):
        parts[0].update(words)
    monkeypatch.setattr(parts[0]._engine, "run", run)
    assert parts[0].update(words)
