"""Norms and gates of single tokens in Triton: one pass over the rows each way, arithmetic in float32.

A program has a block of rows at a time. Backward, programs take several blocks each and add up what these
contribute to the norm's weight; results do not depend on the order in which programs run.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from mcsd_agent.kernels.cuda_arithmetic import sigmoid

#: Wider rows have to be left to torch: a program holds whole rows.
WIDEST = 4096

_NUMBERS = 2048  # of a program's block
_WARPS = 4
_PROGRAMS = 1056  # of a backward pass: eight for each of an H100's multiprocessors


@triton.jit
def norm_forward_kernel(
    x, y, weight, total, normed, inverse, rows, epsilon,
    ADD: tl.constexpr, WEIGHTED: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """`total` = x + y if `ADD`, else x; `normed` = total * inverse, and * weight if `WEIGHTED`."""
    column = tl.arange(0, BLOCK)[None, :]
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    here = (row < rows) & (column < WIDTH)
    at = row * WIDTH + column
    a = tl.load(x + at, mask=here, other=0.0).to(tl.float32)
    if ADD:
        a = (a + tl.load(y + at, mask=here, other=0.0).to(tl.float32)).to(total.dtype.element_ty)
        tl.store(total + at, a, mask=here)
        a = a.to(tl.float32)
    root = tl.rsqrt(tl.sum(a * a, 1, keep_dims=True) * (1.0 / WIDTH) + epsilon)
    a = a * root
    if WEIGHTED:
        a = a * tl.load(weight + column, mask=column < WIDTH, other=0.0).to(tl.float32)
    tl.store(normed + at, a.to(normed.dtype.element_ty), mask=here)
    tl.store(inverse + row, root, mask=row < rows)


@triton.jit
def norm_backward_kernel(
    grad_total, grad_normed, source, inverse, weight, grad, narrow, partial, rows, blocks,
    ADD: tl.constexpr, NARROW: tl.constexpr, WEIGHTED: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """Gradient of the norm's input, plus `grad_total` if `ADD`; once more in the type of `narrow` if `NARROW`.

    `source` is that input if `WEIGHTED`, else the norm's result.
    """
    column = tl.arange(0, BLOCK)[None, :]
    if WEIGHTED:
        w = tl.load(weight + column, mask=column < WIDTH, other=0.0).to(tl.float32)
        sums = tl.zeros((ROWS, BLOCK), tl.float32)
    for i in range(blocks):
        row = (tl.program_id(0).to(tl.int64) * blocks + i) * ROWS + tl.arange(0, ROWS)[:, None]
        here = (row < rows) & (column < WIDTH)
        at = row * WIDTH + column
        g = tl.load(grad_normed + at, mask=here, other=0.0).to(tl.float32)
        n = tl.load(source + at, mask=here, other=0.0).to(tl.float32)
        root = tl.load(inverse + row, mask=row < rows, other=0.0)
        if WEIGHTED:
            n = n * root
            sums += g * n
            g = g * w
        d = root * (g - n * (tl.sum(g * n, 1, keep_dims=True) * (1.0 / WIDTH)))
        if ADD:
            d += tl.load(grad_total + at, mask=here, other=0.0).to(tl.float32)
        tl.store(grad + at, d.to(grad.dtype.element_ty), mask=here)
        if NARROW:
            tl.store(narrow + at, d.to(narrow.dtype.element_ty), mask=here)
    if WEIGHTED:
        own = partial + tl.program_id(0) * WIDTH + column
        tl.store(own, tl.sum(sums, 0, keep_dims=True), mask=column < WIDTH)


@triton.jit
def gated_forward_kernel(h, out, rows, WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr):
    """`out` = silu(gate) * value of rows [gate, value], `WIDTH` numbers each."""
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    here = (row < rows) & (column < WIDTH)
    at = row * (2 * WIDTH) + column
    u = tl.load(h + at, mask=here, other=0.0).to(tl.float32)
    v = tl.load(h + at + WIDTH, mask=here, other=0.0).to(tl.float32)
    tl.store(out + row * WIDTH + column, (u * sigmoid(u) * v).to(out.dtype.element_ty), mask=here)


@triton.jit
def gated_backward_kernel(grad, h, grad_h, rows, WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr):
    """Gradient of both halves of `h`; in the place of `grad`, what `gated_forward_kernel` made of `h`."""
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    here = (row < rows) & (column < WIDTH)
    at = row * (2 * WIDTH) + column
    own = grad + row * WIDTH + column
    u = tl.load(h + at, mask=here, other=0.0).to(tl.float32)
    v = tl.load(h + at + WIDTH, mask=here, other=0.0).to(tl.float32)
    g = tl.load(own, mask=here, other=0.0).to(tl.float32)
    tl.debug_barrier()  # a thread need not store where it loaded
    s = sigmoid(u)
    silu = u * s
    tl.store(grad_h + at, (g * v * (s + silu * (1.0 - s))).to(grad_h.dtype.element_ty), mask=here)
    tl.store(grad_h + at + WIDTH, (g * silu).to(grad_h.dtype.element_ty), mask=here)
    tl.store(own, (silu * v).to(grad.dtype.element_ty), mask=here)


def _block(width: int) -> tuple[int, int]:
    """Columns and rows of a program's block of whole rows."""
    block = 1 << max(width - 1, 0).bit_length()
    return block, max(1, _NUMBERS // block)


def norm_forward(
    x: Tensor, y: Tensor | None, weight: Tensor | None, epsilon: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """x + y (x itself if y is None), its norm in `dtype`, and by what each row was multiplied; all rows are packed."""
    rows, width = x.shape
    total = x if y is None else torch.empty_like(x, dtype=torch.promote_types(x.dtype, y.dtype))
    normed, inverse = torch.empty_like(x, dtype=dtype), x.new_empty(rows, dtype=torch.float32)
    block, each = _block(width)
    with torch.cuda.device_of(x):
        norm_forward_kernel[(triton.cdiv(rows, each),)](
            x, x if y is None else y, inverse if weight is None else weight, total, normed, inverse, rows, epsilon,
            ADD=y is not None, WEIGHTED=weight is not None, WIDTH=width, BLOCK=block, ROWS=each, num_warps=_WARPS,
        )  # fmt: skip
    return total, normed, inverse


def norm_backward(
    grad_total: Tensor | None,
    grad_normed: Tensor,
    source: Tensor,
    inverse: Tensor,
    weight: Tensor | None,
    dtype: torch.dtype,
    other: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of what the norm was taken of, in `dtype`; the same in `other` (empty if that is `dtype`); of `weight`.

    `source` is what the norm was taken of; without a weight, whose gradient is then empty, what the norm returned.
    """
    rows, width = source.shape
    block, each = _block(width)
    blocks = triton.cdiv(triton.cdiv(rows, each), _PROGRAMS)
    programs = triton.cdiv(rows, each * blocks)
    grad = torch.empty_like(source, dtype=dtype)
    narrow = source.new_empty(source.shape if other != dtype else (0,), dtype=other)
    partial = inverse if weight is None else inverse.new_empty(programs, width)
    with torch.cuda.device_of(source):
        norm_backward_kernel[(programs,)](
            grad if grad_total is None else grad_total, grad_normed, source, inverse,
            inverse if weight is None else weight, grad, grad if other == dtype else narrow, partial, rows, blocks,
            ADD=grad_total is not None, NARROW=other != dtype, WEIGHTED=weight is not None, WIDTH=width, BLOCK=block,
            ROWS=each, num_warps=_WARPS,
        )  # fmt: skip
    return grad, narrow, source.new_empty(0) if weight is None else partial.sum(0).to(weight.dtype)


def _gates(rows: int, width: int) -> tuple[tuple[int, int], int, int]:
    """Programs, columns and rows of a program's block for rows of gates."""
    block = min(1 << max(width - 1, 0).bit_length(), _NUMBERS // 2)
    each = _NUMBERS // block
    return (triton.cdiv(rows, each), triton.cdiv(width, block)), block, each


def gated_forward(h: Tensor) -> Tensor:
    """silu(gate) * value, `(rows, E)`, of packed rows `(rows, 2E)`."""
    rows, width = h.shape[0], h.shape[1] // 2
    out = h.new_empty(rows, width)
    grid, block, each = _gates(rows, width)
    with torch.cuda.device_of(h):
        gated_forward_kernel[grid](h, out, rows, WIDTH=width, BLOCK=block, ROWS=each, num_warps=_WARPS)
    return out


def gated_backward(grad: Tensor, h: Tensor) -> Tensor:
    """Gradient of `h` from that of `gated_forward`'s result; this result takes the place of its gradient in `grad`."""
    rows, width = grad.shape
    grad_h = torch.empty_like(h)
    grid, block, each = _gates(rows, width)
    with torch.cuda.device_of(h):
        gated_backward_kernel[grid](grad, h, grad_h, rows, WIDTH=width, BLOCK=block, ROWS=each, num_warps=_WARPS)
    return grad_h
