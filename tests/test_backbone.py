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
from mcsd_agent.controls import (
    MemorylessControl,
    MinGRUControl,
    RecurrentControl,
    StateSpaceControl,
    TransformerControl,
)
from mcsd_agent.errors import UserError
from mcsd_agent.mixing import selective_weights

WIDTH, LAYERS = 16, 2
WINDOW = 9  # of the transformer: sequences are longer, shorter and of several windows
SWITCHES = ["selective", "rotating", "conv", "block_diagonal"]
CELLS = {
    "-".join(k for k, on in zip(SWITCHES, values, strict=True) if on) or "none": dict(
        zip(SWITCHES, values, strict=True)
    )
    for values in itertools.product([False, True], repeat=4)
}
CONTROLS = {
    "gru": lambda width, layers: RecurrentControl(nn.GRU, width, layers),
    "lstm": lambda width, layers: RecurrentControl(nn.LSTM, width, layers),
    "transformer": lambda width, layers: TransformerControl(width, layers, WINDOW, heads=2),
    "ssm": lambda width, layers: StateSpaceControl(width, layers, states=4),
    "mingru": MinGRUControl,
    "memoryless": MemorylessControl,
}
PRESETS = ["paper", "extended"]
MAIN = [*PRESETS, "selective-rotating-conv", *CONTROLS]
ALL = [*PRESETS, *CELLS, *CONTROLS]


def make(name: str, dtype: torch.dtype = torch.float64, seed: int = 0, width: int = WIDTH, layers: int = LAYERS):
    torch.manual_seed(seed)
    if name in PRESETS:
        net: nn.Module = MCSDBackbone(MCSDConfig.preset(name, width=width, channels=4), layers)
    elif name in CELLS:
        net = MCSDBackbone(MCSDConfig(width=width, channels=4, **CELLS[name]), layers)
    else:
        net = CONTROLS[name](width, layers)
    with torch.no_grad():  # leave the special point W_r = b = 0
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net.to(dtype)


def inputs(net, time: int, batch: int = 3, seed: int = 0, start_rate: float = 0.1):
    """Random tokens, a state that the net could be in, and episode starts."""
    generator = torch.Generator().manual_seed(seed)
    parameter = next(net.parameters())
    xs = torch.randn(batch, time, WIDTH, generator=generator, dtype=parameter.dtype)
    state = torch.randn(batch, net.layers, net.state_size, generator=generator, dtype=parameter.dtype)
    if isinstance(net, MCSDBackbone) and not net.config.selective:
        weights = slice(2 * WIDTH, 2 * WIDTH + net.config.channels)
        state[..., weights] = state[..., weights].abs()  # the slope normaliser is a sum of weights
    if isinstance(net, TransformerControl):
        state[..., -1] = torch.randint(0, 2 * WINDOW, (batch, 1), generator=generator)  # tokens seen
    starts = torch.rand(batch, time, generator=generator) < start_rate
    return xs, state, starts


def by_steps(net, xs, state, starts):
    ys = []
    for t in range(xs.shape[1]):
        y, state = net.step(xs[:, t], state, starts[:, t])
        ys.append(y)
    return torch.stack(ys, 1), state


def scan(net, xs, state, starts):
    return net.scan(xs, state, starts)


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


def assert_equal(found, expected, atol=1e-10):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=atol)


def assert_relatively_equal(found, expected, tolerance=1e-5):
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() <= tolerance * b.abs().max()


# --- one function, two forms ----------------------------------------------------------------------


def assert_scan_equals_step_with_all_gradients(name, time, **options):
    net = make(name)
    arguments = inputs(net, time, **options)
    assert_equal(outputs_and_gradients(net, scan, *arguments), outputs_and_gradients(net, by_steps, *arguments))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("time", [1, 2, 65])
def test_scan_equals_step_with_all_gradients(name, time):
    assert_scan_equals_step_with_all_gradients(name, time)


