"""The MLP in chunks is the MLP: values and every gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mcsd_agent.kernels import cuda_mlp

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def problem(tokens, width, expansion, dtype):
    """x, both weights, and a gradient of the result."""
    generator = torch.Generator().manual_seed(0)
    shapes = (tokens, width), (2 * expansion * width, width), (width, expansion * width), (tokens, width)
    return [(torch.randn(*s, generator=generator) / s[1] ** 0.5).to(DEVICE, dtype) for s in shapes]


def assert_close(x, y, tolerance):
    deviation = (x.double() - y).norm() / y.norm().clamp_min(1e-9)
    assert deviation < tolerance, f"{deviation:.1e}"


@pytest.mark.parametrize(("tokens", "chunk"), [(21, 8), (16, 8), (5, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_and_gradients_equal_torchs(tokens, chunk, dtype, monkeypatch):
    monkeypatch.setattr(cuda_mlp, "_TOKENS", chunk)
    x, inward, outward, grad = problem(tokens, 12, 2, dtype)
    y, h = cuda_mlp.forward(x, inward, outward)
    before = grad.clone(), h.clone()
    measured = cuda_mlp.backward(grad, x, h, inward, outward, torch.float32)
    assert torch.equal(grad, before[0])
    assert torch.equal(h, before[1])
    leaves = [v.double().requires_grad_() for v in (x, inward, outward)]
    gate, value = F.linear(leaves[0], leaves[1]).chunk(2, -1)
    expected = F.linear(F.silu(gate) * value, leaves[2])
    expected.backward(grad.double())
    rounding = 1e-2 if dtype is torch.bfloat16 else 1e-6
    assert_close(y, expected.detach(), rounding)
    for found, leaf in zip(measured, leaves, strict=True):
        assert_close(found, leaf.grad, rounding)
    assert [v.dtype for v in measured] == [dtype, torch.float32, torch.float32]


def test_weights_that_do_not_learn_take_no_products():
    x, inward, outward, grad = problem(7, 6, 1, torch.float32)
    _, h = cuda_mlp.forward(x, inward, outward)
    (alone,) = cuda_mlp.backward(grad, x, h, inward, outward, None)
    torch.testing.assert_close(alone, cuda_mlp.backward(grad, x, h, inward, outward, torch.float32)[0])


def test_no_tokens_pass():
    x, inward, outward, grad = problem(0, 6, 1, torch.float32)
    y, h = cuda_mlp.forward(x, inward, outward)
    assert y.shape == (0, 6)
    of_x, *of_weights = cuda_mlp.backward(grad, x, h, inward, outward, torch.float32)
    assert of_x.shape == (0, 6)
    assert not any(v.any() for v in of_weights)
