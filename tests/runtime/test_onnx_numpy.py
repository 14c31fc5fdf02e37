"""The numpy engine: whole models, folding, the memo of steady inputs, and refusals."""

from __future__ import annotations

import threading

import numpy as np
import onnxruntime
import pytest
from runtime.onnx_models import model_bytes, node, read, tiny_step

from mcsd_agent.errors import UserError
from mcsd_agent.runtime.onnx_numpy import NumpyEngine

STEP = tiny_step()


def inputs(position: float, ids: list[int], steps: float = 0.0) -> dict[str, np.ndarray]:
    return {
        "position": np.float32([[position, -position]]),
        "action_root": np.float32([[4]]),
        "state_root": np.float32([[4]]),
        "instruction": np.array([ids]),
        "state": np.float32([[[steps, 0, 0]]]),
    }


def test_steady_inputs_change_nothing_but_the_work() -> None:
    plain, memo = NumpyEngine(read(STEP)), NumpyEngine(read(STEP), steady=["instruction"])
    session = onnxruntime.InferenceSession(STEP)
    assert memo.operations < plain.operations
    for position, ids in [(0.5, [0, 0, 1, 2]), (0.25, [0, 0, 1, 2]), (0.25, [2, 2, 2, 2]), (0.5, [0, 0, 1, 2])]:
        given = inputs(position, ids)
        for found, expected in zip(memo.run(given), session.run(None, given), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-6)
        for found, expected in zip(memo.run(given), plain.run(given), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_memo_survives_that_the_caller_reuses_its_array() -> None:
    engine = NumpyEngine(read(STEP), steady=["instruction"])
    given = inputs(0.5, [0, 0, 1, 2])
    first = engine.run(given)[0]
    given["instruction"][...] = 3
    assert engine.run(given)[0][0, 0] == pytest.approx(first[0, 0] + 0.09, abs=1e-6)


def test_outputs_belong_to_the_caller() -> None:
    engine = NumpyEngine(read(model_bytes([node("Identity", ["x"], ["y"])], {"x": np.zeros(3, np.float32)}, ["y"])))
    x = np.float32([1, 2, 3])
    (y,) = engine.run({"x": x})
    y[...] = 0
    assert x.tolist() == [1, 2, 3]


def test_a_run_leaves_nothing_behind() -> None:
    engine = NumpyEngine(read(STEP), steady=["instruction"])
    first = engine.run(inputs(0.5, [0, 0, 1, 2]))
    engine.run(inputs(np.nan, [1, 1, 1, 1]))
    for a, b in zip(first, engine.run(inputs(0.5, [0, 0, 1, 2])), strict=True):
        np.testing.assert_array_equal(a, b)


def test_one_engine_serves_several_threads() -> None:
    engine = NumpyEngine(read(STEP), steady=["instruction"])
    wrong = []

    def work(position: int) -> None:
        # One instruction for all, so that all threads share the memo.
        given = inputs(position, [0, 0, 0, 2])
        for _ in range(500):
            if abs(engine.run(given)[0][0, 0] - position - 0.02) > 1e-5:
                wrong.append(position)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_constant_subgraphs_are_computed_at_load() -> None:
    nodes = [node("Add", ["a", "a"], ["b"]), node("Exp", ["b"], ["c"]), node("Mul", ["x", "c"], ["y"])]
    engine = NumpyEngine(read(model_bytes(nodes, {"x": np.zeros(2, np.float32)}, ["y"], {"a": np.float32([0.5])})))
    assert engine.operations == 1
    np.testing.assert_allclose(
        engine.run({"x": np.float32([1, 2])})[0], np.float32([1, 2]) * np.float32(np.e), rtol=1e-6
    )


def test_saturating_sigmoid_does_not_warn() -> None:
    x = np.float32([-1e4, 0, 1e4])
    engine = NumpyEngine(read(model_bytes([node("Sigmoid", ["x"], ["y"])], {"x": x}, ["y"])))
    with np.errstate(all="raise"):
        assert engine.run({"x": x})[0].tolist() == [0, 0.5, 1]


@pytest.mark.parametrize(
    ("operator", "domain", "message"),
    [
        ("Loop", "", "ONNX operator Loop is not supported by the numpy engine; use engine='onnx'"),
        ("Attention", "com.microsoft", "ONNX operator com.microsoft::Attention is not supported"),
    ],
)
def test_unsupported_operators_are_named(operator: str, domain: str, message: str) -> None:
    x = np.zeros(2, np.float32)
    data = model_bytes([node(operator, ["x"], ["y"], domain=domain)], {"x": x}, ["y"])
    with pytest.raises(UserError) as error:
        NumpyEngine(read(data), "step.onnx")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("opset", [17, 24])
def test_other_operator_sets_are_refused(opset: int) -> None:
    data = model_bytes([node("Neg", ["x"], ["y"])], {"x": np.zeros(2, np.float32)}, ["y"], opset=opset)
    with pytest.raises(UserError, match=f"operator set {opset}.*18 to 23"):
        NumpyEngine(read(data))


def test_values_nobody_computes_are_named() -> None:
    data = model_bytes([node("Neg", ["ghost"], ["y"])], {"x": np.zeros(2, np.float32)}, ["y"])
    with pytest.raises(UserError, match="Neg read 'ghost'"):
        NumpyEngine(read(data))


def test_malformed_nodes_are_named() -> None:
    nodes = [node("Split", ["x"], ["a", "b"], axis=5, num_outputs=2), node("Add", ["a", "b"], ["y"])]
    data = model_bytes(nodes, {}, ["y"], {"x": np.zeros(2, np.float32)})
    with pytest.raises(UserError, match="ONNX operator Split is malformed"):
        NumpyEngine(read(data))
