"""An artifact for the Nav robot, made without training: every action tells which tick it belongs to."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save

from mcsd_agent.runtime.artifact_spec import ArtifactSpec
from mcsd_agent.runtime.package import build
from mcsd_agent.spaces import BoxSpec, MultiDiscreteSpec, TextSpec

FIRST, STEP, TURN = 0.1, 1 / 5000, 0.9
VOCABULARY = {"words": ["go", "to", "the", "red", "blue", "ball"], "max_words": 8}


def counting_artifact(done_after: int | None = None, **changes: Any) -> bytes:
    """Action n (from 0) after a reset is `(FIRST + n * STEP, TURN)`; `changes` replace fields of the spec.

    With `done_after` it takes its instruction to be carried out from that n on.
    """
    fields: dict[str, Any] = {
        "observation": {
            "ranges": BoxSpec((31,), low=(0.0,), high=(4.0,), unit="m"),
            "labels": MultiDiscreteSpec((14,) * 31),
            "wheel_velocities": BoxSpec((2,), unit="rad/s"),
            "instruction": TextSpec(VOCABULARY["max_words"]),
        },
        "action": BoxSpec((2,), low=(0.0, -1.0), high=(0.6, 1.0)),
        "rate_hz": 10.0,
        "state_shape": (1, 2),
        "vocabulary": VOCABULARY,
    }
    if done_after is not None:
        fields |= {"predicts_success": True, "format_version": 3}
    spec = ArtifactSpec(**(fields | changes))
    return build(spec, save({"w": np.ones((1, 1), np.float32)}), _step(spec, done_after))


def _step(spec: ArtifactSpec, done_after: int | None) -> bytes:
    f = TensorProto.FLOAT
    kinds = {"ranges": f, "wheel_velocities": f}
    inputs = [
        helper.make_tensor_value_info(name, kinds.get(name, TensorProto.INT64), (1, *s.shape))
        for name, s in spec.observation.items()
    ]
    inputs.append(helper.make_tensor_value_info("state", f, (1, 1, 2)))
    outputs = [
        helper.make_tensor_value_info("action", f, (1, 2)),
        helper.make_tensor_value_info("next_state", f, (1, 1, 2)),
    ]
    constants = {
        "scale": np.float32([[STEP, 0.0]]),
        "offset": np.float32([[FIRST, TURN]]),
        "one": np.float32([[[1.0, 0.0]]]),
        "flat": np.int64([1, 2]),
    }
    nodes = [
        helper.make_node("Reshape", ["state", "flat"], ["memory"]),
        helper.make_node("Mul", ["memory", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["action"]),
        helper.make_node("Add", ["state", "one"], ["next_state"]),
    ]
    if done_after is not None:
        outputs.append(helper.make_tensor_value_info("success", f, (1,)))
        constants |= {"enough": np.float32([done_after - 0.5]), "last": np.int64([1])}
        nodes += [
            helper.make_node("ReduceSum", ["memory", "last"], ["count"], keepdims=0),
            helper.make_node("Sub", ["count", "enough"], ["beyond"]),
            helper.make_node("Sigmoid", ["beyond"], ["success"]),
        ]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "counting", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())
