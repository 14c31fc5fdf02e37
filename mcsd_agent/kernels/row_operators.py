"""Norms and gates of single tokens as torch operators with gradients; fused for float32 on CPUs and on CUDA.

Elsewhere these functions are torch's own operations. Under autocast on CUDA a norm's result has the autocast dtype,
which the matrix product after it would convert it to; sums keep theirs.

A product of a norm, `W (n ⊙ w)` with n = rmsnorm(x), is also `(W ⊙ w) n`. On CUDA the norms in front of products leave
w to them: then n, which the product keeps for its gradient anyhow, is all that the norm needs for its own,

    dx = (dn - n mean(dn ⊙ n)) / rms(x)

and neither x, which is in float32, nor n ⊙ w is kept.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mcsd_agent.kernels import row_library  # noqa: F401  (defines the operators)
from mcsd_agent.kernels.operators import fused, refuse_second_derivatives

#: On CUDA torch's operations are as fast below this many numbers, and launched sooner.
_LEAST_ON_CUDA = 2**18


def takes(rows: Tensor, *others: Tensor) -> bool:
    """Whether a kernel takes these tensors, of which the first is the largest."""
    if not all(t.device == rows.device and fused(t) for t in (rows, *others)):
        return False
    return rows.device.type == "cpu" or (rows.numel() >= _LEAST_ON_CUDA and rows.shape[-1] <= _widest())


def _widest() -> int:
    from mcsd_agent.kernels import cuda_rows

    return cuda_rows.WIDEST


def _leaves_weight(rows: Tensor) -> bool:
    """Whether norms of these rows, which a kernel takes, leave their weight to the product."""
    return rows.device.type == "cuda"


def product_dtype(x: Tensor) -> torch.dtype:
    """In which dtype a product takes `x`."""
    if x.device.type == "cuda" and torch.is_autocast_enabled("cuda"):
        return torch.get_autocast_dtype("cuda")
    return x.dtype


class Normed(NamedTuple):
    """A norm in front of a product: `rows` ⊙ `scale`. The scale, unless it is None, goes into the product's weight."""

    rows: Tensor
    scale: Tensor | None


def norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """rmsnorm(x) ⊙ weight over the last dimension."""
    if not takes(x, weight):
        return F.rms_norm(x, (x.shape[-1],), weight, epsilon)
    return _Norm.apply(x.reshape(-1, x.shape[-1]), weight, epsilon, product_dtype(x)).view(x.shape)


def norm_of_sum(x: Tensor, y: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """rmsnorm(x + y) ⊙ weight, where nothing else needs the sum."""
    if not takes(x, y, weight):
        return F.rms_norm(x + y, (x.shape[-1],), weight, epsilon)
    rows = -1, x.shape[-1]
    return _NormOfSum.apply(x.reshape(rows), y.reshape(rows), weight, epsilon, product_dtype(x)).view(x.shape)


def norm_before_product(x: Tensor, weight: Tensor, epsilon: float) -> Normed:
    """rmsnorm(x) ⊙ weight."""
    if not (takes(x, weight) and _leaves_weight(x)):
        return Normed(norm(x, weight, epsilon), None)
    return Normed(_Norm.apply(x.reshape(-1, x.shape[-1]), None, epsilon, product_dtype(x)).view(x.shape), weight)


def add_norm_before_product(x: Tensor, y: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Normed]:
    """x + y, and rmsnorm of it ⊙ weight."""
    if not takes(x, y, weight):
        total = x + y
        return total, Normed(F.rms_norm(total, (x.shape[-1],), weight, epsilon), None)
    rows = -1, x.shape[-1]
    inside, later = (None, weight) if _leaves_weight(x) else (weight, None)
    total, normed = _AddNorm.apply(x.reshape(rows), y.reshape(rows), inside, epsilon, product_dtype(x))
    return total.view(x.shape), Normed(normed.view(x.shape), later)


def gated(h: Tensor) -> Tensor:
    """`(…, 2E)` = [gate, value] to silu(gate) ⊙ value `(…, E)`; `mlp_operators` has it on CUDA."""
    if h.device.type != "cpu" or not takes(h):
        gate, value = h.chunk(2, -1)
        return F.silu(gate) * value
    return _Gated.apply(h.reshape(-1, h.shape[-1])).view(*h.shape[:-1], -1)


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, epsilon: float, dtype: torch.dtype) -> Tensor:
        normed, inverse = torch.ops.mcsd_rows.norm(x, weight, epsilon, dtype)
        ctx.save_for_backward(normed if weight is None else x, inverse, weight)
        ctx.dtype = x.dtype
        return normed

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives()
        rows, inverse, weight = ctx.saved_tensors
        grad_x, _, grad_weight = torch.ops.mcsd_rows.norm_backward(
            None, grad.contiguous(), rows, inverse, weight, ctx.dtype, ctx.dtype
        )
        return grad_x, None if weight is None else grad_weight, None, None


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, weight: Tensor | None, epsilon: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        total, normed, inverse = torch.ops.mcsd_rows.add_norm(x, y, weight, epsilon, dtype)
        ctx.save_for_backward(normed if weight is None else total, inverse, weight)
        ctx.dtypes = x.dtype, y.dtype
        return total, normed

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor, grad_normed: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives()
        grads = _grads_of_summands(grad_total.contiguous(), grad_normed.contiguous(), ctx.saved_tensors, ctx.dtypes)
        return *grads, None, None


class _NormOfSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, weight: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
        total, normed, inverse = torch.ops.mcsd_rows.add_norm(x, y, weight, epsilon, dtype)
        ctx.save_for_backward(total, inverse, weight)
        ctx.dtypes = x.dtype, y.dtype
        return normed

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives()
        return *_grads_of_summands(None, grad.contiguous(), ctx.saved_tensors, ctx.dtypes), None, None


def _grads_of_summands(
    grad_total: Tensor | None,
    grad_normed: Tensor,
    saved: tuple[Tensor, Tensor, Tensor | None],
    dtypes: tuple[torch.dtype, torch.dtype],
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of x and y, each in its dtype, and of the weight."""
    rows, inverse, weight = saved
    dtype = torch.promote_types(*dtypes)
    other = dtypes[0] if dtypes[0].itemsize <= dtypes[1].itemsize else dtypes[1]
    grad, narrow, grad_weight = torch.ops.mcsd_rows.norm_backward(
        grad_total, grad_normed, rows, inverse, weight, dtype, other
    )
    of = {dtype: grad, other: narrow if other != dtype else grad}
    grad_x, grad_y = (of.get(d, grad) for d in dtypes)
    return grad_x, grad_y, None if weight is None else grad_weight


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor) -> Tensor:
        ctx.save_for_backward(h)
        return torch.ops.mcsd_rows.gated(h)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        refuse_second_derivatives()
        return torch.ops.mcsd_rows.gated_backward(grad.contiguous(), *ctx.saved_tensors)
