"""Small ONNX models and artifacts, built with the onnx package and without torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save

from mcsd_agent.runtime.artifact_spec import ArtifactSpec
from mcsd_agent.runtime.onnx_file import Model, read_model
from mcsd_agent.runtime.package import build
from mcsd_agent.spaces import BoxSpec, TextSpec

VOCABULARY = {"words": ["go", "left", "right"], "max_words": 4}


def model_bytes(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, np.ndarray],
    outputs: Sequence[str],
    constants: dict[str, np.ndarray] | None = None,
    opset: int = 20,
    output_ports: Sequence[onnx.ValueInfoProto] = (),
    opsets: dict[str, int] | None = None,
) -> bytes:
    ports = [
        helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for k, v in inputs.items()
    ]
    # Only the shapes of a finished artifact must be declared; elsewhere the runtime works them out.
    results = list(output_ports) or [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs]
    initializers = [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "g", ports, results, initializers)
    imports = [helper.make_opsetid(domain, version) for domain, version in {"": opset, **(opsets or {})}.items()]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    return model.SerializeToString()


def read(data: bytes) -> Model:
    return read_model(data, "test model")


def infer_outputs(data: bytes) -> bytes:
    """The model with the element types of its outputs filled in."""
    model = onnx.load_from_string(data)
    names = [o.name for o in model.graph.output]
    del model.graph.output[:]
    inferred = onnx.shape_inference.infer_shapes(
        _with_outputs(model, names), check_type=True, strict_mode=True, data_prop=True
    )
    known = {v.name: v for v in [*inferred.graph.value_info, *inferred.graph.output]}
    del model.graph.output[:]
    model.graph.output.extend(known[n] for n in names)
    return model.SerializeToString()


def _with_outputs(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names)
    return copy


def node(operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, list(inputs), list(outputs), **attributes)


def tiny_spec(**changes: Any) -> ArtifactSpec:
    fields: dict[str, Any] = {
        "observation": {
            "position": BoxSpec((2,)),
            "action_root": BoxSpec((1,)),
            "state_root": BoxSpec((1,)),
            "instruction": TextSpec(4),
        },
        "action": BoxSpec((2,), low=(-1.0, -2.0), high=(1.0, 2.0)),
        "rate_hz": 10.0,
        "state_shape": (1, 3),
        "vocabulary": VOCABULARY,
        "policy": {},
        "metadata": {"env": "tiny"},
        "parity": {"observations": 1, "max_action_deviation": 0.0, "max_state_deviation": 0.0},
    }
    return ArtifactSpec(**(fields | changes))


def tiny_step() -> bytes:
    """A policy that tests can steer by its observations.

    action      position + sum of word ids / 100 + state[0] / 1000, NaN where action_root is negative
    next_state  [state[0] + 1, position], NaN where state_root is negative
    """
    f = TensorProto.FLOAT
    nodes = [
        node("Sqrt", ["action_root"], ["a"]),
        node("Mul", ["a", "zero"], ["a0"]),
        node("Sqrt", ["state_root"], ["s"]),
        node("Mul", ["s", "zero"], ["s0"]),
        node("Cast", ["instruction"], ["ids"], to=f),
        node("ReduceSum", ["ids", "last"], ["said"], keepdims=1),
        node("Mul", ["said", "hundredth"], ["word"]),
        node("Reshape", ["state", "flat"], ["memory"]),
        node("Gather", ["memory", "first"], ["steps"], axis=1),
        node("Mul", ["steps", "thousandth"], ["step"]),
        node("Add", ["position", "word"], ["p"]),
        node("Add", ["p", "step"], ["q"]),
        node("Add", ["q", "a0"], ["action"]),
        node("Add", ["steps", "one"], ["counted"]),
        node("Concat", ["counted", "position"], ["next"], axis=1),
        node("Add", ["next", "s0"], ["sum"]),
        node("Reshape", ["sum", "state_shape"], ["next_state"]),
    ]
    inputs = {
        "position": np.zeros((1, 2), np.float32),
        "action_root": np.zeros((1, 1), np.float32),
        "state_root": np.zeros((1, 1), np.float32),
        "instruction": np.zeros((1, 4), np.int64),
        "state": np.zeros((1, 1, 3), np.float32),
    }
    constants = {
        "zero": np.float32([0]),
        "one": np.float32([1]),
        "hundredth": np.float32([0.01]),
        "thousandth": np.float32([0.001]),
        "last": np.int64([-1]),
        "first": np.int64([0]),
        "flat": np.int64([1, 3]),
        "state_shape": np.int64([1, 1, 3]),
    }
    ports = [
        helper.make_tensor_value_info("action", f, (1, 2)),
        helper.make_tensor_value_info("next_state", f, (1, 1, 3)),
    ]
    return model_bytes(nodes, inputs, ["action", "next_state"], constants, output_ports=ports)


def tiny_artifact(**changes: Any) -> bytes:
    return build(tiny_spec(**changes), save({"w": np.ones((2, 3), np.float32)}), tiny_step())


def judging_artifact(**changes: Any) -> bytes:
    """The tiny policy, which takes the first number of `position` for how likely its instruction is carried out."""
    model = onnx.load_from_string(tiny_step())
    model.graph.node.append(node("Gather", ["position", "column"], ["success"], axis=1))
    model.graph.initializer.append(numpy_helper.from_array(np.int64(0), "column"))
    model.graph.output.append(helper.make_tensor_value_info("success", TensorProto.FLOAT, (1,)))
    spec = tiny_spec(**{"predicts_success": True, "format_version": 3, **changes})
    return build(spec, save({"w": np.ones((1, 1), np.float32)}), model.SerializeToString())
