"""The step that is written down for the robot is the backbone's own, whatever the cell's switches."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from mcsd_agent.backbone import MCSDBackbone
from mcsd_agent.cell import MCSDConfig
from mcsd_agent.export.onnx_step import export_backbone
from mcsd_agent.runtime.native_program import is_compiled
from mcsd_agent.runtime.onnx_file import read_model
from mcsd_agent.runtime.onnx_native import NativeEngine
from mcsd_agent.runtime.onnx_numpy import NumpyEngine
from mcsd_agent.runtime.onnx_session import OnnxEngine
from mcsd_agent.runtime.onnx_trial import try_step

SWITCHES = ("selective", "rotating", "conv", "block_diagonal")
#: Any two switches in each of their four combinations.
PAIRWISE = {
    (True, True, False, False),  # the preset `extended`
    (False, False, False, True),  # the preset `paper`
    (True, True, True, True),
    (True, False, True, False),
    (False, True, True, False),
    (False, True, False, True),
    (True, False, False, True),
    (False, False, True, True),
    (False, False, False, False),
}
PRESETS = {(True, True, False, False), (False, False, False, True), (True, True, True, True)}
CASES = [
    pytest.param(*case, marks=() if case in PRESETS else pytest.mark.thorough if case in PAIRWISE else pytest.mark.slow)
    for case in itertools.product((True, False), repeat=4)
]


def backbone(**changes: object) -> MCSDBackbone:
    """Two layers, no parameter of which is where it began."""
    torch.manual_seed(0)
    net = MCSDBackbone(MCSDConfig(width=16, channels=2, **changes), 2).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return net


def largest_deviation(net: MCSDBackbone, batch: int = 1, ticks: int = 60) -> float:
    """Of outputs and states of all engines from torch, each on its own memory; relative to what is larger than 1."""
    step = export_backbone(net, 16)
    model = read_model(step, "the step")
    try_step(model, "the step")
    engines = [OnnxEngine(step, model, "the step", batch), NumpyEngine(model, batch=batch)]
    engines += [NativeEngine(model, batch=batch)] if is_compiled() else []
    memories = [np.zeros((batch, net.layers, net.state_size), np.float32) for _ in engines]
    state, worst = torch.zeros(memories[0].shape), 0.0
    for x in np.random.default_rng(0).standard_normal((ticks, batch, 16), np.float32):
        with torch.no_grad():
            y, state = net.step(torch.from_numpy(x), state)
        for i, engine in enumerate(engines):
            found, memories[i] = engine.run({"x": x, "state": memories[i]})
            for a, b in ((found, y.numpy()), (memories[i], state.numpy())):
                worst = max(worst, float((np.abs(a - b) / np.maximum(1, np.abs(b).max(-1, keepdims=True))).max()))
    return worst


@pytest.mark.parametrize(SWITCHES, CASES)
def test_every_switch_gives_the_same_step_in_both_engines(
    selective: bool, rotating: bool, conv: bool, block_diagonal: bool
) -> None:
    net = backbone(selective=selective, rotating=rotating, conv=conv, block_diagonal=block_diagonal)
    assert largest_deviation(net) < 2e-5
    assert largest_deviation(net, batch=3, ticks=20) < 2e-5


@pytest.mark.parametrize("block_diagonal", [False, True])
def test_a_memory_that_holds_is_as_precise(block_diagonal: bool) -> None:
    """With 1 - exp(-x) as it stands the states would be 4e-4 off, since nearly all of it cancels."""
    net = backbone(block_diagonal=block_diagonal)
    with torch.no_grad():
        for cell, _ in net.paired_layers():
            assert cell.rate_bias is not None
            cell.rate_bias.fill_(-8.0)
            (cell.project[4] if block_diagonal else cell.project[:, -16:]).zero_()
    assert largest_deviation(net) < 2e-5


@pytest.mark.thorough
def test_a_layer_more_is_as_many_operators_more() -> None:
    """Nothing but what the layer itself does: rotating and laying out the memories is done for all at once."""
    counts = []
    for layers in (2, 3):
        net = MCSDBackbone(MCSDConfig(width=16, channels=2), layers)
        counts.append(len(read_model(export_backbone(net, 16), "the step").nodes))
    assert counts == [55, 55 + 24]
