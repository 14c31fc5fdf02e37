"""An artifact for the arm, made without training: it asks for every joint a step further than where it is seen."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save

from mcsd_agent.runtime.artifact_spec import ArtifactSpec
from mcsd_agent.runtime.package import build
from mcsd_agent.spaces import BoxSpec, TextSpec

STEP = 0.05
WORDS = ["go", "to", "the", "red", "ball"]


def arm_artifact() -> bytes:
    """It sees the picture, the joints, the gripper and words; only the joints matter."""
    spec = ArtifactSpec(
        observation={
            "image": BoxSpec((64, 64, 3), "uint8", (0.0,), (255.0,)),
            "joint_positions": BoxSpec((6,), unit="rad"),
            "gripper": BoxSpec((1,), unit="m"),
            "instruction": TextSpec(8),
        },
        action=BoxSpec((6,), low=(-3.0,), high=(3.0,)),
        rate_hz=20.0,
        state_shape=(1, 2),
        vocabulary={"words": WORDS, "max_words": 8},
    )
    kinds = {"image": TensorProto.UINT8, "instruction": TensorProto.INT64}
    inputs = [
        helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), (1, *s.shape))
        for name, s in spec.observation.items()
    ]
    inputs.append(helper.make_tensor_value_info("state", TensorProto.FLOAT, (1, 1, 2)))
    outputs = [
        helper.make_tensor_value_info("action", TensorProto.FLOAT, (1, 6)),
        helper.make_tensor_value_info("next_state", TensorProto.FLOAT, (1, 1, 2)),
    ]
    nodes = [
        helper.make_node("Add", ["joint_positions", "step"], ["action"]),
        helper.make_node("Add", ["state", "one"], ["next_state"]),
    ]
    constants = {"step": np.full((1, 6), STEP, np.float32), "one": np.float32([[[1.0, 0.0]]])}
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "arm", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return build(spec, save({"w": np.ones((1, 1), np.float32)}), bytes(model.SerializeToString()))
