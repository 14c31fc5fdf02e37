"""Norms and gates of single tokens as torch operators with gradients; fused for float32 on CPUs.

Elsewhere these functions are torch's own operations: CUDA has fast ones, float64 is for exactness.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mcsd_agent.kernels.cpu_threads import over_batch, pieces_at_most
from mcsd_agent.kernels.operators import fused, refuse_second_derivatives

_library = torch.library.Library("mcsd_rows", "DEF")
_library.define("norm(Tensor x, Tensor weight, float epsilon) -> (Tensor, Tensor)")
_library.define("add_norm(Tensor x, Tensor y, Tensor weight, float epsilon) -> (Tensor, Tensor, Tensor)")
_library.define(
    "norm_backward(Tensor? grad_total, Tensor grad_normed, Tensor total, Tensor inverse, Tensor weight)"
    " -> (Tensor, Tensor)"
)
_library.define("gated(Tensor h) -> Tensor")
_library.define("gated_backward(Tensor grad, Tensor h) -> Tensor")


def _on_cpu(*tensors: Tensor) -> bool:
    return all(t.device.type == "cpu" and fused(t) for t in tensors)


def norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """rmsnorm(x) ⊙ weight over the last dimension."""
    if not _on_cpu(x, weight):
        return F.rms_norm(x, (x.shape[-1],), weight, epsilon)
    return _Norm.apply(x.reshape(-1, x.shape[-1]), weight, epsilon).view(x.shape)


def add_norm(x: Tensor, y: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """x + y, and rmsnorm of it ⊙ weight."""
    if not _on_cpu(x, y, weight):
        total = x + y
        return total, F.rms_norm(total, (x.shape[-1],), weight, epsilon)
    rows = -1, x.shape[-1]
    total, normed = _AddNorm.apply(x.reshape(rows), y.reshape(rows), weight, epsilon)
    return total.view(x.shape), normed.view(x.shape)


def gated(h: Tensor) -> Tensor:
    """`(…, 2E)` = [gate, value] to silu(gate) ⊙ value `(…, E)`."""
    if not _on_cpu(h):
        gate, value = h.chunk(2, -1)
        return F.silu(gate) * value
    return _Gated.apply(h.reshape(-1, h.shape[-1])).view(*h.shape[:-1], -1)


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        normed, inverse = torch.ops.mcsd_rows.norm(x, weight, epsilon)
        ctx.save_for_backward(x, inverse, weight)
        return normed

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives()
        return *torch.ops.mcsd_rows.norm_backward(None, grad.contiguous(), *ctx.saved_tensors), None


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        total, normed, inverse = torch.ops.mcsd_rows.add_norm(x, y, weight, epsilon)
        ctx.save_for_backward(total, inverse, weight)
        return total, normed

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor, grad_normed: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives()
        grad, grad_weight = torch.ops.mcsd_rows.norm_backward(
            grad_total.contiguous(), grad_normed.contiguous(), *ctx.saved_tensors
        )
        return grad, grad, grad_weight, None


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor) -> Tensor:
        ctx.save_for_backward(h)
        return torch.ops.mcsd_rows.gated(h)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        refuse_second_derivatives()
        return torch.ops.mcsd_rows.gated_backward(grad.contiguous(), *ctx.saved_tensors)


# ------------------------------------------------------------------------------------------- operators


def _norm(x: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    from mcsd_agent.kernels import cpu_rows

    normed, inverse = torch.empty_like(x), x.new_empty(x.shape[0])
    a, w, n, i = x.numpy(), weight.numpy(), normed.numpy(), inverse.numpy()
    over_batch(lambda r, _: cpu_rows.norm_forward(a[r], w, np.float32(epsilon), n[r], i[r]), x.shape[0], x.numel())
    return normed, inverse


def _add_norm(x: Tensor, y: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    from mcsd_agent.kernels import cpu_rows

    total, normed, inverse = torch.empty_like(x), torch.empty_like(x), x.new_empty(x.shape[0])
    a, b, w, t, n, i = (v.numpy() for v in (x, y, weight, total, normed, inverse))
    over_batch(
        lambda r, _: cpu_rows.add_norm_forward(a[r], b[r], w, np.float32(epsilon), t[r], n[r], i[r]),
        x.shape[0],
        x.numel(),
    )
    return total, normed, inverse


def _norm_backward(
    grad_total: Tensor | None, grad_normed: Tensor, total: Tensor, inverse: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    from mcsd_agent.kernels import cpu_rows

    grad, sums = torch.empty_like(total), weight.new_zeros(pieces_at_most(total.shape[0]), weight.shape[0])
    n, t, i, w, g, s = (v.numpy() for v in (grad_normed, total, inverse, weight, grad, sums))
    if grad_total is None:
        over_batch(lambda r, p: cpu_rows.norm_backward(n[r], t[r], i[r], w, g[r], s[p]), len(t), t.size)
    else:
        also = grad_total.numpy()
        over_batch(lambda r, p: cpu_rows.add_norm_backward(also[r], n[r], t[r], i[r], w, g[r], s[p]), len(t), t.size)
    return grad, sums.sum(0)


def _gated(h: Tensor) -> Tensor:
    from mcsd_agent.kernels import cpu_rows

    out = h.new_empty(h.shape[0], h.shape[1] // 2)
    a, o = h.numpy(), out.numpy()
    over_batch(lambda r, _: cpu_rows.gated_forward(a[r], o[r]), len(a), a.size)
    return out


def _gated_backward(grad: Tensor, h: Tensor) -> Tensor:
    from mcsd_agent.kernels import cpu_rows

    grad_h = torch.empty_like(h)
    g, a, o = grad.numpy(), h.numpy(), grad_h.numpy()
    over_batch(lambda r, _: cpu_rows.gated_backward(g[r], a[r], o[r]), len(a), a.size)
    return grad_h


for _name, _function in {
    "norm": _norm,
    "add_norm": _add_norm,
    "norm_backward": _norm_backward,
    "gated": _gated,
    "gated_backward": _gated_backward,
}.items():
    _library.impl(_name, _function, "CPU")


@torch.library.register_fake("mcsd_rows::norm", lib=_library)
def _(x: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), x.new_empty(x.shape[0])


@torch.library.register_fake("mcsd_rows::add_norm", lib=_library)
def _(x: Tensor, y: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(x), x.new_empty(x.shape[0])


@torch.library.register_fake("mcsd_rows::norm_backward", lib=_library)
def _(
    grad_total: Tensor | None, grad_normed: Tensor, total: Tensor, inverse: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(total), torch.empty_like(weight)


@torch.library.register_fake("mcsd_rows::gated", lib=_library)
def _(h: Tensor) -> Tensor:
    return h.new_empty(h.shape[0], h.shape[1] // 2)


@torch.library.register_fake("mcsd_rows::gated_backward", lib=_library)
def _(grad: Tensor, h: Tensor) -> Tensor:
    return torch.empty_like(h)
