from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mcsd_agent.recurrence import chunked_recurrence, linear_recurrence, sequential_recurrence

LENGTHS = [1, 2, 63, 64, 65, 100, 1000]


def problem(time: int, dtype: torch.dtype, batch: int = 2, dim: int = 3, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    real = {torch.complex128: torch.float64, torch.complex64: torch.float32}.get(dtype, dtype)
    a = torch.rand(batch, time, dim, generator=generator, dtype=real).to(dtype)
    if dtype.is_complex:
        a = a * torch.exp(3j * torch.rand(batch, time, dim, generator=generator, dtype=real))
    a = a * (torch.rand(batch, time, 1, generator=generator) > 0.1)  # episode starts
    b = torch.randn(batch, time, dim, generator=generator, dtype=dtype)
    h0 = torch.randn(batch, dim, generator=generator, dtype=dtype)
    return a, b, h0


def value_and_gradients(function, inputs):
    leaves = [x.clone().requires_grad_() for x in inputs]
    h = function(*leaves)
    weight = torch.randn(h.shape, dtype=h.dtype, generator=torch.Generator().manual_seed(1))
    (h * weight).sum().abs().backward()
    return [h.detach(), *(x.grad for x in leaves)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("time", LENGTHS)
@pytest.mark.parametrize("chunk", [None, 1, 7, 64])
def test_chunked_equals_sequential_with_all_gradients(time, chunk, dtype):
    inputs = problem(time, dtype)
    expected = value_and_gradients(sequential_recurrence, inputs)
    measured = value_and_gradients(lambda a, b, h0: chunked_recurrence(a, b, h0, chunk), inputs)
    for x, y in zip(measured, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-10)


@given(time=st.integers(1, 40), chunk=st.integers(1, 45), seed=st.integers(0, 999))
def test_any_chunk_length_gives_the_same_result(time, chunk, seed):
    inputs = problem(time, torch.float64, seed=seed)
    torch.testing.assert_close(chunked_recurrence(*inputs, chunk), sequential_recurrence(*inputs), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_gradcheck_passes_also_with_expanded_rates(dtype):
    a, b, h0 = (x.requires_grad_() for x in problem(9, dtype, seed=3))
    assert torch.autograd.gradcheck(lambda a, b, h0: chunked_recurrence(a, b, h0, 4), (a, b, h0))
    shared = a[:1, :1].detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: chunked_recurrence(s, b.detach(), h0.detach(), 4), (shared,))


def test_a_start_gives_the_past_a_weight_of_exactly_zero():
    a, b, h0 = problem(50, torch.float32)
    a[:, 20] = 0.0
    clean = chunked_recurrence(a, b, h0)
    b_poisoned = b.clone()
    b_poisoned[:, :20] = 1e30
    assert torch.equal(chunked_recurrence(a, b_poisoned, h0 + 1e30)[:, 20:], clean[:, 20:])


def test_no_overflow_over_a_million_steps_of_strong_and_weak_decay():
    a = torch.tensor([1e-6, 0.5, 1 - 2**-10, 1.0 - 1e-7]).expand(1, 1_000_000, 4)
    h = chunked_recurrence(a, torch.ones(1, 1_000_000, 4) * 1e-3, torch.full((1, 4), 1e3))
    assert torch.isfinite(h).all()
    assert h[0, -1, 2].item() == pytest.approx(1e-3 * 2**10, rel=1e-3)


def test_second_derivatives_are_refused():
    a, b, h0 = (x.requires_grad_() for x in problem(5, torch.float64))
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(chunked_recurrence(a, b, h0).sum(), b, create_graph=True)


@pytest.mark.parametrize("device", ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
def test_the_entry_for_models_equals_the_sequential_form_on_every_device(dtype, device):
    inputs = problem(100, dtype)
    expected = value_and_gradients(sequential_recurrence, inputs)
    leaves = [x.to(device).requires_grad_() for x in inputs]
    h = linear_recurrence(*leaves)
    weight = torch.randn(h.shape, dtype=dtype, generator=torch.Generator().manual_seed(1)).to(device)
    (h * weight).sum().abs().backward()
    for x, y in zip([h.detach(), *(x.grad for x in leaves)], expected, strict=True):
        torch.testing.assert_close(x.cpu(), y, rtol=0, atol=2e-4)
