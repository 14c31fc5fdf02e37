"""Matrix products of float32 rows on a CPU by oneDNN, which torch ships but uses by itself only for other dtypes.

Torch's own float32 product is MKL's, which leaves the wide registers of processors that are not Intel's
unused: measured on one core of an AMD EPYC with AVX-512, oneDNN was 2.3 times as fast. On an Intel Xeon MKL was
the faster one, above all for the gradients of weights (1.2 to 1.4 times), and is taken. The results differ by
rounding only. Few rows, other dtypes and other devices take `F.linear`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcsd_agent.kernels.operators import refuse_second_derivatives

#: Below this, the call costs more than it saves: rows, and where a gradient is recorded multiplications.
_ROWS = 16
_MULTIPLICATIONS = 1_500_000


def _is_intel() -> bool:
    """Whether this is a processor for which MKL uses all it has."""
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


_HAS_ONEDNN = (
    torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise") and not _is_intel()
)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`: `(…, in)` times the transpose of `(out, in)`, plus bias."""
    if not _HAS_ONEDNN or x.device.type != "cpu" or torch.is_autocast_enabled("cpu") or torch.compiler.is_exporting():
        return F.linear(x, weight, bias)
    if x.dtype is not torch.float32 or weight.dtype is not torch.float32:
        return F.linear(x, weight, bias)
    recorded = torch.is_grad_enabled()
    if x.numel() < _ROWS * x.shape[-1] or (recorded and x.numel() * weight.shape[0] < _MULTIPLICATIONS):
        return F.linear(x, weight, bias)
    rows = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
    y = (_Linear.apply if recorded else _product)(rows, weight, bias)
    return y if x.dim() == 2 else y.view(*x.shape[:-1], -1)


class Linear(nn.Linear):
    """`nn.Linear` through `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """`(…, in)` to `(…, out)`."""
        return linear(input, self.weight, self.bias)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives()
        x, weight = ctx.saved_tensors
        grad = grad.contiguous()
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        grad_x = grad_of_input(grad, weight) if wants_x else None
        grad_weight = grad_of_weight(grad, x) if wants_weight else None
        return grad_x, grad_weight, grad.sum(0) if wants_bias else None


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def product(x: Tensor, weight: Tensor) -> Tensor:
    """`x W^T` of float32 rows `(rows, in)` and `(out, in)` on a CPU, for code that has its own gradient."""
    if _HAS_ONEDNN and x.shape[0] * weight.numel() >= _MULTIPLICATIONS:
        return _product(x, weight)
    return torch.mm(x, weight.t())


def grad_of_input(grad: Tensor, weight: Tensor) -> Tensor:
    """The gradient of `product` towards its rows, from that of its result."""
    if _HAS_ONEDNN and grad.shape[0] * weight.numel() >= _MULTIPLICATIONS:
        return _product(grad, weight.t().contiguous())
    return torch.mm(grad, weight)


def grad_of_weight(grad: Tensor, x: Tensor) -> Tensor:
    """The gradient of `product` towards its weight; oneDNN has to turn both operands and so pays off later."""
    if not _HAS_ONEDNN or grad.numel() * x.shape[1] < 2 * _MULTIPLICATIONS:
        return torch.mm(grad.t(), x)
    if x.shape[1] > grad.shape[1]:
        return _product(grad.t(), x.t())
    return _product(x.t(), grad.t()).t()  # the operand that is read against its layout should be the small one


def add_grad_of_weight(total: Tensor, grad: Tensor, x: Tensor) -> None:
    """Add `grad_of_weight` to `total`, which may lie in memory transposed."""
    if _HAS_ONEDNN:
        total.add_(grad_of_weight(grad, x))
    else:
        total.addmm_(grad.t(), x)
