"""The operators `torch.ops.mcsd_rows`, norms and gates of rows on CPUs and CUDA; `row_operators` has their gradients.

The gates are here for CPUs only: on CUDA they are part of `mlp_operators`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mcsd_agent.kernels.cpu_threads import over_batch, pieces_at_most

_library = torch.library.Library("mcsd_rows", "DEF")
# Without a weight `rows` of the backward pass are what the norm returned, else what it was taken of.
_library.define("norm(Tensor x, Tensor? weight, float epsilon, ScalarType dtype) -> (Tensor, Tensor)")
_library.define(
    "add_norm(Tensor x, Tensor y, Tensor? weight, float epsilon, ScalarType dtype) -> (Tensor, Tensor, Tensor)"
)
_library.define(
    "norm_backward(Tensor? grad_total, Tensor grad_normed, Tensor rows, Tensor inverse, Tensor? weight,"
    " ScalarType dtype, ScalarType other) -> (Tensor, Tensor, Tensor)"
)
_library.define("gated(Tensor h) -> Tensor")
_library.define("gated_backward(Tensor grad, Tensor h) -> Tensor")


def _norm(x: Tensor, weight: Tensor, epsilon: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    from mcsd_agent.kernels import cpu_rows

    normed, inverse = torch.empty_like(x), x.new_empty(x.shape[0])
    a, w, n, i = x.numpy(), weight.numpy(), normed.numpy(), inverse.numpy()
    over_batch(lambda r, _: cpu_rows.norm_forward(a[r], w, np.float32(epsilon), n[r], i[r]), x.shape[0], x.numel())
    return normed, inverse


def _add_norm(
    x: Tensor, y: Tensor, weight: Tensor, epsilon: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
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
    grad_total: Tensor | None,
    grad_normed: Tensor,
    total: Tensor,
    inverse: Tensor,
    weight: Tensor,
    dtype: torch.dtype,
    other: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    from mcsd_agent.kernels import cpu_rows

    grad, sums = torch.empty_like(total), weight.new_zeros(pieces_at_most(total.shape[0]), weight.shape[0])
    n, t, i, w, g, s = (v.numpy() for v in (grad_normed, total, inverse, weight, grad, sums))
    if grad_total is None:
        over_batch(lambda r, p: cpu_rows.norm_backward(n[r], t[r], i[r], w, g[r], s[p]), len(t), t.size)
    else:
        also = grad_total.numpy()
        over_batch(lambda r, p: cpu_rows.add_norm_backward(also[r], n[r], t[r], i[r], w, g[r], s[p]), len(t), t.size)
    return grad, total.new_empty(0), sums.sum(0)


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


def _cuda_norm(x: Tensor, weight: Tensor | None, epsilon: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    from mcsd_agent.kernels import cuda_rows

    return cuda_rows.norm_forward(x.contiguous(), None, weight, epsilon, dtype)[1:]


def _cuda_add_norm(
    x: Tensor, y: Tensor, weight: Tensor | None, epsilon: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    from mcsd_agent.kernels import cuda_rows

    return cuda_rows.norm_forward(x.contiguous(), y.contiguous(), weight, epsilon, dtype)


def _cuda_norm_backward(
    grad_total: Tensor | None,
    grad_normed: Tensor,
    rows: Tensor,
    inverse: Tensor,
    weight: Tensor | None,
    dtype: torch.dtype,
    other: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    from mcsd_agent.kernels import cuda_rows

    return cuda_rows.norm_backward(grad_total, grad_normed, rows.contiguous(), inverse, weight, dtype, other)


for _name, _on_cpu, _on_cuda in (
    ("norm", _norm, _cuda_norm),
    ("add_norm", _add_norm, _cuda_add_norm),
    ("norm_backward", _norm_backward, _cuda_norm_backward),
):
    _library.impl(_name, _on_cpu, "CPU")
    _library.impl(_name, _on_cuda, "CUDA")
_library.impl("gated", _gated, "CPU")
_library.impl("gated_backward", _gated_backward, "CPU")


@torch.library.register_fake("mcsd_rows::norm", lib=_library)
def _(x: Tensor, weight: Tensor | None, epsilon: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x, dtype=dtype), x.new_empty(x.shape[0], dtype=torch.float32)


@torch.library.register_fake("mcsd_rows::add_norm", lib=_library)
def _(x: Tensor, y: Tensor, weight: Tensor | None, epsilon: float, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    total = torch.empty_like(x, dtype=torch.promote_types(x.dtype, y.dtype))
    return total, torch.empty_like(x, dtype=dtype), x.new_empty(x.shape[0], dtype=torch.float32)


@torch.library.register_fake("mcsd_rows::norm_backward", lib=_library)
def _(
    grad_total: Tensor | None,
    grad_normed: Tensor,
    rows: Tensor,
    inverse: Tensor,
    weight: Tensor | None,
    dtype: torch.dtype,
    other: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    narrow = rows.new_empty(rows.shape if other != dtype else (0,), dtype=other)
    grad_weight = rows.new_empty(0) if weight is None else torch.empty_like(weight)
    return torch.empty_like(rows, dtype=dtype), narrow, grad_weight


@torch.library.register_fake("mcsd_rows::gated", lib=_library)
def _(h: Tensor) -> Tensor:
    return h.new_empty(h.shape[0], h.shape[1] // 2)


@torch.library.register_fake("mcsd_rows::gated_backward", lib=_library)
def _(grad: Tensor, h: Tensor) -> Tensor:
    return torch.empty_like(h)
