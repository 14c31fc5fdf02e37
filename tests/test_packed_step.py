"""The compiled step of a rollout is the step, whatever happens to the weights in between."""

from __future__ import annotations

import copy

import pytest
import torch

from mcsd_agent.backbone import MCSDBackbone
from mcsd_agent.cell import MCSDConfig

pytest.importorskip("numba", reason="without Numba there is one step only")


def assert_packed_step_agrees(net: MCSDBackbone) -> None:
    """Under `no_grad` the compiled step runs, otherwise the one that autograd differentiates."""
    x, state = torch.randn(5, 16), torch.randn(5, 2, net.state_size)
    starts = torch.tensor([False, True, False, False, True])
    expected = net.step(x, state, starts)
    with torch.no_grad():
        assert net._steps_packed(x, state)
        measured = net.step(x, state, starts)
    for a, b in zip(measured, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.fixture
def net() -> MCSDBackbone:
    torch.manual_seed(0)
    return MCSDBackbone(MCSDConfig(width=16, channels=4), 2)


def test_the_packed_step_is_the_step(net):
    assert_packed_step_agrees(net)


@pytest.mark.parametrize("fused", [False, True])  # torch's fused optimisers do not count a weight's version up
@pytest.mark.parametrize("form", ["step", "scan"])
def test_the_packed_step_follows_an_optimiser(net, form, fused):
    optimiser = torch.optim.AdamW(net.parameters(), 0.1, fused=fused)
    shape = (5, 16) if form == "step" else (5, 3, 16)
    for _ in range(3):
        assert_packed_step_agrees(net)
        getattr(net, form)(torch.randn(shape), torch.randn(5, 2, net.state_size))[0].sum().backward()
        optimiser.step()
    assert_packed_step_agrees(net)


def test_the_packed_step_follows_loaded_and_replaced_weights(net):
    assert_packed_step_agrees(net)
    other = MCSDBackbone(net.config, 2)
    net.load_state_dict(other.state_dict())
    assert_packed_step_agrees(net)
    for parameter in net.parameters():
        parameter.data = parameter.data * 1.1
    assert_packed_step_agrees(net)


def test_a_copy_has_a_packed_step_of_its_own(net):
    assert_packed_step_agrees(net)
    twin = copy.deepcopy(net)
    with torch.no_grad():
        twin.cells[0].rate_bias.add_(1.0)
    assert_packed_step_agrees(twin)
    assert_packed_step_agrees(net)


def test_the_packed_step_leaves_its_arguments_alone(net):
    x, state = torch.randn(3, 16), torch.randn(3, 2, net.state_size)
    kept = x.clone(), state.clone()
    with torch.no_grad():
        net.step(x, state, torch.ones(3, dtype=torch.bool))
    assert torch.equal(x, kept[0])
    assert torch.equal(state, kept[1])
