"""Norms and gates of single tokens as torch operators with gradients; fused for float32 on CPUs and on CUDA.

Elsewhere these functions are torch's own operations. Under autocast on CUDA a norm's result has the autocast dtype,
which the matrix product after it would convert it to; sums keep theirs.
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
_library.define("norm(Tensor x, Tensor weight, float epsilon, ScalarType dtype) -> (Tensor, Tensor)")
_library.define(
    "add_norm(Tensor x, Tensor y, Tensor weight, float epsilon, ScalarType dtype) -> (Tensor, Tensor, Tensor)"
)
_library.define(
    "norm_backward(Tensor? grad_total, Tensor grad_normed, Tensor total, Tensor inverse, Tensor weight,"
    " ScalarType other) -> (Tensor, Tensor, Tensor)"
)
_library.define("gated(Tensor h) -> Tensor")
_library.define("gated_backward(Tensor grad, Tensor h) -> Tensor")

#: On CUDA torch's operations are as fast below this many numbers, and launched sooner.
_LEAST_ON_CUDA = 2**18


def _fuses(rows: Tensor, *others: Tensor) -> bool:
    """Whether a kernel takes these tensors, of which the first is the largest."""
    if not all(t.device == rows.device and fused(t) for t in (rows, *others)):
        return False
    return rows.device.type == "cpu" or (rows.numel() >= _LEAST_ON_CUDA and rows.shape[-1] <= _widest())


def _widest() -> int:
    from mcsd_agent.kernels import cuda_rows

    return cuda_rows.WIDEST


def _result_dtype(x: Tensor) -> torch.dtype:
    if x.device.type == "cuda" and torch.is_autocast_enabled("cuda"):
        return torch.get_autocast_dtype("cuda")
    return x.dtype


def norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """rmsnorm(x) ⊙ weight over the last dimension."""
    if not _fuses(x, weight):
        return F.rms_norm(x, (x.shape[-1],), weight, epsilon)
    return _Norm.apply(x.reshape(-1, x.shape[-1]), weight, epsilon, _result_dtype(x)).view(x.shape)


def add_norm(x: Tensor, y: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """x + y, and rmsnorm of it ⊙ weight."""
    if not _fuses(x, y, weight):
        total = x + y
        return total, F.rms_norm(total, (x.shape[-1],), weight, epsilon)
    rows = -1, x.shape[-1]
    total, normed = _AddNorm.apply(x.reshape(rows), y.reshape(rows), weight, epsilon, _result_dtype(x))
    return total.view(x.shape), normed.view(x.shape)


def gated(h: Tensor) -> Tensor:
    """`(…, 2E)` = [gate, value] to silu(gate) ⊙ value `(…, E)`."""
    if not _fuses(h):
        gate, value = h.chunk(2, -1)
        return F.silu(gate) * value
    return _Gated.apply(h.reshape(-1, h.shape[-1])).view(*h.shape[:-1], -1)


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
        normed, inverse = torch.ops.mcsd_rows.norm(x, weight, epsilon, dtype)
        ctx.save_for_backward(x, inverse, weight)
        return normed

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives()
        x, inverse, weight = ctx.saved_tensors
        grad_x, _, grad_weight = torch.ops.mcsd_rows.norm_backward(None, grad.contiguous(), x, inverse, weight, x.dtype)
        return grad_x, grad_weight, None, None


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, weight: Tensor, epsilon: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        total, normed, inverse = torch.ops.mcsd_rows.add_norm(x, y, weight, epsilon, dtype)
        ctx.save_for_backward(total, inverse, weight)
        ctx.dtypes = x.dtype, y.dtype
        return total, normed

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor, grad_normed: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives()
        total, inverse, weight = ctx.saved_tensors
        other = min(ctx.dtypes, key=lambda dtype: dtype.itemsize)
        grad, narrow, grad_weight = torch.ops.mcsd_rows.norm_backward(
            grad_total.contiguous(), grad_normed.contiguous(), total, inverse, weight, other
        )
        of = {total.dtype: grad, other: narrow if other != total.dtype else grad}
        grad_x, grad_y = (of.get(dtype, grad) for dtype in ctx.dtypes)
        return grad_x, grad_y, grad_weight, None, None


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
    grad_total: Tensor | None, grad_normed: Tensor, total: Tensor, inverse: Tensor, weight: Tensor, other: torch.dtype
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


def _cuda_norm(x: Tensor, weight: Tensor, epsilon: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    from mcsd_agent.kernels import cuda_rows

    return cuda_rows.norm_forward(x.contiguous(), None, weight, epsilon, dtype)[1:]


def _cuda_add_norm(
    x: Tensor, y: Tensor, weight: Tensor, epsilon: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    from mcsd_agent.kernels import cuda_rows

    return cuda_rows.norm_forward(x.contiguous(), y.contiguous(), weight, epsilon, dtype)


def _cuda_norm_backward(
    grad_total: Tensor | None, grad_normed: Tensor, total: Tensor, inverse: Tensor, weight: Tensor, other: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    from mcsd_agent.kernels import cuda_rows

    return cuda_rows.norm_backward(grad_total, grad_normed, total.contiguous(), inverse, weight, other)


def _cuda_gated(h: Tensor) -> Tensor:
    from mcsd_agent.kernels import cuda_rows

    return cuda_rows.gated_forward(h.contiguous())


def _cuda_gated_backward(grad: Tensor, h: Tensor) -> Tensor:
    from mcsd_agent.kernels import cuda_rows

    return cuda_rows.gated_backward(grad, h.contiguous())


for _name, _on_cpu, _on_cuda in (
    ("norm", _norm, _cuda_norm),
    ("add_norm", _add_norm, _cuda_add_norm),
    ("norm_backward", _norm_backward, _cuda_norm_backward),
    ("gated", _gated, _cuda_gated),
    ("gated_backward", _gated_backward, _cuda_gated_backward),
):
    _library.impl(_name, _on_cpu, "CPU")
    _library.impl(_name, _on_cuda, "CUDA")


@torch.library.register_fake("mcsd_rows::norm", lib=_library)
def _(x: Tensor, weight: Tensor, epsilon: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x, dtype=dtype), x.new_empty(x.shape[0], dtype=torch.float32)


@torch.library.register_fake("mcsd_rows::add_norm", lib=_library)
def _(x: Tensor, y: Tensor, weight: Tensor, epsilon: float, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    total = torch.empty_like(x, dtype=torch.promote_types(x.dtype, y.dtype))
    return total, torch.empty_like(x, dtype=dtype), x.new_empty(x.shape[0], dtype=torch.float32)


@torch.library.register_fake("mcsd_rows::norm_backward", lib=_library)
def _(
    grad_total: Tensor | None, grad_normed: Tensor, total: Tensor, inverse: Tensor, weight: Tensor, other: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    narrow = total.new_empty(total.shape if other != total.dtype else (0,), dtype=other)
    return torch.empty_like(total), narrow, torch.empty_like(weight)


@torch.library.register_fake("mcsd_rows::gated", lib=_library)
def _(h: Tensor) -> Tensor:
    return h.new_empty(h.shape[0], h.shape[1] // 2)


@torch.library.register_fake("mcsd_rows::gated_backward", lib=_library)
def _(grad: Tensor, h: Tensor) -> Tensor:
    return torch.empty_like(h)
