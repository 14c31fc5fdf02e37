"""The gated MLP on CUDA as one torch operator with gradients, which keeps less and needs less room than its parts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mcsd_agent.kernels import row_operators
from mcsd_agent.kernels.operators import refuse_second_derivatives

_library = torch.library.Library("mcsd_mlp", "DEF")
_library.define("forward(Tensor x, Tensor inward, Tensor outward) -> (Tensor, Tensor)")
_library.define(
    "backward(Tensor grad, Tensor x, Tensor h, Tensor inward, Tensor outward, ScalarType? dtype) -> Tensor[]"
)


def takes_mlp(x: Tensor, inward: Tensor, outward: Tensor) -> bool:
    """Whether `gated_mlp` has kernels for these."""
    if x.device.type != "cuda" or not row_operators.takes(x, inward, outward):
        return False
    return torch.is_autocast_enabled("cuda") or x.dtype == inward.dtype == outward.dtype


def gated_mlp(x: Tensor, inward: Tensor, outward: Tensor) -> Tensor:
    """`W_2 (silu(W_1 x) ⊙ W_3 x)` of `(…, D)`; `inward` `(2E, D)` is [W_1, W_3], `outward` `(D, E)` is W_2."""
    rows = x.reshape(-1, x.shape[-1]).to(row_operators.product_dtype(x))
    return _GatedMLP.apply(rows, inward, outward).view(x.shape)


class _GatedMLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, inward: Tensor, outward: Tensor) -> Tensor:
        ctx.dtypes = inward.dtype, outward.dtype
        inward, outward = inward.to(x.dtype), outward.to(x.dtype)
        y, h = torch.ops.mcsd_mlp.forward(x, inward, outward)
        ctx.save_for_backward(x, h, inward, outward)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives()
        learns = any(ctx.needs_input_grad[1:])
        dtype = torch.promote_types(*ctx.dtypes) if learns else None
        grad_x, *of_weights = torch.ops.mcsd_mlp.backward(grad.contiguous(), *ctx.saved_tensors, dtype)
        return grad_x, *(of_weights or (None, None))


def _forward(x: Tensor, inward: Tensor, outward: Tensor) -> tuple[Tensor, Tensor]:
    from mcsd_agent.kernels import cuda_mlp

    return cuda_mlp.forward(x, inward, outward)


def _backward(
    grad: Tensor, x: Tensor, h: Tensor, inward: Tensor, outward: Tensor, dtype: torch.dtype | None
) -> list[Tensor]:
    from mcsd_agent.kernels import cuda_mlp

    return cuda_mlp.backward(grad, x, h, inward, outward, dtype)


def _forward_shapes(x: Tensor, inward: Tensor, outward: Tensor) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape[0], outward.shape[0]), x.new_empty(x.shape[0], inward.shape[0])


def _backward_shapes(
    grad: Tensor, x: Tensor, h: Tensor, inward: Tensor, outward: Tensor, dtype: torch.dtype | None
) -> list[Tensor]:
    weights = () if dtype is None else (inward, outward)
    return [torch.empty_like(x), *(weight.new_empty(weight.shape, dtype=dtype) for weight in weights)]


_library.impl("forward", _forward, "CUDA")
_library.impl("backward", _backward, "CUDA")
torch.library.register_fake("mcsd_mlp::forward", _forward_shapes, lib=_library)
torch.library.register_fake("mcsd_mlp::backward", _backward_shapes, lib=_library)
