"""The recurrence h[t] = a[t] h[t-1] + b[t] in Triton, with gradients: one pass over the data each way.

Chunks and the parallel part inside them are as in `cuda_real_section`; how chunks are linked says `cuda_chain`.
Backward, with grad_t = dL/dh_t from outside, g_t = grad_t + c_{t+1} and c_t = conj(a_t) g_t:

    dL/db_t = g_t,    dL/da_t = g_t conj(h_{t-1}),    dL/dh0 = c_0

Where a is exactly 0 the past has no weight, also where it is inf or nan. Arithmetic is in float32.
"""

# Triton's language knows neither `(*x, y)` nor conditional expressions between blocks of different shapes, and its
# tensors and growing tuples have no types that mypy could follow.
# ruff: noqa: RUF005, SIM108
# mypy: disable-error-code="assignment, var-annotated"

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from mcsd_agent.kernels.cuda_chain import (
    SIZES,
    after,
    after_complex,
    empty_words,
    first_state,
    first_state_complex,
    publish,
    scan_maps,
    scan_maps_complex,
    take_ticket,
    then,
    then_complex,
)

#: What `b` may be.
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.complex64)

_SEGMENTS, _RUN, _WARPS = 8, 8, 8
_REACH_FROM = 128  # chunks from which on several are linked by one wait


