"""First-order linear recurrences, `h[t] = a[t] * h[t-1] + b[t]`, as pure functions.

Real tensors decay; complex ones also rotate. An episode start is a zero in `a`: what came before
has weight exactly 0. The same mathematics in several forms:

- `linear_recurrence`: what models call. One pass over the data in a kernel, by Triton on CUDA and by Numba for float32
  on a CPU; elsewhere the chunked form.
- `sequential_recurrence`: the loop over time, obviously right; autograd differentiates it.
- `chunked_recurrence`: the same loop over positions inside all chunks at once, then a short loop that
  carries the state from chunk to chunk. Its cost is linear in time, it never divides and takes no
  logarithm, so products of decays may underflow to 0 but nothing can overflow. The gradient is the
  same recurrence run backwards; only `a` and `h` are kept for it.

Shapes: `a`, `b` and the result `(batch, time, dim)`; `h0` `(batch, dim)`. The final state is `h[:, -1]`.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

try:
    if torch.version.cuda is None:
        raise ImportError("this build of torch has no CUDA")
    from mcsd_agent.kernels import cuda_recurrence
except ImportError:  # nor has an installation without Triton
    cuda_recurrence = None  # type: ignore[assignment]
try:
    from mcsd_agent.kernels import cpu_recurrence
except ImportError:  # no Numba in this installation
    cpu_recurrence = None  # type: ignore[assignment]

#: Rows of this many numbers hide the call overhead of one loop step, so that chunks would only add work.
_WIDE_ROW = 16384


def linear_recurrence(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """h of shape `(batch, time, dim)`, by the fastest form for device and dtype; `a` may be an expanded view.

    Has first derivatives only: asking for a second one raises RuntimeError.
    """
    if b.is_cuda and cuda_recurrence is not None and b.dtype in cuda_recurrence.DTYPES:
        return cuda_recurrence.linear_recurrence(a, b, h0)
    if b.device.type == "cpu" and cpu_recurrence is not None and a.dtype == b.dtype == h0.dtype == torch.float32:
        return cpu_recurrence.linear_recurrence(a, b, h0)
    return chunked_recurrence(a, b, h0)


def sequential_recurrence(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """The reference: one step at a time."""
    history, h = [], h0
    for t in range(b.shape[1]):
        h = a[:, t] * h + b[:, t]  # h_t = a_t h_{t-1} + b_t
        history.append(h)
    return torch.stack(history, dim=1)


def chunked_recurrence(a: Tensor, b: Tensor, h0: Tensor, chunk: int | None = None) -> Tensor:
    """Equal to `sequential_recurrence`; `a` may be an expanded view. `chunk` is chosen when None."""
    return _LinearRecurrence.apply(a.expand_as(b), b, h0, chunk)


class _LinearRecurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, h0: Tensor, chunk: int | None) -> Tensor:
        h = _run(a, b, h0, chunk, reverse=False)
        ctx.save_for_backward(a, h, h0)
        ctx.chunk = chunk
        return h

    @staticmethod
    def backward(ctx: Any, grad_h: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        if torch.is_grad_enabled():
            raise RuntimeError("chunked_recurrence has no second derivative; use sequential_recurrence")
        a, h, h0 = ctx.saved_tensors
        # g_t = dL/dh_t = grad_t + conj(a_{t+1}) g_{t+1}: the recurrence again, from the end.
        a_next = torch.cat([a[:, 1:], torch.zeros_like(a[:, :1])], dim=1).conj().resolve_conj()
        g = _run(a_next, grad_h.contiguous(), torch.zeros_like(h0), ctx.chunk, reverse=True)
        grad_a = None
        if ctx.needs_input_grad[0]:
            grad_a = g * torch.cat([h0[:, None], h[:, :-1]], dim=1).conj()  # dL/da_t = g_t conj(h_{t-1})
        return grad_a, g, a[:, 0].conj() * g[:, 0], None


def _run(a: Tensor, b: Tensor, h0: Tensor, chunk: int | None, *, reverse: bool) -> Tensor:
    """The recurrence forwards, or from the last position to the first."""
    batch, time, dim = b.shape
    if chunk is None:
        chunk = time if batch * dim >= _WIDE_ROW else max(16, int(time**0.5))
    whole = time // chunk  # chunks that are full; a shorter rest follows them in the order of the recurrence
    h = torch.empty_like(b)
    if whole <= 1:
        _loop(a, b, h0, h, reverse=reverse)
        return h
    size = whole * chunk
    main = slice(time - size, None) if reverse else slice(0, size)
    rest = slice(0, time - size) if reverse else slice(size, None)

    inside_a, inside_b = (x[:, main].unflatten(1, (whole, chunk)) for x in (a, b))
    inside_h = h[:, main].unflatten(1, (whole, chunk))
    decays = torch.empty_like(inside_b)  # product of `a` from the chunk's first position to this one
    positions = range(chunk - 1, -1, -1) if reverse else range(chunk)
    inside_h[:, :, positions[0]] = inside_b[:, :, positions[0]]
    decays[:, :, positions[0]] = inside_a[:, :, positions[0]]
    for previous, j in itertools.pairwise(positions):
        _advance(inside_a[:, :, j], inside_b[:, :, j], inside_h[:, :, previous], out=inside_h[:, :, j])
        torch.mul(decays[:, :, previous], inside_a[:, :, j], out=decays[:, :, j])
    last = positions[-1]
    carries = torch.empty_like(inside_b[:, :, 0])  # state with which each chunk begins
    carry = h0
    for i in range(whole - 1, -1, -1) if reverse else range(whole):
        carries[:, i] = carry
        carry = _advance(decays[:, i, last], inside_h[:, i, last], carry)
    inside_h.copy_(_advance(decays, inside_h, carries[:, :, None]))
    if size < time:
        _loop(a[:, rest], b[:, rest], carry, h[:, rest], reverse=reverse)
    return h


def _advance(a: Tensor, b: Tensor, h: Tensor, out: Tensor | None = None) -> Tensor:
    """a h + b; b alone where a is 0, whatever h is: what is not finite has no weight there either."""
    return torch.where(a == 0, b, torch.addcmul(b, a, h), out=out)


def _loop(a: Tensor, b: Tensor, h0: Tensor, h: Tensor, *, reverse: bool) -> None:
    """Write the recurrence over `(a, b)` from `h0` into `h`, one position at a time."""
    previous = h0
    for t in range(b.shape[1] - 1, -1, -1) if reverse else range(b.shape[1]):
        _advance(a[:, t], b[:, t], previous, out=h[:, t])
        previous = h[:, t]
