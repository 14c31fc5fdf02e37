"""The step of a policy as an ONNX model: observations and state in, action and state out, for any number of robots.

A policy that predicts success has a third output.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mcsd_agent.backbone import MCSDBackbone
from mcsd_agent.export.fused_step import FusedStep
from mcsd_agent.export.shrink import shrink
from mcsd_agent.export.weights import Kind
from mcsd_agent.policy import Policy
from mcsd_agent.runtime.artifact_spec import ACTION, NEXT_STATE, STATE, SUCCESS, input_dtype
from mcsd_agent.runtime.onnx_batch import BATCH, MAX_BATCH

#: The newest that onnxruntime 1.18 reads but one, and what torch's exporter targets itself.
OPSET = 20


class Step(nn.Module):
    """`policy.act` with tensors in place of the dict."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy
        self.names = tuple(policy.observation_specs)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Observations in the policy's order and the state, to action, next state and, where predicted, success."""
        *observation, state = tensors
        named = dict(zip(self.names, observation, strict=True))
        if self.policy.success_net is None:
            return self.policy.act(named, state)
        action, success, state = self.policy.act_and_judge(named, state)
        return action, state, success


def example_inputs(policy: Policy) -> tuple[Tensor, ...]:
    """Zeros of the shapes and types of a step's inputs, for two robots: from one torch would learn that it is one."""
    specs = policy.observation_specs.values()
    return (*(torch.zeros(2, *s.shape, dtype=_torch_dtype(s)) for s in specs), policy.initial_state(2))


def batch_dimensions(inputs: tuple[Tensor, ...]) -> Any:
    """That the first dimension of each input is the number of robots, as torch.export wants it said."""
    batch = torch.export.Dim(BATCH, min=1, max=MAX_BATCH)
    return (tuple({0: batch} for _ in inputs),)


def _torch_dtype(spec: object) -> torch.dtype:
    return torch.from_numpy(np.zeros(0, input_dtype(spec))).dtype  # type: ignore[arg-type]


def export_step(policy: Policy, kind: Kind = "float32") -> bytes:
    """The ONNX file of `policy`, which is on the CPU, in float32 and in evaluation mode.

    Weights that `rounded(policy, kind)` has rounded are stored as `kind`.
    """
    fused, products = copy.copy(policy), []
    fused._modules = dict(policy._modules)
    for name in ("backbone", "listener"):
        if isinstance(getattr(fused, name), MCSDBackbone):
            step = FusedStep(getattr(fused, name))
            products += step.products
            setattr(fused, name, step)
    results = [ACTION, NEXT_STATE] if policy.success_net is None else [ACTION, NEXT_STATE, SUCCESS]
    names = [*policy.observation_specs, STATE], results
    return shrink(_export(Step(fused), example_inputs(policy), *names), kind, products)


class _BackboneStep(nn.Module):
    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        return self.backbone.step(*tensors)


def export_backbone(backbone: Any, width: int) -> bytes:
    """The ONNX file of a backbone's step alone: `x` `(batch, width)` and `state` to `y` and `next_state`."""
    step = _BackboneStep(FusedStep(backbone) if isinstance(backbone, MCSDBackbone) else backbone)
    inputs = (torch.zeros(2, width), torch.zeros(2, backbone.layers, backbone.state_size))
    return _export(step, inputs, ["x", STATE], ["y", NEXT_STATE])


def _export(step: nn.Module, inputs: tuple[Tensor, ...], input_names: list[str], output_names: list[str]) -> bytes:
    with torch.no_grad(), quiet():
        program = torch.onnx.export(
            step.eval(),
            inputs,
            input_names=input_names,
            output_names=output_names,
            opset_version=OPSET,
            dynamic_shapes=batch_dimensions(inputs),
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    return stripped(program.model_proto)


def stripped(model: Any) -> bytes:
    """The bytes of a `ModelProto` without what is no part of the computation.

    Stack traces and paths of the machine that exported are nobody's business, and most of the file.
    """
    model.ClearField("metadata_props")
    for part in (model.graph, *model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    model.graph.ClearField("value_info")
    return model.SerializeToString(deterministic=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporter prints, warns and logs about itself on every call."""
    loggers = [logging.getLogger(n) for n in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    sink = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
