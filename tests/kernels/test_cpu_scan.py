"""The scan with one node of autograd computes what torch's own operations do in float64: values and every gradient."""

from __future__ import annotations

import copy
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mcsd_agent.backbone import MCSDBackbone
from mcsd_agent.cell import MCSDConfig

pytest.importorskip("numba", reason="the kernels are optional; without Numba torch's operations run")

from mcsd_agent.kernels import cpu_scan


def backbone(width: int = 16, channels: int = 4, layers: int = 2, **switches: bool) -> MCSDBackbone:
    net = MCSDBackbone(MCSDConfig(width=width, channels=channels, **switches), layers)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net


def values_and_gradients(net, xs, state, starts):
    xs, state = xs.clone().requires_grad_(), state.clone().requires_grad_()
    ys, final = net.scan(xs, state, starts)
    torch.manual_seed(1)
    loss = (ys * torch.randn(ys.shape).to(ys.dtype)).sum() + (final * torch.randn(final.shape).to(ys.dtype)).sum()
    loss.backward()
    named = {name: p.grad for name, p in net.named_parameters()}
    return {"ys": ys.detach(), "final": final.detach(), "xs": xs.grad, "state": state.grad, **named}


@given(
    batch=st.integers(1, 3),
    time=st.integers(1, 70),
    layers=st.integers(1, 3),
    shape=st.sampled_from([(16, 4), (64, 8)]),
    probability=st.sampled_from([None, 0.0, 0.2, 1.0]),
    rows=st.sampled_from([1, 40, 512]),
)
def test_values_and_all_gradients_are_those_of_float64(batch, time, layers, shape, probability, rows):
    """`rows` makes one piece of time of it, or several with the last one shorter."""
    torch.manual_seed(0)
    net = backbone(*shape, layers)
    xs, state = torch.randn(batch, time, shape[0]), torch.randn(batch, layers, net.state_size)
    starts = None if probability is None else torch.rand(batch, time) < probability
    assert net._scans_packed(xs, state)
    with mock.patch.object(cpu_scan, "ROWS_OF_A_PIECE", rows):
        measured = values_and_gradients(net, xs, state, starts)
    expected = values_and_gradients(copy.deepcopy(net).double(), xs.double(), state.double(), starts)
    assert measured.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.isfinite(measured[name]).all(), name
        assert (measured[name].double() - value).norm() <= 2e-5 * max(1.0, value.norm()), name


def test_only_what_wants_a_gradient_gets_one():
    net = backbone()
    xs, state = torch.randn(2, 5, 16), net.cells[0].initial_state(2)[:, None].repeat(1, 2, 1)
    net.requires_grad_(False)
    net.norms[-1].requires_grad_(True)
    net.scan(xs, state)[0].square().sum().backward()
    assert net.norms[-1].weight.grad.abs().max() > 0
    assert xs.grad is None
    assert net.cells[0].project.grad is None


def test_gradients_add_up_over_two_passes():
    net = backbone()
    xs, state = torch.randn(2, 5, 16), torch.zeros(2, 2, net.state_size)
    net.scan(xs, state)[0].square().sum().backward()
    once = net.cells[0].angle.grad.clone()
    net.scan(xs, state)[0].square().sum().backward()
    torch.testing.assert_close(net.cells[0].angle.grad, 2 * once)


def test_an_input_changed_before_the_gradient_is_refused():
    net = backbone()
    xs = torch.randn(2, 5, 16)
    loss = net.scan(xs, torch.zeros(2, 2, net.state_size))[0].square().sum()
    xs.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_second_derivative_is_refused():
    net = backbone()
    xs = torch.randn(1, 4, 16, requires_grad=True)
    ys, _ = net.scan(xs, torch.zeros(1, 2, net.state_size))
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(ys.square().sum(), xs, create_graph=True)


@pytest.mark.parametrize("switches", [{"conv": True}, {"selective": False}, {"rotating": False}])
def test_other_cells_take_the_general_path(switches):
    net = backbone(**switches)
    xs, state = torch.randn(2, 5, 16), torch.zeros(2, 2, net.state_size)
    assert not net._scans_packed(xs, state)
    assert net.scan(xs, state)[0].shape == xs.shape


def test_many_tokens_are_split_over_threads_instead():
    net = backbone(64, 8, 1)
    threads = torch.get_num_threads()
    xs = torch.randn(4, 512, 64)
    state = torch.zeros(4, 1, net.state_size)
    try:
        torch.set_num_threads(2)
        assert not net._scans_packed(xs, state)
        assert net._scans_packed(xs[:1], state[:1])
    finally:
        torch.set_num_threads(threads)
    assert net._scans_packed(xs, state)
