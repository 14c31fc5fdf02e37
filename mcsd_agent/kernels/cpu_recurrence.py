"""h[t] = a[t] h[t-1] + b[t] in float32 on a CPU: one pass over time in each direction, compiled by Numba.

Where a is 0 the past has no weight at all: what is infinite or not a number before an episode start does
not get past it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from mcsd_agent.kernels.cpu_math import COMPILE
from mcsd_agent.kernels.cpu_threads import over_batch

_F = np.float32
_library = torch.library.Library("mcsd_recurrence", "DEF")
_library.define("forward(Tensor a, Tensor b, Tensor h0) -> Tensor")
_library.define("backward(Tensor grad, Tensor a, Tensor h, Tensor h0) -> (Tensor, Tensor, Tensor)")


@njit(**COMPILE)
def _forward(a, b, h0, h):
    batch, time, dim = b.shape
    for n in range(batch):
        before = h0[n]
        for t in range(time):
            keep, fresh, now = a[n, t], b[n, t], h[n, t]
            for i in range(dim):
                past = _F(0.0) if keep[i] == _F(0.0) else keep[i] * before[i]
                now[i] = past + fresh[i]
            before = now


@njit(**COMPILE)
def _backward(grad, a, h, h0, grad_a, grad_b, grad_h0):
    batch, time, dim = grad.shape
    for n in range(batch):
        message = grad_h0[n]
        message[:] = _F(0.0)
        for t in range(time - 1, -1, -1):
            before = h[n, t - 1] if t > 0 else h0[n]
            go, keep, ga, gb = grad[n, t], a[n, t], grad_a[n, t], grad_b[n, t]
            for i in range(dim):
                total = go[i] + message[i]
                gb[i] = total
                ga[i] = total * before[i]
                message[i] = total * keep[i]


def _run_forward(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    h = torch.empty_like(b)
    arrays = [x.numpy() for x in (a, b, h0, h)]
    over_batch(lambda rows, _: _forward(*(x[rows] for x in arrays)), b.shape[0], b.numel())
    return h


def _run_backward(grad: Tensor, a: Tensor, h: Tensor, h0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    grads = torch.empty_like(a), torch.empty_like(grad), torch.empty_like(h0)
    arrays = [x.numpy() for x in (grad, a, h, h0, *grads)]
    over_batch(lambda rows, _: _backward(*(x[rows] for x in arrays)), grad.shape[0], grad.numel())
    return grads


_library.impl("forward", _run_forward, "CPU")
_library.impl("backward", _run_backward, "CPU")
torch.library.register_fake("mcsd_recurrence::forward", lambda a, b, h0: torch.empty_like(b), lib=_library)
torch.library.register_fake(
    "mcsd_recurrence::backward",
    lambda grad, a, h, h0: (torch.empty_like(a), torch.empty_like(grad), torch.empty_like(h0)),
    lib=_library,
)


def linear_recurrence(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """As `recurrence.linear_recurrence`, for float32 on a CPU."""
    return _Recurrence.apply(a.expand_as(b).contiguous(), b.contiguous(), h0.contiguous())


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
        h = torch.ops.mcsd_recurrence.forward(a, b, h0)
        ctx.save_for_backward(a, h, h0)
        return h

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            raise RuntimeError("linear_recurrence has no second derivative; use sequential_recurrence")
        return torch.ops.mcsd_recurrence.backward(grad.contiguous(), *ctx.saved_tensors)