@triton.jit(do_not_specialize=SIZES)
def recurrence_kernel(
    a,
    b,
    initial,
    h,
    past,
    past_initial,
    grad_a,
    last,
    ends,
    maps,
    tickets,
    batch,
    time,
    places,
    groups,
    plane,
    width,
    a_batch,
    a_time,
    a_feature,
    b_batch,
    b_time,
    b_feature,
    COMPLEX: tl.constexpr,
    BACKWARD: tl.constexpr,
    GRAD_A: tl.constexpr,
    BLOCK: tl.constexpr,
    SEGMENTS: tl.constexpr,
    RUN: tl.constexpr,
    REACH: tl.constexpr,
):
    """Forward: `h` from `a`, `b` and `initial`. Backward: `b` is dL/dh, `h` is dL/db, `past` the forward result.

    Complex numbers are pairs of float32; strides count complex numbers, and the imaginary part is one further.
    Results are contiguous. `last` receives c_0 in the backward pass.
    """
    group, sequence, place = take_ticket(tickets, groups, batch)
    chunk = place
    if BACKWARD:
        chunk = places - 1 - place
    SIZE: tl.constexpr = 2 if COMPLEX else 1
    column = group * BLOCK + tl.arange(0, BLOCK)[None, :]
    mask = column < width
    segment = tl.arange(0, SEGMENTS)[:, None]
    if BACKWARD:
        edge = (segment == 0) & mask
    else:
        edge = (segment == SEGMENTS - 1) & mask
    first = (chunk * (SEGMENTS * RUN)).to(tl.int64)
    left = time - chunk * (SEGMENTS * RUN)
    row = sequence.to(tl.int64) * time + first
    decays = a + (sequence.to(tl.int64) * a_batch + first * a_time + column * a_feature) * SIZE
    inputs = b + (sequence.to(tl.int64) * b_batch + first * b_time + column * b_feature) * SIZE
    out = h + (row * width + column) * SIZE
    slot = sequence.to(tl.int64) * places * (width * SIZE) + column  # imaginary parts: `width` further
    stride = width * SIZE
    start = initial + (sequence.to(tl.int64) * width + column) * SIZE

    keep_re = ()
    keep_im = ()
    add_re = ()
    add_im = ()
    for r in tl.static_range(RUN):
        t = segment * RUN + r
        here = (t < left) & mask
        keep_re = keep_re + (tl.load(decays + t * a_time * SIZE, mask=here, other=1.0).to(tl.float32),)
        add_re = add_re + (tl.load(inputs + t * b_time * SIZE, mask=here, other=0.0).to(tl.float32),)
        if COMPLEX:
            im = tl.load(decays + (t * a_time * SIZE + 1), mask=here, other=0.0)
            if BACKWARD:
                im = -im
            keep_im = keep_im + (im,)
            add_im = add_im + (tl.load(inputs + (t * b_time * SIZE + 1), mask=here, other=0.0),)

    if COMPLEX:
        a_re = tl.full((SEGMENTS, BLOCK), 1.0, tl.float32)
        a_im = tl.zeros((SEGMENTS, BLOCK), tl.float32)
        b_re = tl.zeros((SEGMENTS, BLOCK), tl.float32)
        b_im = tl.zeros((SEGMENTS, BLOCK), tl.float32)
        if BACKWARD:
            for r in tl.static_range(RUN - 1, -1, -1):
                zero = tl.zeros((SEGMENTS, BLOCK), tl.float32)
                plus_re, plus_im = after_complex(keep_re[r], keep_im[r], zero, zero, add_re[r], add_im[r])
                a_re, a_im, b_re, b_im = then_complex(a_re, a_im, b_re, b_im, keep_re[r], keep_im[r], plus_re, plus_im)
        else:
            for r in tl.static_range(RUN):
                a_re, a_im, b_re, b_im = then_complex(
                    a_re, a_im, b_re, b_im, keep_re[r], keep_im[r], add_re[r], add_im[r]
                )
        a_re, a_im, b_re, b_im, p_re, p_im, q_re, q_im = scan_maps_complex(a_re, a_im, b_re, b_im, BACKWARD)
        own = slot + place * stride
        if REACH > 0:
            publish(maps + own, a_re, edge)
            publish(maps + own + width, a_im, edge)
            publish(maps + own + plane, b_re, edge)
            publish(maps + own + plane + width, b_im, edge)
        if BACKWARD:
            start_re = tl.zeros((1, BLOCK), tl.float32)
            start_im = tl.zeros((1, BLOCK), tl.float32)
        else:
            start_re = tl.load(start, mask=mask, other=0.0)
            start_im = tl.load(start + 1, mask=mask, other=0.0)
        start_re, start_im = first_state_complex(
            ends + slot, ends + slot + width, maps + slot, maps + slot + width, plane, place, stride, mask,
            start_re, start_im, REACH,
        )  # fmt: skip
        end_re, end_im = after_complex(a_re, a_im, b_re, b_im, start_re, start_im)
        publish(ends + own, end_re, edge)
        publish(ends + own + width, end_im, edge)
        h_re, h_im = after_complex(p_re, p_im, q_re, q_im, start_re, start_im)
    else:
        map_a = tl.full((SEGMENTS, BLOCK), 1.0, tl.float32)
        map_b = tl.zeros((SEGMENTS, BLOCK), tl.float32)
        if BACKWARD:
            for r in tl.static_range(RUN - 1, -1, -1):
                map_a, map_b = then(map_a, map_b, keep_re[r], tl.where(keep_re[r] == 0.0, 0.0, keep_re[r] * add_re[r]))
        else:
            for r in tl.static_range(RUN):
                map_a, map_b = then(map_a, map_b, keep_re[r], add_re[r])
        map_a, map_b, before_a, before_b = scan_maps(map_a, map_b, BACKWARD)
        own = slot + place * stride
        if REACH > 0:
            publish(maps + own, map_a, edge)
            publish(maps + own + plane, map_b, edge)
        if BACKWARD:
            start_re = tl.zeros((1, BLOCK), tl.float32)
        else:
            start_re = tl.load(start, mask=mask, other=0.0).to(tl.float32)
        start_re = first_state(ends + slot, maps + slot, plane, place, stride, mask, start_re, REACH)
        end_re = after(map_a, map_b, start_re)
        publish(ends + own, end_re, edge)
        h_re = after(before_a, before_b, start_re)

    if not BACKWARD:
        for r in tl.static_range(RUN):
            t = segment * RUN + r
            here = (t < left) & mask
            if COMPLEX:
                h_re, h_im = after_complex(keep_re[r], keep_im[r], add_re[r], add_im[r], h_re, h_im)
                tl.store(out + (t * width * SIZE + 1), h_im, mask=here)
            else:
                h_re = after(keep_re[r], add_re[r], h_re)
            tl.store(out + t * width * SIZE, h_re.to(h.dtype.element_ty), mask=here)
    else:
        end = last + (sequence.to(tl.int64) * width + column) * SIZE
        if chunk == 0:
            tl.store(tl.broadcast_to(end, end_re.shape), end_re.to(last.dtype.element_ty), mask=edge)
            if COMPLEX:
                tl.store(tl.broadcast_to(end + 1, end_im.shape), end_im, mask=edge)
        for r in tl.static_range(RUN - 1, -1, -1):
            t = segment * RUN + r
            here = (t < left) & mask
            offset = t * width * SIZE
            g_re = add_re[r] + h_re  # h_re, h_im: the carry c_{t+1}
            tl.store(out + offset, g_re.to(h.dtype.element_ty), mask=here)
            if COMPLEX:
                g_im = add_im[r] + h_im
                tl.store(out + (offset + 1), g_im, mask=here)
                zero = tl.zeros((SEGMENTS, BLOCK), tl.float32)
                h_re, h_im = after_complex(keep_re[r], keep_im[r], zero, zero, g_re, g_im)
            else:
                h_re = tl.where(keep_re[r] == 0.0, 0.0, keep_re[r] * g_re)
            if GRAD_A:
                # h_{t-1}: the forward result one row up, and the initial state above the first row
                above = past + ((row + t - 1) * width + column) * SIZE
                top = past_initial + (sequence.to(tl.int64) * width + column) * SIZE
                source = tl.where(first + t == 0, top, above)
                before = tl.load(source, mask=here, other=0.0).to(tl.float32)
                target = grad_a + (row * width + column) * SIZE + offset
                if COMPLEX:
                    before_im = tl.load(source + 1, mask=here, other=0.0)
                    cut = (keep_re[r] == 0.0) & (keep_im[r] == 0.0)
                    lost = cut & ((before - before != 0.0) | (before_im - before_im != 0.0))
                    tl.store(target, tl.where(lost, 0.0, g_re * before + g_im * before_im), mask=here)
                    tl.store(target + 1, tl.where(lost, 0.0, g_im * before - g_re * before_im), mask=here)
                else:
                    lost = (keep_re[r] == 0.0) & (before - before != 0.0)
                    value = tl.where(lost, 0.0, g_re * before)
                    tl.store(target, value.to(grad_a.dtype.element_ty), mask=here)


