"""What a layer does to each token between its matrix products, on a CPU: residual sum with norm, gated MLP.

Arrays are float32 and contiguous, one token a row. Each kernel goes over its data once.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from mcsd_agent.kernels.cpu_math import COMPILE, sigmoid

_F = np.float32


@njit(**COMPILE)
def add_norm_forward(x, y, weight, epsilon, total, normed, inverse):
    """total = x + y, normed = rmsnorm(total) ⊙ weight `(rows, D)`; `inverse` `(rows,)` is 1 / rms."""
    rows, width = x.shape
    for n in range(rows):
        squares = _F(0.0)
        a, b, s, out = x[n], y[n], total[n], normed[n]
        for i in range(width):
            s[i] = a[i] + b[i]
            squares += s[i] * s[i]
        scale = _F(1.0) / np.sqrt(squares / _F(width) + epsilon)
        inverse[n] = scale
        for i in range(width):
            out[i] = s[i] * scale * weight[i]


@njit(**COMPILE)
def norm_forward(x, weight, epsilon, normed, inverse):
    """rmsnorm(x) ⊙ weight."""
    rows, width = x.shape
    for n in range(rows):
        squares = _F(0.0)
        s, out = x[n], normed[n]
        for i in range(width):
            squares += s[i] * s[i]
        scale = _F(1.0) / np.sqrt(squares / _F(width) + epsilon)
        inverse[n] = scale
        for i in range(width):
            out[i] = s[i] * scale * weight[i]


@njit(**COMPILE)
def norm_backward(grad_normed, total, inverse, weight, grad, grad_weight):
    """The gradient of the norm towards its input; adds to `grad_weight`."""
    rows, width = total.shape
    for n in range(rows):
        x, gn, out, scale = total[n], grad_normed[n], grad[n], inverse[n]
        dot = _F(0.0)
        for i in range(width):
            dot += gn[i] * weight[i] * x[i]
        k = dot * scale * scale * scale / _F(width)
        for i in range(width):
            out[i] = scale * gn[i] * weight[i] - k * x[i]
            grad_weight[i] += gn[i] * x[i] * scale


@njit(**COMPILE)
def add_norm_backward(grad_total, grad_normed, total, inverse, weight, grad, grad_weight):
    """The gradient of both outputs towards the sum; adds to `grad_weight`."""
    rows, width = total.shape
    for n in range(rows):
        x, gn, out, scale = total[n], grad_normed[n], grad[n], inverse[n]
        dot = _F(0.0)
        for i in range(width):
            dot += gn[i] * weight[i] * x[i]
        k = dot * scale * scale * scale / _F(width)
        also = grad_total[n]
        for i in range(width):
            out[i] = also[i] + scale * gn[i] * weight[i] - k * x[i]
            grad_weight[i] += gn[i] * x[i] * scale


@njit(**COMPILE)
def gated_forward(h, out):
    """`(rows, 2E)` = [gate, value] to silu(gate) ⊙ value `(rows, E)`."""
    rows, width = out.shape
    for n in range(rows):
        gate, value, o = h[n, :width], h[n, width:], out[n]
        for i in range(width):
            o[i] = gate[i] * sigmoid(gate[i]) * value[i]


@njit(**COMPILE)
def gated_backward(grad_out, h, grad_h):
    """Its gradient."""
    rows, width = grad_out.shape
    for n in range(rows):
        gate, value, go = h[n, :width], h[n, width:], grad_out[n]
        grad_gate, grad_value = grad_h[n, :width], grad_h[n, width:]
        for i in range(width):
            s = sigmoid(gate[i])
            silu = gate[i] * s
            grad_value[i] = go[i] * silu
            grad_gate[i] = go[i] * value[i] * (s + silu * (_F(1.0) - s))
