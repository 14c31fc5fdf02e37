"""The gated MLP's products on CUDA in little memory: `W_2 gated(h)`, `h` = `W_1 x`, gates and values side by side.

Only `h` is kept between the passes. Backward, what the gates made of `h` comes out of the kernel that takes their
gradient, at the cost of storing it, and tokens go through in chunks, so that gradients of all of `h`, wider than
anything else in a layer, never exist at once.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from mcsd_agent.kernels.cuda_rows import gated_backward, gated_forward

_TOKENS = 8192  # of a chunk: enough for products to fill an H100


def forward(x: Tensor, inward: Tensor, outward: Tensor) -> tuple[Tensor, Tensor]:
    """`(tokens, D)`, `(2E, D)` and `(D, E)` of one dtype to `(tokens, D)` and `h` `(tokens, 2E)`."""
    h = torch.mm(x, inward.t())
    return torch.mm(gated_forward(h), outward.t()), h


def backward(
    grad: Tensor, x: Tensor, h: Tensor, inward: Tensor, outward: Tensor, dtype: torch.dtype | None
) -> list[Tensor]:
    """Gradient of `x`; unless `dtype` is None those of `inward` and `outward` in it, sums of chunks in float32."""
    grad_x = torch.empty_like(x)
    chunks = 0 if dtype is None else triton.cdiv(x.shape[0], _TOKENS)
    of_inward, of_outward = inward.new_empty(chunks, *inward.shape), outward.new_empty(chunks, *outward.shape)
    for i, begin in enumerate(range(0, x.shape[0], _TOKENS)):
        chunk = slice(begin, begin + _TOKENS)
        of_weights = None if dtype is None else (of_inward[i], of_outward[i])
        _chunk_backward(grad[chunk], x[chunk], h[chunk], inward, outward, grad_x[chunk], of_weights)
    if dtype is None:
        return [grad_x]
    return [grad_x, *(parts.sum(0, dtype=torch.float32).to(dtype) for parts in (of_inward, of_outward))]


def _chunk_backward(
    grad: Tensor,
    x: Tensor,
    h: Tensor,
    inward: Tensor,
    outward: Tensor,
    grad_x: Tensor,
    of_weights: tuple[Tensor, Tensor] | None,
) -> None:
    """Fills `grad_x` and `of_weights`; what it takes besides is free again when it returns."""
    gates = torch.mm(grad, outward)  # their gradient first, what they returned afterwards
    grad_h = gated_backward(gates, h)
    if of_weights is not None:
        torch.mm(grad.t(), gates, out=of_weights[1])
        torch.mm(grad_h.t(), x, out=of_weights[0])
    torch.mm(grad_h, inward, out=grad_x)
