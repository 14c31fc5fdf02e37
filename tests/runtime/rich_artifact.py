"""An artifact whose step uses most kinds of operators: an image, a recurrent layer, integers, windows."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper
from runtime.onnx_models import model_bytes, node
from safetensors.numpy import save

from mcsd_agent.runtime.artifact_spec import ArtifactSpec
from mcsd_agent.runtime.package import build
from mcsd_agent.spaces import BoxSpec, DiscreteSpec, MultiDiscreteSpec

_SPEC = ArtifactSpec(
    observation={
        "image": BoxSpec((8, 8, 3), "uint8", (0.0,), (255.0,)),
        "labels": MultiDiscreteSpec((3, 4, 5)),
        "speed": BoxSpec((4,), low=(-1.0,), high=(1.0,), unit="m/s"),
    },
    action=DiscreteSpec(6),
    rate_hz=20.0,
    state_shape=(2, 8),
    policy={"backbone": "none"},
    metadata={"env": "rich"},
    parity={"observations": 0},
)


def rich_artifact() -> bytes:
    """The file; the same bytes each time."""
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> np.ndarray:
        return rng.normal(scale=0.3, size=shape).astype(np.float32)

    nodes = [
        node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        node("Mul", ["planes", "shade"], ["shaded"]),
        node("Pad", ["shaded", "border"], ["padded"], mode="constant"),
        node("Conv", ["padded", "kernel", "kernel_bias"], ["maps"], strides=[2, 2], kernel_shape=[3, 3]),
        node("Relu", ["maps"], ["active"]),
        node("MaxPool", ["active"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["pooled"], ["seen"], axis=1),
        node("Gather", ["words", "labels"], ["embedded"], axis=0),
        node("ReduceMean", ["embedded", "one"], ["meant"], keepdims=0),
        node("Mod", ["labels", "three"], ["remainder"]),
        node("OneHot", ["remainder", "depth", "off_on"], ["hot"], axis=-1),
        node("Reshape", ["hot", "row"], ["hots"]),
        node("Concat", ["seen", "meant", "hots", "speed"], ["all"], axis=1),
        node("Gemm", ["all", "project", "project_bias"], ["token"], transB=1),
        node("QuickGelu", ["token"], ["gated"], domain="com.microsoft", alpha=1.0),
        node("SimplifiedLayerNormalization", ["gated", "scale"], ["simple"], axis=-1, epsilon=1e-6),
        node("LayerNormalization", ["simple", "scale"], ["normal"], axis=-1),
        node("Unsqueeze", ["normal", "zero"], ["sequence"]),
        node("RotaryEmbedding", ["state", "zero", "cos", "sin"], ["turned"], domain="com.microsoft"),
        node("Transpose", ["turned"], ["layers"], perm=[1, 0, 2]),
        node("Split", ["layers"], ["first", "second"], axis=0, num_outputs=2),
        node("GRU", ["sequence", "gru_w", "gru_r", "", "", "first"], ["", "hidden"], hidden_size=8),
        node("Squeeze", ["hidden", "zero"], ["flat_hidden"]),
        node("Add", ["second", "hidden"], ["sum"]),
        node("Tanh", ["sum"], ["bounded"]),
        node("Concat", ["hidden", "bounded"], ["next_layers"], axis=0),
        node("Transpose", ["next_layers"], ["next_state"], perm=[1, 0, 2]),
        node("Einsum", ["flat_hidden", "head"], ["logits"], equation="bi,ij->bj"),
        node("Softmax", ["logits"], ["chances"], axis=-1),
        node("TopK", ["chances", "one"], ["best", "place"]),
        node("Slice", ["place", "zero", "one", "one"], ["cut"]),
        node("ReduceSum", ["cut", "one"], ["action"], keepdims=0),
    ]
    inputs = {
        "image": np.zeros((1, 8, 8, 3), np.uint8),
        "labels": np.zeros((1, 3), np.int64),
        "speed": np.zeros((1, 4), np.float32),
        "state": np.zeros((1, 2, 8), np.float32),
    }
    constants = {
        "shade": np.float32(1 / 255),
        "border": np.int64([0, 0, 1, 1, 0, 0, 1, 1]),
        "kernel": weight(4, 3, 3, 3),
        "kernel_bias": weight(4),
        "words": weight(5, 6),
        "one": np.int64([1]),
        "zero": np.int64([0]),
        "three": np.int64([3]),
        "depth": np.int64([3]),
        "off_on": np.float32([0, 1]),
        "row": np.int64([1, 9]),
        "project": weight(8, 4 * 2 * 2 + 6 + 9 + 4),
        "project_bias": weight(8),
        "scale": np.ones(8, np.float32),
        "cos": np.cos(np.arange(8, dtype=np.float32)).reshape(2, 4),
        "sin": np.sin(np.arange(8, dtype=np.float32)).reshape(2, 4),
        "gru_w": weight(1, 24, 8),
        "gru_r": weight(1, 24, 8),
        "head": weight(8, 6),
    }
    ports = [
        helper.make_tensor_value_info("action", TensorProto.INT64, (1,)),
        helper.make_tensor_value_info("next_state", TensorProto.FLOAT, (1, 2, 8)),
    ]
    model = onnx.load_from_string(model_bytes(nodes, inputs, ["action", "next_state"], constants, output_ports=ports))
    model.opset_import.add(domain="com.microsoft", version=1)
    step = model.SerializeToString()
    weights = {"head": constants["head"], "words": constants["words"], "count": np.int64(3), "half": np.float16([0.5])}
    return build(_SPEC, save({k: np.asarray(v) for k, v in weights.items()}), step)
