"""The compiled kernels compute what torch's own operations do in float64: values and every gradient."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mcsd_agent.backbone import MCSDBackbone
from mcsd_agent.cell import MCSDConfig
from mcsd_agent.kernels import operators, row_operators
from mcsd_agent.kernels.cpu_recurrence import linear_recurrence
from mcsd_agent.mixing import Constants, mix_reference
from mcsd_agent.recurrence import sequential_recurrence

pytest.importorskip("numba", reason="the kernels are optional; without Numba torch's operations run")


def problem(selective: bool, rotating: bool, batch: int, time: int, channels: int, half: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    width = channels * 2 * half
    rates = width // 2 if rotating else width
    constants = Constants(
        slope_rate=normal(width).abs(),
        rate_bias=normal(width) if selective else None,
        decay_rate=normal(rates).abs(),
        angle=normal(rates) if rotating else None,
        decay_scale=normal(rates).abs(),
        norm_weight=1 + 0.3 * normal(2 * width),
    )
    projected = normal(batch, time, (5 if selective else 4) * width)
    starts = torch.rand(batch, time, generator=generator) < 0.1
    normaliser = None if selective else 1.0 + normal(batch, time, channels).abs()
    return projected, normal(batch, 2 * width), starts, normaliser, constants, channels


def learned(constants: Constants) -> list[str]:
    """Names of the vectors that have a gradient: predefined rates have none."""
    fixed = {"slope_rate"} if constants.angle is not None else {"slope_rate", "decay_rate", "decay_scale"}
    return [n for n in constants._fields if n not in fixed and getattr(constants, n) is not None]


def values_and_gradients(function, dtype, projected, state, starts, normaliser, constants, channels):
    def leaf(x):
        return None if x is None else x.to(dtype, copy=True).requires_grad_()

    projected, state, normaliser = leaf(projected), leaf(state), leaf(normaliser)
    constants = Constants(*map(leaf, constants))
    gated, final = function(projected, state, starts, normaliser, constants, channels)
    generator = torch.Generator().manual_seed(1)
    loss = (gated * torch.randn(gated.shape, generator=generator).to(dtype)).sum()
    (loss + (final * torch.randn(final.shape, generator=generator).to(dtype)).sum()).backward()
    named = {"gated": gated, "final": final, "projected": projected.grad, "state": state.grad}
    if normaliser is not None:
        named["normaliser"] = normaliser.grad
    named |= {n: getattr(constants, n).grad for n in learned(constants)}
    return {k: v.detach().double() for k, v in named.items()}


def assert_alike(measured, expected, tolerance=1e-5):
    assert measured.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.isfinite(measured[name]).all(), name
        # The norm makes a history's scale irrelevant: gradients along it cancel to almost nothing, hence the 1.
        assert (measured[name] - value).norm() <= tolerance * max(1.0, value.norm()), name


@given(
    switches=st.tuples(st.booleans(), st.booleans()),
    batch=st.integers(1, 3),
    time=st.integers(1, 100),
    channels=st.integers(1, 4),
    half=st.sampled_from([1, 2, 3, 5, 7, 8]),  # the last one is compiled with its number known
    seed=st.integers(0, 999),
)
def test_fused_sections_equal_the_reference_with_all_gradients(switches, batch, time, channels, half, seed):
    arguments = problem(*switches, batch, time, channels, half, seed)
    assert operators.fused(arguments[0])
    expected = values_and_gradients(mix_reference, torch.float64, *arguments)
    measured = values_and_gradients(operators.mix, torch.float32, *arguments)
    assert_alike(measured, expected)


@pytest.mark.parametrize("switches", itertools.product([False, True], repeat=2))
def test_nothing_leaks_across_an_episode_start_not_even_what_is_not_finite(switches):
    projected, state, starts, normaliser, constants, channels = problem(*switches, 2, 80, 2, 4)
    starts[:, 50] = True
    clean, final = operators.mix(projected, state, starts, normaliser, constants, channels)
    poisoned = projected.clone()
    poisoned[:, :50] = torch.inf
    dirty, dirty_final = operators.mix(poisoned, state * torch.nan, starts, normaliser, constants, channels)
    assert torch.equal(dirty[:, 50:], clean[:, 50:])
    assert torch.equal(dirty_final, final)


@pytest.mark.parametrize("switches", itertools.product([False, True], repeat=2))
def test_what_is_not_a_number_shows_in_the_output(switches):
    projected, state, _, normaliser, constants, channels = problem(*switches, 1, 40, 2, 4)
    projected[0, 10] = torch.nan
    gated, _ = operators.mix(projected, state, None, normaliser, constants, channels)
    assert torch.isfinite(gated[0, :10]).all()
    assert torch.isnan(gated[0, 10:]).all()


def test_threads_share_a_batch_without_changing_the_result():
    arguments = problem(True, True, 8, 400, 4, 16)
    one = values_and_gradients(operators.mix, torch.float32, *arguments)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        three = values_and_gradients(operators.mix, torch.float32, *arguments)
    finally:
        torch.set_num_threads(before)
    assert_alike(three, one, 5e-6)
    assert torch.equal(three["gated"], one["gated"])


@pytest.mark.parametrize("shape", [(1, 1), (3, 5, 7), (400, 6, 64)])
def test_rows_equal_torch_with_all_gradients(shape):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(*shape, generator=generator), torch.randn(*shape, generator=generator)
    weight = torch.rand(shape[-1], generator=generator)
    pair = torch.randn(*shape[:-1], 2 * shape[-1], generator=generator)

    def run(dtype):
        leaves = [v.to(dtype, copy=True).requires_grad_() for v in (x, y, weight, pair)]
        a, b, w, h = leaves
        total, (normed, scale) = row_operators.add_norm_before_product(a, b, w, 1e-6)
        assert scale is None
        again = row_operators.norm(normed, w, 1e-6)
        last = row_operators.norm_of_sum(total, again, w, 1e-6)
        out = row_operators.gated(h)
        (total.sin() + normed.cos() + again.sin() + last.cos()).sum().backward()
        out.sin().sum().backward()
        results = [total, normed, again, last, out, *(p.grad for p in leaves)]
        return dict(enumerate(v.detach().double() for v in results))

    assert_alike(run(torch.float32), run(torch.float64), 3e-6)


def test_elementary_functions_are_precise_over_the_whole_range():
    from numba import njit

    from mcsd_agent.kernels import cpu_math

    x = np.concatenate([np.linspace(-90, 90, 20001), np.logspace(-8, 1, 2000), -np.logspace(-8, 1, 2000)])
    x = x.astype(np.float32)
    cases = {
        "exp_negative": (x[(x <= 0) & (x > -87)], np.exp),
        "sigmoid": (x[x > -87], lambda v: 1 / (1 + np.exp(-v))),
        "softplus": (x[x > -87], lambda v: np.logaddexp(0, v)),
        "one_minus_exp_negative": (x[x >= 0], lambda v: -np.expm1(-v)),
    }
    for name, (inputs, reference) in cases.items():
        function = getattr(cpu_math, name)
        loop = njit(lambda v, f=function: np.array([f(a) for a in v]))
        expected = reference(inputs.astype(np.float64))
        assert np.max(np.abs(loop(inputs) - expected) / np.maximum(expected, 1e-37)) < 1e-6, name
        assert np.isnan(loop(np.array([np.nan], np.float32)))[0], name


@pytest.mark.parametrize("preset", ["paper", "extended"])
def test_a_compiled_graph_holds_the_operators_and_agrees(preset):
    torch.manual_seed(0)
    net = MCSDBackbone(MCSDConfig.preset(preset, width=16, channels=4), 1)
    xs, state = torch.randn(2, 20, 16), torch.zeros(2, 1, net.state_size)
    starts = torch.rand(2, 20) < 0.1
    graph = torch.compile(net.scan, backend="aot_eager", fullgraph=True)

    def run(scan):
        leaf = xs.clone().requires_grad_()
        ys, final = scan(leaf, state, starts)
        (ys.sin().sum() + final.sum()).backward()
        return ys, final, leaf.grad

    for a, b in zip(run(graph), run(net.scan), strict=True):
        torch.testing.assert_close(a, b)


def test_second_derivatives_are_refused_clearly():
    projected, state, starts, normaliser, constants, channels = problem(True, True, 1, 5, 2, 2)
    projected.requires_grad_()
    gated, _ = operators.mix(projected, state, starts, normaliser, constants, channels)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(gated.sum(), projected, create_graph=True)


@pytest.mark.parametrize("switches", [(True, True), (False, False)])
def test_every_operator_keeps_the_rules_of_torch(switches):
    projected, state, starts, normaliser, constants, channels = problem(*switches, 2, 40, 2, 4)
    inputs = (projected, starts, normaliser, *constants, channels)
    torch.library.opcheck(torch.ops.mcsd.mix_forward, (state, *inputs))
    gated, final, saved = torch.ops.mcsd.mix_forward(state, *inputs)
    torch.library.opcheck(torch.ops.mcsd.mix_backward, (gated, final, saved, state, *inputs))


@given(
    batch=st.integers(1, 3),
    time=st.integers(1, 100),
    dim=st.integers(1, 40),
    shared=st.booleans(),
    seed=st.integers(0, 999),
)
def test_the_recurrence_equals_the_sequential_loop_with_all_gradients(batch, time, dim, shared, seed):
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(1 if shared else batch, 1 if shared else time, dim, generator=generator)
    a = a * (torch.rand(a.shape, generator=generator) > 0.1)
    b, h0 = torch.randn(batch, time, dim, generator=generator), torch.randn(batch, dim, generator=generator)

    def run(function, dtype):
        leaves = [x.to(dtype, copy=True).requires_grad_() for x in (a, b, h0)]
        h = function(leaves[0].expand(batch, time, dim), *leaves[1:])
        (h * torch.linspace(0.5, 2, dim, dtype=dtype)).cos().sum().backward()
        return dict(enumerate(x.detach().double() for x in [h, *(leaf.grad for leaf in leaves)]))

    assert_alike(run(linear_recurrence, torch.float32), run(sequential_recurrence, torch.float64))


def test_the_recurrence_lets_nothing_past_a_zero():
    a, b, h0 = torch.rand(2, 30, 3), torch.randn(2, 30, 3), torch.randn(2, 3)
    a[:, 20] = 0.0
    clean = linear_recurrence(a, b, h0)
    b[:, :20] = torch.inf
    assert torch.equal(linear_recurrence(a, b, h0 * torch.nan)[:, 20:], clean[:, 20:])
