"""Products by oneDNN are the products: values and every gradient, above and below the sizes where they take over."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mcsd_agent.kernels.linear import grad_of_input, grad_of_weight, linear, product


def values_and_gradients(function, x, weight, bias):
    leaves = [None if v is None else v.clone().requires_grad_() for v in (x, weight, bias)]
    y = function(*leaves)
    (y * torch.linspace(0.5, 2.0, y.shape[-1])).cos().sum().backward()
    return [y.detach(), *(v.grad for v in leaves if v is not None)]


@pytest.mark.parametrize("shape", [(3, 7), (300, 7), (4, 100, 7), (2, 150, 40), (600, 80)])
@pytest.mark.parametrize("outputs", [1, 7, 24, 72, 100])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
def test_linear_is_torchs_linear_with_all_gradients(shape, outputs, biased, transposed):
    torch.manual_seed(0)
    x, bias = torch.randn(shape), torch.randn(outputs) if biased else None
    weight = torch.randn(shape[-1], outputs).t() if transposed else torch.randn(outputs, shape[-1])
    measured = values_and_gradients(linear, x, weight, bias)
    for a, b in zip(measured, values_and_gradients(F.linear, x, weight, bias), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(linear(x, weight, bias), measured[0], rtol=1e-4, atol=1e-4)


def test_other_dtypes_and_autocast_are_left_to_torch():
    x, weight = torch.randn(300, 8), torch.randn(5, 8)
    assert torch.equal(linear(x.double(), weight.double()), F.linear(x.double(), weight.double()))
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight).dtype == torch.bfloat16


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(5, 7, 3), (600, 80, 72), (600, 80, 100)])
def test_products_for_gradients_by_hand_are_the_products(rows, inputs, outputs):
    torch.manual_seed(0)
    x, weight, grad = torch.randn(rows, inputs), torch.randn(outputs, inputs), torch.randn(rows, outputs)
    torch.testing.assert_close(product(x, weight), x @ weight.t(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(grad_of_input(grad, weight), grad @ weight, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(grad_of_weight(grad, x), grad.t() @ x, rtol=1e-4, atol=1e-4)
