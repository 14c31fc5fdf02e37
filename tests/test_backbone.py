"""Rules every backbone keeps: one function in two forms, episode starts inside it, a state of fixed size."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mcsd_agent.backbone import MCSDBackbone
from mcsd_agent.cell import MCSDCell, MCSDConfig
from mcsd_agent.controls import MemorylessControl, RecurrentControl
from mcsd_agent.errors import UserError

WIDTH, LAYERS = 16, 2
SWITCHES = ["selective", "rotating", "conv", "block_diagonal"]
CELLS = {
    "-".join(k for k, on in zip(SWITCHES, values, strict=True) if on) or "none": dict(
        zip(SWITCHES, values, strict=True)
    )
    for values in itertools.product([False, True], repeat=4)
}


def make(name: str, dtype: torch.dtype = torch.float64, seed: int = 0):
    torch.manual_seed(seed)
    if name in ("paper", "extended"):
        net: nn.Module = MCSDBackbone(MCSDConfig.preset(name, width=WIDTH, channels=4), LAYERS)
    elif name in CELLS:
        net = MCSDBackbone(MCSDConfig(width=WIDTH, channels=4, **CELLS[name]), LAYERS)
    elif name == "memoryless":
        net = MemorylessControl(WIDTH, LAYERS)
    else:
        net = RecurrentControl({"gru": nn.GRU, "lstm": nn.LSTM}[name], WIDTH, LAYERS)
    with torch.no_grad():  # leave the special point W_r = b = 0
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net.to(dtype)


def inputs(net, time: int, batch: int = 3, seed: int = 0, start_rate: float = 0.1):
    generator = torch.Generator().manual_seed(seed)
    dtype = next(net.parameters()).dtype
    xs = torch.randn(batch, time, WIDTH, generator=generator, dtype=dtype)
    state = torch.randn(batch, net.layers, net.state_size, generator=generator, dtype=dtype)
    if isinstance(net, MCSDBackbone) and not net.config.selective:
        weights = slice(2 * WIDTH, 2 * WIDTH + net.config.channels)
        state[..., weights] = state[..., weights].abs()  # the slope normaliser is a sum of weights
    starts = torch.rand(batch, time, generator=generator) < start_rate
    return xs, state, starts


def by_steps(net, xs, state, starts):
    ys = []
    for t in range(xs.shape[1]):
        y, state = net.step(xs[:, t], state, starts[:, t])
        ys.append(y)
    return torch.stack(ys, 1), state


def outputs_and_gradients(net, run, xs, state, starts):
    net.zero_grad()
    xs, state = xs.clone().requires_grad_(), state.clone().requires_grad_()
    ys, final = run(net, xs, state, starts)
    generator = torch.Generator().manual_seed(5)
    loss = (ys * torch.randn(ys.shape, generator=generator, dtype=ys.dtype)).sum()
    loss = loss + (final * torch.randn(final.shape, generator=generator, dtype=ys.dtype)).sum()
    loss.backward()
    zero = torch.zeros(())
    gradients = [zero if p.grad is None else p.grad.clone() for p in net.parameters()]
    return [ys.detach(), final.detach(), xs.grad, state.grad, *gradients]


def scan(net, xs, state, starts):
    return net.scan(xs, state, starts)


ALL = ["paper", "extended", *CELLS, "gru", "lstm", "memoryless"]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("time", [1, 2, 65])
def test_scan_equals_step_with_all_gradients(name, time):
    net = make(name)
    arguments = inputs(net, time)
    for a, b in zip(
        outputs_and_gradients(net, scan, *arguments), outputs_and_gradients(net, by_steps, *arguments), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["paper", "extended", "conv", "gru", "lstm", "memoryless"])
@pytest.mark.parametrize("time", [63, 64, 100, 1000])
def test_scan_equals_step_at_longer_lengths(name, time):
    net = make(name)
    arguments = inputs(net, time, batch=2, start_rate=0.02)
    with torch.no_grad():
        for a, b in zip(scan(net, *arguments), by_steps(net, *arguments), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["paper", "extended", "selective-rotating-conv"])
def test_scan_equals_step_in_float32(name):
    net = make(name, torch.float32)
    arguments = inputs(net, 100)
    with torch.no_grad():
        for a, b in zip(scan(net, *arguments), by_steps(net, *arguments), strict=True):
            assert (a - b).abs().max() <= 1e-5 * b.abs().max()


@given(name=st.sampled_from(ALL), time=st.integers(2, 40), data=st.data())
def test_a_sequence_may_be_split_anywhere(name, time, data):
    net = make(name)
    split = data.draw(st.integers(1, time - 1))
    xs, state, starts = inputs(net, time, seed=data.draw(st.integers(0, 999)), start_rate=0.2)
    with torch.no_grad():
        ys, final = net.scan(xs, state, starts)
        first, middle = net.scan(xs[:, :split], state, starts[:, :split])
        second, last = net.scan(xs[:, split:], middle, starts[:, split:])
    torch.testing.assert_close(torch.cat([first, second], 1), ys, rtol=0, atol=1e-10)
    torch.testing.assert_close(last, final, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ALL)
def test_an_episode_start_leaves_nothing_of_the_past_and_other_rows_untouched(name):
    net = make(name)
    xs, state, starts = inputs(net, 30, start_rate=0.0)
    undisturbed, _ = net.scan(xs, state, starts)
    starts[0, 12] = True
    ys, final = net.scan(xs, state, starts)
    fresh, fresh_final = net.scan(xs[:1, 12:], torch.zeros_like(state[:1]))
    torch.testing.assert_close(ys[:1, 12:], fresh, rtol=0, atol=1e-12)
    torch.testing.assert_close(final[:1], fresh_final, rtol=0, atol=1e-12)
    torch.testing.assert_close(ys[1:], undisturbed[1:], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["paper", "extended"])
def test_scan_runs_in_float32_under_autocast(name):
    net = make(name, torch.float32)
    xs, state, starts = inputs(net, 20)
    with torch.autocast("cpu", torch.bfloat16):
        ys, final = net.scan(xs, state, starts)
    assert final.dtype == torch.float32
    expected, _ = net.scan(xs, state, starts)
    assert (ys.float() - expected).abs().mean() < 0.05 * expected.abs().mean()


@pytest.mark.parametrize("name", ["paper", "extended"])
def test_gradients_reach_every_parameter(name):
    net = make(name)
    outputs_and_gradients(net, scan, *inputs(net, 20))
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_selective_slope_with_zero_rate_weights_forgets_at_the_fixed_rates():
    config = MCSDConfig(width=8, channels=4, selective=True, rotating=False)
    net = MCSDBackbone(config, 1)
    cell = net.cells[0]
    rate = torch.zeros(1, 8)
    torch.testing.assert_close(cell._slope_weights(rate)[0][0], cell._slope_weights(None)[0])


def test_a_memory_that_holds_keeps_full_precision_in_float32():
    cell = MCSDCell(MCSDConfig(width=8, channels=4))
    rate = torch.linspace(-30.0, 3.0, 200)[:, None].expand(-1, 8)
    slope = cell.log_slope.double().exp().repeat_interleave(2)
    exact = torch.nn.functional.softplus(rate.double()) * slope / math.log(2)
    keep, fresh = cell._slope_weights(rate)
    torch.testing.assert_close(fresh.double(), -torch.expm1(-exact), rtol=1e-5, atol=0)
    torch.testing.assert_close(keep.double(), torch.exp(-exact), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 30, "channels": 8}, "multiple of channels"),
        ({"width": 24, "channels": 8}, "even"),
        ({"horizon": 1}, "horizon"),
        ({"expansion": 0}, "expansion"),
    ],
)
def test_impossible_sizes_are_refused_with_the_value(changes, words):
    with pytest.raises(UserError, match=words):
        MCSDConfig(**changes)


def test_unknown_preset_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'extended'"):
        MCSDConfig.preset("extendd")
