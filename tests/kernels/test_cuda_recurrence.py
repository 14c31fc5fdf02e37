from __future__ import annotations

import pytest
import torch

from mcsd_agent.kernels import cuda_recurrence
from mcsd_agent.kernels.cuda_recurrence import linear_recurrence
from mcsd_agent.recurrence import sequential_recurrence

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PRECISE = {torch.complex64: torch.complex128}
TOLERANCE = {torch.float32: 1e-6, torch.complex64: 1e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}


def problem(batch, time, dim, dtype, seed=0):
    """Rates with episode starts, inputs, an initial state, and a weight for the result."""
    generator = torch.Generator().manual_seed(seed)
    precise = PRECISE.get(dtype, torch.float64)
    a = torch.rand(batch, time, dim, generator=generator).to(precise)
    if dtype.is_complex:
        a = a * torch.exp(3j * torch.rand(batch, time, dim, generator=generator))
    a = a * (torch.rand(batch, time, 1, generator=generator) > 0.1)
    others = (torch.randn(*shape, generator=generator, dtype=precise) for shape in [(batch, time, dim), (batch, dim)])
    weight = torch.randn(batch, time, dim, generator=generator, dtype=precise)
    return [x.to(dtype).to(DEVICE) for x in (a, *others, weight)]


def value_and_gradients(function, a, b, h0, weight):
    leaves = [x.detach().clone().requires_grad_() for x in (a, b, h0)]
    h = function(leaves[0].expand_as(leaves[1]), *leaves[1:])
    product = h * weight
    (product.real if product.is_complex() else product).sum().backward()
    return [h.detach(), *(x.grad for x in leaves)]


def assert_equals_sequential(inputs):
    dtype = inputs[1].dtype
    precise = PRECISE.get(dtype, torch.float64)
    measured = value_and_gradients(linear_recurrence, *inputs)
    expected = value_and_gradients(sequential_recurrence, *(x.to(precise) for x in inputs))
    for name, x, y in zip(("h", "a", "b", "h0"), measured, expected, strict=True):
        deviation = (x.to(precise) - y).norm() / y.norm().clamp_min(1e-3)
        assert deviation < TOLERANCE[dtype], f"{name}: {deviation:.1e}"


@pytest.mark.parametrize("dtype", cuda_recurrence.DTYPES)
@pytest.mark.parametrize(("batch", "time", "dim"), [(2, 70, 3), (1, 1, 5)])
def test_values_and_gradients_equal_the_sequential_form(batch, time, dim, dtype):
    assert_equals_sequential(problem(batch, time, dim, dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_rates_may_be_an_expanded_view(dtype):
    a, *others = problem(2, 20, 3, dtype)
    assert_equals_sequential([a[:1, :1], *others])
    assert_equals_sequential([a[:, :, :1], *others])


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_chunks_linked_over_several_others_give_the_same(dtype, monkeypatch):
    monkeypatch.setattr(cuda_recurrence, "_REACH_FROM", 1)
    monkeypatch.setattr(cuda_recurrence, "_SEGMENTS", 2)
    monkeypatch.setattr(cuda_recurrence, "_RUN", 2)
    assert_equals_sequential(problem(1, 45, 3, dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_a_zero_rate_forgets_also_what_is_not_finite(dtype):
    a, b, h0, weight = problem(1, 30, 3, dtype)
    a[:, 20] = 0
    clean = value_and_gradients(linear_recurrence, a, b, h0, weight)
    for value in (float("nan"), float("inf"), 1e30):
        poisoned, rates = b.clone(), a.clone()
        poisoned[:, :20] = value
        rates[:, 3] = float("nan")
        found = value_and_gradients(linear_recurrence, rates, poisoned, h0 + value, weight)
        assert torch.equal(found[0][:, 20:], clean[0][:, 20:])
        assert torch.equal(found[1][:, 21:], clean[1][:, 21:])
        assert torch.equal(found[2][:, 20:], clean[2][:, 20:])


def test_second_derivatives_are_refused():
    a, b, h0, _ = (x.requires_grad_() for x in problem(1, 5, 2, torch.float32))
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(linear_recurrence(a, b, h0).sum(), b, create_graph=True)


def test_rates_without_gradient_get_none():
    a, b, h0, _ = problem(1, 5, 2, torch.float32)
    linear_recurrence(a, b.requires_grad_(), h0).sum().backward()
    assert a.grad is None
    assert b.grad is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_the_operator_keeps_the_rules_that_compilation_relies_on(dtype):
    a, b, h0, _ = problem(1, 5, 2, dtype)
    for inputs in ((a, b, h0), (a[:, :1].expand_as(b), b.requires_grad_(), h0)):
        torch.library.opcheck(
            torch.ops.mcsd.linear_recurrence.default,
            inputs,
            test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
        )


def test_an_empty_batch_passes():
    assert linear_recurrence(*(x[:0] for x in problem(2, 5, 3, torch.float32)[:3])).shape == (0, 5, 3)
