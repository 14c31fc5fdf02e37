from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mcsd_agent.kernels import cuda_rows, row_operators

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
EPSILON = 1e-6


def normal(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def assert_close(x, y, tolerance):
    deviation = (x.double() - y).norm() / y.norm().clamp_min(1e-9)
    assert deviation < tolerance, f"{deviation:.1e}"


@pytest.mark.parametrize("rows", [1, 37])
@pytest.mark.parametrize("width", [5, 64])
@pytest.mark.parametrize("add", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("narrow", [torch.float32, torch.bfloat16])
def test_norms_and_their_gradients_equal_torchs(rows, width, add, weighted, narrow, monkeypatch):
    monkeypatch.setattr(cuda_rows, "_NUMBERS", 128)
    monkeypatch.setattr(cuda_rows, "_PROGRAMS", 3)
    x, weight = normal(rows, width), 1 + 0.1 * normal(width, seed=1) if weighted else None
    y = normal(rows, width, dtype=narrow, seed=2) if add else None
    outer, outer_total = normal(rows, width, dtype=narrow, seed=3), normal(rows, width, seed=4)
    total, normed, inverse = cuda_rows.norm_forward(x, y, weight, EPSILON, narrow)
    grad, narrowed, grad_weight = cuda_rows.norm_backward(
        outer_total if add else None,
        outer,
        total if weighted else normed,
        inverse,
        weight,
        torch.float32,
        narrow if add else torch.float32,
    )
    p = (x.double() + (y.double() if add else 0.0)).requires_grad_()
    w = weight.double().requires_grad_() if weighted else None
    expected = F.rms_norm(p, (width,), w, EPSILON)
    torch.autograd.backward((expected, p * 1.0), (outer.double(), outer_total.double() * add))
    rounding = 6e-3 if narrow is torch.bfloat16 else 1e-6
    assert normed.dtype == narrow
    assert grad.dtype == torch.float32
    assert_close(total, p.detach(), 1e-6)
    assert_close(normed, expected.detach(), rounding)
    assert_close(grad, p.grad, 1e-6 if weighted else rounding)
    if weighted:
        assert_close(grad_weight, w.grad, 1e-6)
    if add and narrow is not torch.float32:
        assert narrowed.dtype == narrow
        assert_close(narrowed, p.grad, rounding)
    else:
        assert narrowed.numel() == 0


@pytest.mark.parametrize(("rows", "width"), [(1, 3), (9, 200)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gates_and_their_gradients_equal_torchs(rows, width, dtype, monkeypatch):
    monkeypatch.setattr(cuda_rows, "_NUMBERS", 256)
    h, outer = normal(rows, 2 * width, dtype=dtype), normal(rows, width, dtype=dtype, seed=1)
    p = h.double().requires_grad_()
    gate, value = p.chunk(2, -1)
    expected = F.silu(gate) * value
    expected.backward(outer.double())
    rounding = 6e-3 if dtype is torch.bfloat16 else 1e-6
    assert_close(cuda_rows.gated_forward(h), expected.detach(), rounding)
    inner = outer.clone()
    assert_close(cuda_rows.gated_backward(inner, h), p.grad, rounding)
    assert_close(inner, expected.detach(), rounding)


@pytest.mark.skipif(DEVICE == "cpu", reason="autocast of CUDA")
@pytest.mark.parametrize("autocast", [True, False])
def test_operators_use_the_kernels_and_keep_the_sums_precise(autocast):
    x, y = normal(600, 512).requires_grad_(), normal(600, 512, dtype=torch.bfloat16, seed=1).requires_grad_()
    weight = (1 + 0.1 * normal(512, seed=2)).requires_grad_()
    with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
        total, (rows, scale) = row_operators.add_norm_before_product(x, y, weight, EPSILON)
    assert total.dtype == torch.float32
    assert rows.dtype == (torch.bfloat16 if autocast else torch.float32)
    assert scale is weight
    assert "_AddNorm" in rows.grad_fn.next_functions[0][0].name()
    ((rows.float() * scale).sum() + total.square().sum()).backward()
    p, q, w = (t.detach().double().requires_grad_() for t in (x, y, weight))
    (F.rms_norm(p + q, (512,), w, EPSILON).sum() + (p + q).square().sum()).backward()
    assert_close(x.grad, p.grad, 1e-2 if autocast else 1e-5)
    assert_close(y.grad, q.grad, 1e-2)
    assert_close(weight.grad, w.grad, 1e-2 if autocast else 1e-5)
    assert y.grad.dtype == torch.bfloat16