def _numbers(x: Tensor) -> Tensor:
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def _run(
    a: Tensor, b: Tensor, initial: Tensor, h: Tensor, past: Tensor, grad_a: Tensor | None, last: Tensor, backward: bool
) -> None:
    batch, time, width = b.shape
    segments, run = _SEGMENTS, _RUN
    while segments > 1 and segments * run >= 2 * time:
        segments //= 2
    block = min(32 if b.is_complex() else 64, triton.next_power_of_2(width))
    groups, places = triton.cdiv(width, block), triton.cdiv(time, segments * run)
    reach = 4 if places > _REACH_FROM else 0
    numbers = batch * places * width * (2 if b.is_complex() else 1)
    ends, tickets = empty_words(numbers, device=b.device), empty_words(1, device=b.device)
    maps = empty_words(2 * numbers, device=b.device) if reach else ends
    with torch.cuda.device_of(b):
        recurrence_kernel[(groups * batch * places,)](
            *map(_numbers, (a, b, initial, h, past, initial, h if grad_a is None else grad_a, last)),
            ends, maps, tickets, batch, time, places, groups, numbers, width, *a.stride(), *b.stride(),
            COMPLEX=b.is_complex(), BACKWARD=backward, GRAD_A=grad_a is not None, BLOCK=block,
            SEGMENTS=segments, RUN=run, REACH=reach, num_warps=min(_WARPS, segments),
        )  # fmt: skip


@torch.library.custom_op("mcsd::linear_recurrence", mutates_args=())
def _forward(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    h = torch.empty_like(b, memory_format=torch.contiguous_format)
    if b.numel():
        _run(a, b, h0.contiguous(), h, h, None, h, backward=False)
    return h


@_forward.register_fake
def _(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    return torch.empty_like(b, memory_format=torch.contiguous_format)


@torch.library.custom_op("mcsd::linear_recurrence_backward", mutates_args=())
def _backward(grad: Tensor, a: Tensor, h: Tensor, h0: Tensor, needs_a: bool) -> tuple[Tensor, Tensor, Tensor]:
    """dL/da (empty unless `needs_a`), dL/db and dL/dh0."""
    grad_a, grad_b, grad_h0 = _gradients_like(grad, a, h, h0, needs_a)
    if grad.numel():
        _run(a, grad, h0.contiguous(), grad_b, h, grad_a if needs_a else None, grad_h0, backward=True)
    else:
        grad_h0.zero_()
    return grad_a, grad_b, grad_h0


@_backward.register_fake
def _gradients_like(grad: Tensor, a: Tensor, h: Tensor, h0: Tensor, needs_a: bool) -> tuple[Tensor, Tensor, Tensor]:
    grad_a = h.new_empty(h.shape if needs_a else (0,), dtype=a.dtype)
    return grad_a, torch.empty_like(h), torch.empty_like(h0, memory_format=torch.contiguous_format)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0], output, inputs[2])


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
    if torch.is_grad_enabled():
        raise RuntimeError("linear_recurrence has no second derivative; use sequential_recurrence")
    needs_a = ctx.needs_input_grad[0]
    grad_a, grad_b, grad_h0 = _backward(grad.resolve_conj(), *ctx.saved_tensors, needs_a)
    return grad_a if needs_a else None, grad_b, grad_h0


_forward.register_autograd(_differentiate, setup_context=_keep)


def linear_recurrence(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """h `(batch, time, dim)` from `a` and `b` of that shape and `h0` `(batch, dim)`; `a` may be an expanded view.

    `b` has one of `DTYPES`; `a` and `h0` have it too or are converted. There is no second derivative: RuntimeError.
    """
    return _forward(a.to(b.dtype).expand_as(b).resolve_conj(), b.resolve_conj(), h0.to(b.dtype))