@pytest.mark.parametrize("name", MAIN)
@pytest.mark.parametrize("time", [63, 64, 100])
def test_scan_equals_step_with_all_gradients_around_the_size_of_chunks(name, time):
    assert_scan_equals_step_with_all_gradients(name, time, batch=2, start_rate=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_scan_equals_step_with_all_gradients_over_a_thousand_tokens(name):
    assert_scan_equals_step_with_all_gradients(name, 1000, batch=2, start_rate=0.003)


@pytest.mark.parametrize("name", MAIN)
def test_scan_equals_step_over_a_thousand_tokens(name):
    net = make(name)
    arguments = inputs(net, 1000, batch=2, start_rate=0.003)
    with torch.no_grad():
        assert_equal(scan(net, *arguments), by_steps(net, *arguments))


@pytest.mark.parametrize("name", MAIN)
def test_scan_equals_step_in_float32(name):
    net = make(name, torch.float32)
    arguments = inputs(net, 100)
    with torch.no_grad():
        assert_relatively_equal(scan(net, *arguments), by_steps(net, *arguments))


@pytest.mark.parametrize("name", ALL)
def test_without_episode_starts_scan_equals_step_from_any_state(name):
    net = make(name)
    xs, state, starts = inputs(net, 30, start_rate=0.0)
    for begin in (state, torch.zeros_like(state)):
        with torch.no_grad():
            assert_equal(net.scan(xs, begin), by_steps(net, xs, begin, starts))


@st.composite
def sequences(draw, names):
    """A backbone, a length, a split, and rows of episode starts: rare, frequent, everywhere, in some rows only."""
    name, time, seed = draw(st.sampled_from(names)), draw(st.integers(2, 40)), draw(st.integers(0, 999))
    rows = [draw(st.sets(st.integers(0, time - 1))) for _ in range(2)]
    starts = torch.zeros(2, time, dtype=torch.bool)
    for row, times in enumerate(rows):
        starts[row, list(times)] = True
    return name, time, draw(st.integers(1, time - 1)), seed, starts


@given(sequences(ALL))
def test_scan_equals_step_wherever_episodes_start(drawn):
    name, time, _, seed, starts = drawn
    net = make(name)
    xs, state, _ = inputs(net, time, batch=2, seed=seed)
    with torch.no_grad():
        assert_equal(scan(net, xs, state, starts), by_steps(net, xs, state, starts))


@given(sequences(ALL))
def test_a_sequence_may_be_split_anywhere(drawn):
    name, time, split, seed, starts = drawn
    net = make(name)
    xs, state, _ = inputs(net, time, batch=2, seed=seed)

    def in_two(net, xs, state, starts):
        first, middle = net.scan(xs[:, :split], state, starts[:, :split])
        second, last = net.scan(xs[:, split:], middle, starts[:, split:])
        return torch.cat([first, second], 1), last

    assert_equal(
        outputs_and_gradients(net, in_two, xs, state, starts), outputs_and_gradients(net, scan, xs, state, starts)
    )


# --- episode starts ---------------------------------------------------------------------------------


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


@pytest.mark.parametrize("name", MAIN)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("poison", [math.inf, math.nan, 1e30])
@pytest.mark.parametrize("form", [scan, by_steps])
def test_a_poisoned_past_does_not_pass_an_episode_start(name, dtype, poison, form):
    net = make(name, dtype)
    xs, state, starts = inputs(net, 24, start_rate=0.0)
    starts[0, 13], starts[1, 5] = True, True
    with torch.no_grad():
        expected, expected_final = form(net, xs, state, starts)
        # A ring knows by a count what it holds: that one number stays what it is.
        state[0, :, : net.state_size - 1] = poison
        xs[0, [2, 12]] = poison
        ys, final = form(net, xs, state, starts)
    assert_relatively_equal([ys[0, 13:], ys[1:], final], [expected[0, 13:], expected[1:], expected_final])


# --- precision --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MAIN)
def test_scan_keeps_a_float32_state_under_autocast(name):
    net = make(name, torch.float32)
    xs, state, starts = inputs(net, 20)
    with torch.autocast("cpu", torch.bfloat16):
        ys, final = net.scan(xs, state, starts)
    assert final.dtype == torch.float32
    expected, expected_final = net.scan(xs, state, starts)
    assert (ys.float() - expected).abs().mean() < 0.05 * expected.abs().mean()
    assert (final - expected_final).abs().mean() < 0.05 * expected_final.abs().mean() + 1e-6


@pytest.mark.parametrize("name", MAIN)
def test_gradients_reach_every_parameter(name):
    net = make(name)
    outputs_and_gradients(net, scan, *inputs(net, 20))
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


MILLION = 1_000_000


@pytest.mark.parametrize(
    "name",
    [
        *PRESETS,
        "mingru",
        *(pytest.param(k, marks=pytest.mark.slow) for k in (*CELLS, *CONTROLS) if k not in ("mingru", "memoryless")),
    ],
)
def test_after_a_million_steps_the_state_is_finite_and_both_forms_are_still_one_function(name):
    net = make(name, torch.float32, width=8, layers=1)
    piece = 50_000
    xs = torch.randn(1, MILLION + 100, 8, generator=torch.Generator().manual_seed(0))
    start = torch.zeros(1, 1, net.state_size)
    with torch.no_grad():
        state = start
        for begin in range(0, MILLION, piece):
            ys, state = net.scan(xs[:, begin : begin + piece], state)
            assert torch.isfinite(ys).all()
        assert torch.isfinite(state).all()
        rest = xs[:, MILLION:]
        parallel = net.scan(rest, state)
        never = torch.zeros(rest.shape[:2], dtype=torch.bool)
        assert_relatively_equal(parallel, by_steps(net, rest, state, never))
        whole, whole_final = net.scan(xs, start)
        assert_relatively_equal([whole[:, MILLION:], whole_final], parallel)


# --- the cell's own rules -----------------------------------------------------------------------------


def test_selective_slope_with_zero_rate_weights_forgets_at_the_fixed_rates():
    config = MCSDConfig(width=8, channels=4, selective=True, rotating=False)
    net = MCSDBackbone(config, 1)
    cell = net.cells[0]
    constants = cell.constants()
    keep, _ = selective_weights(torch.zeros(8), constants.slope_rate)
    torch.testing.assert_close(keep, torch.exp(-constants.slope_rate))


def test_a_memory_that_holds_keeps_full_precision_in_float32():
    cell = MCSDCell(MCSDConfig(width=8, channels=4))
    rate = torch.linspace(-30.0, 3.0, 200)[:, None].expand(-1, 8)
    slope = cell.log_slope.double().exp().repeat_interleave(2)
    exact = torch.nn.functional.softplus(rate.double()) * slope / math.log(2)
    keep, fresh = selective_weights(rate, cell.constants().slope_rate)
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


@pytest.mark.parametrize("name", ["paper", "extended", pytest.param("conv", marks=pytest.mark.thorough)])
def test_gradients_equal_finite_differences(name):
    net = make(name)
    xs, state, starts = inputs(net, 5, batch=1, start_rate=0.3)

    def function(xs, state, *parameters):
        return torch.func.functional_call(
            net.cells[0], dict(zip(dict(net.cells[0].named_parameters()), parameters, strict=True)), (xs, state)
        )

    cell = net.cells[0]
    cell.forward = lambda xs, state: cell.scan(xs, state, starts)
    leaves = [x.detach().requires_grad_() for x in (xs, state[:, 0], *cell.parameters())]
    assert torch.autograd.gradcheck(function, leaves)
