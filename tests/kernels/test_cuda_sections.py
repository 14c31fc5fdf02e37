from __future__ import annotations

import pytest
import torch

from mcsd_agent.kernels import cuda_sections
from mcsd_agent.kernels.cuda_sections import mix_backward, mix_forward
from mcsd_agent.mixing import Constants, mix_reference

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
KINDS = [(True, True), (True, False), (False, True), (False, False)]  # selective, rotating
LEARNED = ("rate_bias", "decay_rate", "angle", "decay_scale", "norm_weight")


def problem(batch, time, width, channels, selective, rotating, starts=True, dtype=torch.float32, seed=0):
    """Arguments of `mix_forward` up to the constants, and gradients for its results."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator).to(DEVICE)

    def uniform(*shape):
        return torch.rand(*shape, generator=generator).to(DEVICE)

    features = width // 2 if rotating else width
    rate = torch.exp(-4 * uniform(features))
    constants = Constants(
        slope_rate=uniform(width) ** 2,
        rate_bias=normal(width) if selective else None,
        decay_rate=rate,
        angle=3 * normal(features) if rotating else None,
        decay_scale=torch.sqrt(-torch.expm1(-2 * rate)),
        norm_weight=1 + 0.1 * normal(2 * width),
    )
    arguments = (
        normal(batch, time, (5 if selective else 4) * width).to(dtype),
        normal(batch, 2 * width),
        uniform(batch, time) < 0.1 if starts else None,
        None if selective else 1 + uniform(batch, time, channels),
        constants,
    )
    return arguments, (normal(batch, time, 2 * width).to(dtype), normal(batch, 2 * width))


def by_kernels(arguments, outer, channels):
    constants = arguments[4]
    kind = (channels, constants.rate_bias is not None, constants.angle is not None)
    gated, final, saved = mix_forward(*arguments, *kind)
    grads = mix_backward(*outer, *arguments, *kind, saved)
    named = {"gated": gated, "final": final, **grads._asdict()}
    return {name: x for name, x in named.items() if x is not None}


def by_reference(arguments, outer, channels):
    """The same in float64."""

    def leaf(x):
        return None if x is None else x.detach().double().requires_grad_()

    projected, state, starts, normaliser, constants = arguments
    p, s, z, c = leaf(projected), leaf(state), leaf(normaliser), Constants(*map(leaf, constants))
    gated, final = mix_reference(p, s, starts, z, c, channels)
    torch.autograd.backward((gated, final), [x.double() for x in outer])
    learned = {name: getattr(c, name) for name in LEARNED}
    if c.angle is None:  # the plain decay's rates are not learned
        learned = {name: x for name, x in learned.items() if not name.startswith("decay")}
    leaves = {"projected": p, "state": s, "normaliser": z, **learned}
    grads = {name: x.grad for name, x in leaves.items() if x is not None}
    return {"gated": gated.detach(), "final": final.detach(), **grads}


def assert_close(measured, expected, tolerance=2e-6):
    assert measured.keys() == expected.keys()
    for name, x in expected.items():
        assert measured[name].shape == x.shape, name
        deviation = (measured[name].double() - x).norm() / x.norm().clamp_min(1e-9)
        assert deviation < tolerance, f"{name}: {deviation:.1e}"


@pytest.mark.parametrize(("selective", "rotating"), KINDS)
@pytest.mark.parametrize(
    ("batch", "time", "width", "channels"),
    [(1, 70, 8, 2), (2, 1, 4, 2), (1, 16, 12, 2)],
)
def test_values_and_all_gradients_equal_the_reference(batch, time, width, channels, selective, rotating):
    arguments, outer = problem(batch, time, width, channels, selective, rotating)
    assert_close(by_kernels(arguments, outer, channels), by_reference(arguments, outer, channels), 5e-6)


@pytest.mark.parametrize("selective", [True, False])
def test_channels_of_odd_width_and_no_starts(selective):
    arguments, outer = problem(2, 9, 15, 5, selective, False, starts=False)
    assert_close(by_kernels(arguments, outer, 5), by_reference(arguments, outer, 5))


def test_bfloat16_differs_by_its_rounding_only():
    arguments, outer = problem(1, 33, 8, 2, True, True, dtype=torch.bfloat16)
    measured, expected = by_kernels(arguments, outer, 2), by_reference(arguments, outer, 2)
    assert measured["gated"].dtype == measured["projected"].dtype == torch.bfloat16
    rounded = {"gated", "projected"}
    assert_close({k: measured[k] for k in rounded}, {k: expected[k] for k in rounded}, 6e-3)
    assert_close(*({k: x[k] for k in x.keys() - rounded} for x in (measured, expected)), 1e-5)


def test_rows_of_a_larger_tensor_give_the_same():
    arguments, outer = problem(2, 9, 8, 2, True, True)
    wide = torch.randn(4, 12, 48, device=DEVICE)
    wide[::2, :9, :40] = arguments[0]
    view = (wide[::2, :9, :40], *arguments[1:])
    plain = by_kernels(arguments, outer, 2)
    for name, x in by_kernels(view, outer, 2).items():
        assert torch.equal(x, plain[name]), name


@pytest.mark.parametrize(("selective", "rotating"), KINDS)
def test_nothing_leaks_over_an_episode_start(selective, rotating):
    (projected, state, _, normaliser, constants), outer = problem(1, 24, 4, 2, selective, rotating)
    starts = torch.zeros(1, 24, dtype=torch.bool, device=DEVICE)
    starts[:, 18] = True
    clean = by_kernels((projected, state, starts, normaliser, constants), outer, 2)
    poisoned = projected.clone()
    for t, value in enumerate((float("nan"), float("inf"), -float("inf"), 1e30)):
        poisoned[:, t::7] = value
    poisoned[:, 18:] = projected[:, 18:]
    found = by_kernels((poisoned, state * float("nan"), starts, normaliser, constants), outer, 2)
    assert torch.equal(found["gated"][:, 18:], clean["gated"][:, 18:])
    assert torch.equal(found["final"], clean["final"])
    assert torch.equal(found["projected"][:, 18:], clean["projected"][:, 18:])


def test_a_nan_stays_until_the_next_start():
    (projected, state, _, _, constants), _ = problem(1, 24, 4, 2, True, True)
    starts = torch.zeros(1, 24, dtype=torch.bool, device=DEVICE)
    starts[:, 20] = True
    projected[:, 3] = float("nan")
    gated, _, _ = mix_forward(projected, state, starts, None, constants, 2, True, True)
    assert torch.isfinite(gated[:, :3]).all()
    assert torch.isnan(gated[:, 3:20]).all()
    assert torch.isfinite(gated[:, 20:]).all()


@pytest.mark.parametrize(("selective", "rotating"), [(True, True), (False, False)])
def test_chunks_linked_over_several_others_give_the_same(selective, rotating, monkeypatch):
    arguments, outer = problem(1, 25, 8, 2, selective, rotating)
    plan = cuda_sections.tile

    def far(*sizes):
        return plan(*sizes)._replace(segments=2, run=2, reach=4)

    monkeypatch.setattr(cuda_sections, "tile", far)
    assert_close(by_kernels(arguments, outer, 2), by_reference(arguments, outer, 2), 5e-6)


def test_two_parts_equal_the_whole():
    (projected, state, starts, _, constants), _ = problem(1, 40, 4, 2, True, True)
    gated, final, saved = mix_forward(projected, state, starts, None, constants, 2, True, True)
    assert saved.shape == cuda_sections.saved_shape(projected, 4, 2, True)
    first, between, _ = mix_forward(projected[:, :17], state, starts[:, :17], None, constants, 2, True, True)
    second, last, _ = mix_forward(projected[:, 17:], between, starts[:, 17:], None, constants, 2, True, True)
    torch.testing.assert_close(torch.cat([first, second], 1), gated, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(last, final, rtol=1e-5, atol=1e-5)


def test_results_are_the_same_bits_every_time():
    arguments, outer = problem(1, 24, 4, 2, True, True)
    once, again = by_kernels(arguments, outer, 2), by_kernels(arguments, outer, 2)
    assert all(torch.equal(once[name], again[name]) for name in once)


def test_an_empty_batch_passes():
    arguments, outer = problem(0, 5, 8, 2, True, True)
    found = by_kernels(arguments, outer, 2)
    assert found["gated"].shape == (0, 5, 16)
    assert found["projected"].shape == (0, 5, 40)
    assert not found["norm_weight"].any()
