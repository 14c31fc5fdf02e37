"""Triton kernels of the decay section that rotates: h_t = γ e^{iθ} h_{t-1} + s v_t, complex, per pair of features.

Built as `cuda_real_section`, see there; real and imaginary parts are separate blocks, since a channel holds all its
real parts first. Gradients are written as complex numbers too, G = dL/dRe + i dL/dIm: with g_t = d_t + c_{t+1},

    c_t = conj(λ) g_t,    dL/dv_t = s g_t,    dL/ds = Σ Re(conj(g_t) v_t),
    q_t = λ h_{t-1}:      dL/d(-log γ) = -Σ Re(conj(g_t) q_t),    dL/dθ = Σ Re(conj(g_t) i q_t)

where nothing is divided by λ; at an episode start q_t and c_t are 0.
"""

# Triton's language knows neither `(*x, y)` nor conditional expressions between blocks of different shapes, and its
# tensors and growing tuples have no types that mypy could follow.
# ruff: noqa: RUF005
# mypy: disable-error-code="assignment, var-annotated"

from __future__ import annotations

import triton
import triton.language as tl

from mcsd_agent.kernels.cuda_arithmetic import channel_sum, load_where, per_feature, sigmoid, store_where
from mcsd_agent.kernels.cuda_chain import (
    SIZES,
    after_complex,
    first_state_complex,
    publish,
    scan_maps_complex,
    take_ticket,
)

_EPSILON = tl.constexpr(1e-6)


@triton.jit
def times(a_re, a_im, b_re, b_im):
    """The product of two complex numbers."""
    return a_re * b_re - a_im * b_im, a_re * b_im + a_im * b_re


@triton.jit(do_not_specialize=SIZES)
def rotating_forward(
    projected,
    state,
    starts,
    rate,
    angle,
    scale,
    norm_weight,
    gated,
    saved,
    ends,
    maps,
    tickets,
    batch,
    time,
    places,
    groups,
    projected_batch,
    projected_time,
    starts_batch,
    starts_time,
    plane,
    WIDTH: tl.constexpr,
    HALF: tl.constexpr,
    GROUP: tl.constexpr,
    HALF_BLOCK: tl.constexpr,
    STARTS: tl.constexpr,
    SEGMENTS: tl.constexpr,
    RUN: tl.constexpr,
    REACH: tl.constexpr,
    EVEN: tl.constexpr,
    MARK: tl.constexpr,
):
    """As `real_forward`; `HALF` pairs to a channel."""
    group, sequence, place = take_ticket(tickets, groups, batch)
    BLOCK: tl.constexpr = GROUP * HALF_BLOCK
    feature = tl.arange(0, BLOCK)[None, :]
    channel = group * GROUP + feature // HALF_BLOCK
    inside = feature % HALF_BLOCK
    column = channel * (2 * HALF) + inside  # of the real part; the imaginary part is HALF further
    mask = (inside < HALF) & (column < WIDTH)
    ALL: tl.constexpr = EVEN and HALF_BLOCK == HALF and WIDTH % (2 * BLOCK) == 0  # nothing is masked
    segment = tl.arange(0, SEGMENTS)[:, None]
    sequence = sequence.to(tl.int64)

    first = place * (SEGMENTS * RUN)
    left = time - first
    first = first.to(tl.int64)
    x = projected + sequence * projected_batch + first * projected_time + column
    pair = channel * HALF + inside
    gamma = tl.exp(-tl.load(rate + pair, mask=mask, other=0.0))
    theta = tl.load(angle + pair, mask=mask, other=0.0)
    turn_re = gamma * tl.cos(theta)
    turn_im = gamma * tl.sin(theta)
    scaling = tl.load(scale + pair, mask=mask, other=0.0)

    values_re = ()
    values_im = ()
    for r in tl.static_range(RUN):
        t = segment * RUN + r
        here = (t < left) & mask
        words = x + t.to(tl.int64) * projected_time + 3 * WIDTH
        values_re = values_re + (load_where(words, here, 0.0, ALL),)
        values_im = values_im + (load_where(words + HALF, here, 0.0, ALL),)

    begins = ()
    a_re = tl.full((SEGMENTS, BLOCK), 1.0, tl.float32)
    a_im = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    b_re = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    b_im = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    for r in tl.static_range(RUN):
        t = segment * RUN + r
        step_re = turn_re
        step_im = turn_im
        if not EVEN:  # beyond the last token the state passes
            step_re = tl.where(t < left, turn_re, 1.0)
            step_im = tl.where(t < left, turn_im, 0.0)
        if STARTS:  # an exact 0, also of inf and nan
            words = starts + sequence * starts_batch + (first + t) * starts_time
            begin = load_where(words, t < left, 0, EVEN) != 0
            begins = begins + (begin,)
            a_re = tl.where(begin, 0.0, a_re)
            a_im = tl.where(begin, 0.0, a_im)
            b_re = tl.where(begin, 0.0, b_re)
            b_im = tl.where(begin, 0.0, b_im)
        a_re, a_im = times(step_re, step_im, a_re, a_im)
        b_re, b_im = times(step_re, step_im, b_re, b_im)
        b_re += scaling * values_re[r].to(tl.float32)
        b_im += scaling * values_im[r].to(tl.float32)
    a_re, a_im, b_re, b_im, p_re, p_im, q_re, q_im = scan_maps_complex(a_re, a_im, b_re, b_im, False)
    edge = (segment == SEGMENTS - 1) & mask

    slot = sequence * places * WIDTH + column
    own = slot + place * WIDTH
    if REACH > 0:
        publish(maps + own, a_re, edge)
        publish(maps + own + HALF, a_im, edge)
        publish(maps + own + plane, b_re, edge)
        publish(maps + own + plane + HALF, b_im, edge)
    gates_re = ()
    gates_im = ()
    for r in tl.static_range(RUN):
        t = segment * RUN + r
        here = (t < left) & mask
        words = x + t.to(tl.int64) * projected_time + WIDTH
        gates_re = gates_re + (load_where(words, here, 0.0, ALL),)
        gates_im = gates_im + (load_where(words + HALF, here, 0.0, ALL),)
    w_re = tl.load(norm_weight + WIDTH + column, mask=mask, other=0.0)
    w_im = tl.load(norm_weight + WIDTH + HALF + column, mask=mask, other=0.0)
    initial = state + sequence * (2 * WIDTH) + WIDTH + column
    initial_re = tl.load(initial, mask=mask, other=0.0)
    initial_im = tl.load(initial + HALF, mask=mask, other=0.0)
    begin_re, begin_im = first_state_complex(
        ends + slot, ends + slot + HALF, maps + slot, maps + slot + HALF, plane, place, WIDTH, mask,
        initial_re, initial_im, REACH,
    )  # fmt: skip
    end_re, end_im = after_complex(a_re, a_im, b_re, b_im, begin_re, begin_im)
    publish(ends + own, end_re, edge)
    publish(ends + own + HALF, end_im, edge)

    h_re, h_im = after_complex(p_re, p_im, q_re, q_im, begin_re, begin_im)
    marks = saved + ((sequence * places + place) * (SEGMENTS * RUN // MARK) + segment * RUN // MARK) * WIDTH + column
    marked = (segment * RUN % MARK == 0) & mask
    tl.store(marks, h_re, mask=marked)
    tl.store(marks + HALF, h_im, mask=marked)
    out = gated + (sequence * time + first) * (2 * WIDTH) + WIDTH + column
    for r in tl.static_range(RUN):
        t = segment * RUN + r
        here = (t < left) & mask
        if STARTS:
            h_re = tl.where(begins[r], 0.0, h_re)
            h_im = tl.where(begins[r], 0.0, h_im)
        h_re, h_im = times(turn_re, turn_im, h_re, h_im)
        h_re += scaling * values_re[r].to(tl.float32)
        h_im += scaling * values_im[r].to(tl.float32)
        mean = channel_sum(h_re * h_re + h_im * h_im, GROUP, HALF_BLOCK) * (0.5 / HALF)
        inverse = per_feature(tl.rsqrt(mean + _EPSILON), GROUP, HALF_BLOCK)
        u_re = gates_re[r].to(tl.float32)
        u_im = gates_im[r].to(tl.float32)
        y_re = u_re * sigmoid(u_re) * (h_re * inverse * w_re)
        y_im = u_im * sigmoid(u_im) * (h_im * inverse * w_im)
        words = out + t.to(tl.int64) * (2 * WIDTH)
        store_where(words, y_re, here, ALL)
        store_where(words + HALF, y_im, here, ALL)


@triton.jit(do_not_specialize=SIZES)
def rotating_backward(
    grad_gated,
    grad_final,
    projected,
    starts,
    rate,
    angle,
    scale,
    norm_weight,
    saved,
    marks,
    grad_projected,
    grad_state,
    partial,
    ends,
    maps,
    tickets,
    batch,
    time,
    places,
    groups,
    grad_batch,
    grad_time,
    projected_batch,
    projected_time,
    starts_batch,
    starts_time,
    plane,
    WIDTH: tl.constexpr,
    BRANCHES: tl.constexpr,
    PARTIAL: tl.constexpr,
    HALF: tl.constexpr,
    GROUP: tl.constexpr,
    HALF_BLOCK: tl.constexpr,
    STARTS: tl.constexpr,
    SEGMENTS: tl.constexpr,
    RUN: tl.constexpr,
    REACH: tl.constexpr,
    EVEN: tl.constexpr,
    RATIO: tl.constexpr,
):
    """As `real_backward`; a row of `partial`: norm_weight (WIDTH), then -log γ, θ and the scale (WIDTH / 2 each)."""
    group, sequence, place = take_ticket(tickets, groups, batch)
    chunk = places - 1 - place
    BLOCK: tl.constexpr = GROUP * HALF_BLOCK
    feature = tl.arange(0, BLOCK)[None, :]
    channel = group * GROUP + feature // HALF_BLOCK
    inside = feature % HALF_BLOCK
    column = channel * (2 * HALF) + inside
    mask = (inside < HALF) & (column < WIDTH)
    ALL: tl.constexpr = EVEN and HALF_BLOCK == HALF and WIDTH % (2 * BLOCK) == 0  # nothing is masked
    segment = tl.arange(0, SEGMENTS)[:, None]
    sequence = sequence.to(tl.int64)

    first = chunk * (SEGMENTS * RUN)
    left = time - first
    first = first.to(tl.int64)
    x = projected + sequence * projected_batch + first * projected_time + column
    dy = grad_gated + sequence * grad_batch + first * grad_time + column
    pair = channel * HALF + inside
    gamma = tl.exp(-tl.load(rate + pair, mask=mask, other=0.0))
    theta = tl.load(angle + pair, mask=mask, other=0.0)
    turn_re = gamma * tl.cos(theta)
    turn_im = gamma * tl.sin(theta)
    scaling = tl.load(scale + pair, mask=mask, other=0.0)
    w_re = tl.load(norm_weight + WIDTH + column, mask=mask, other=0.0)
    w_im = tl.load(norm_weight + WIDTH + HALF + column, mask=mask, other=0.0)
    slot = sequence * places * WIDTH + column
    own = slot + place * WIDTH
    source = saved + (sequence * marks + chunk * RATIO) * WIDTH + column
    begin_re = tl.load(source, mask=mask, other=0.0)
    begin_im = tl.load(source + HALF, mask=mask, other=0.0)

    values_re = ()
    values_im = ()
    gates_re = ()
    gates_im = ()
    outer_re = ()
    outer_im = ()
    for r in tl.static_range(RUN):
        t = segment * RUN + r
        here = (t < left) & mask
        words = x + t.to(tl.int64) * projected_time + 3 * WIDTH
        values_re = values_re + (load_where(words, here, 0.0, ALL),)
        values_im = values_im + (load_where(words + HALF, here, 0.0, ALL),)
    for r in tl.static_range(RUN):
        t = segment * RUN + r
        here = (t < left) & mask
        words = x + t.to(tl.int64) * projected_time + WIDTH
        gates_re = gates_re + (load_where(words, here, 0.0, ALL),)
        gates_im = gates_im + (load_where(words + HALF, here, 0.0, ALL),)
        words = dy + t.to(tl.int64) * grad_time + WIDTH
        outer_re = outer_re + (load_where(words, here, 0.0, ALL),)
        outer_im = outer_im + (load_where(words + HALF, here, 0.0, ALL),)

    begins = ()
    a_re = tl.full((SEGMENTS, BLOCK), 1.0, tl.float32)
    a_im = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    b_re = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    b_im = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    for r in tl.static_range(RUN):
        t = segment * RUN + r
        step_re = turn_re
        step_im = turn_im
        if not EVEN:  # beyond the last token the state passes
            step_re = tl.where(t < left, turn_re, 1.0)
            step_im = tl.where(t < left, turn_im, 0.0)
        if STARTS:  # an exact 0, also of inf and nan
            words = starts + sequence * starts_batch + (first + t) * starts_time
            begin = load_where(words, t < left, 0, EVEN) != 0
            begins = begins + (begin,)
            a_re = tl.where(begin, 0.0, a_re)
            a_im = tl.where(begin, 0.0, a_im)
            b_re = tl.where(begin, 0.0, b_re)
            b_im = tl.where(begin, 0.0, b_im)
        a_re, a_im = times(step_re, step_im, a_re, a_im)
        b_re, b_im = times(step_re, step_im, b_re, b_im)
        b_re += scaling * values_re[r].to(tl.float32)
        b_im += scaling * values_im[r].to(tl.float32)
    a_re, a_im, b_re, b_im, p_re, p_im, q_re, q_im = scan_maps_complex(a_re, a_im, b_re, b_im, False)
    h_re, h_im = after_complex(p_re, p_im, q_re, q_im, begin_re, begin_im)

    grads_re = ()
    grads_im = ()
    past_re = ()  # q_t
    past_im = ()
    weight_re = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    weight_im = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    out = grad_projected + (sequence * time + first) * (BRANCHES * WIDTH) + column
    for r in tl.static_range(RUN):
        t = segment * RUN + r
        here = (t < left) & mask
        if STARTS:
            h_re = tl.where(begins[r], 0.0, h_re)
            h_im = tl.where(begins[r], 0.0, h_im)
        q_re, q_im = times(turn_re, turn_im, h_re, h_im)
        past_re = past_re + (q_re,)
        past_im = past_im + (q_im,)
        h_re = q_re + scaling * values_re[r].to(tl.float32)
        h_im = q_im + scaling * values_im[r].to(tl.float32)
        mean = channel_sum(h_re * h_re + h_im * h_im, GROUP, HALF_BLOCK) * (0.5 / HALF)
        inverse = per_feature(tl.rsqrt(mean + _EPSILON), GROUP, HALF_BLOCK)
        n_re = h_re * inverse
        n_im = h_im * inverse
        u_re = gates_re[r].to(tl.float32)
        u_im = gates_im[r].to(tl.float32)
        s_re = sigmoid(u_re)
        s_im = sigmoid(u_im)
        d_re = outer_re[r].to(tl.float32)
        d_im = outer_im[r].to(tl.float32)
        both_re = d_re * n_re
        both_im = d_im * n_im
        silu_re = u_re * s_re
        silu_im = u_im * s_im
        words = out + t.to(tl.int64) * (BRANCHES * WIDTH) + WIDTH
        store_where(words, both_re * w_re * (s_re + silu_re * (1.0 - s_re)), here, ALL)
        store_where(words + HALF, both_im * w_im * (s_im + silu_im * (1.0 - s_im)), here, ALL)
        weight_re += both_re * silu_re
        weight_im += both_im * silu_im
        d_re = d_re * w_re * silu_re
        d_im = d_im * w_im * silu_im
        along = per_feature(channel_sum(d_re * n_re + d_im * n_im, GROUP, HALF_BLOCK), GROUP, HALF_BLOCK) * (0.5 / HALF)
        grads_re = grads_re + (inverse * (d_re - n_re * along),)
        grads_im = grads_im + (inverse * (d_im - n_im * along),)

    a_re = tl.full((SEGMENTS, BLOCK), 1.0, tl.float32)
    a_im = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    b_re = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    b_im = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    for r in tl.static_range(RUN - 1, -1, -1):
        t = segment * RUN + r
        step_re = turn_re
        step_im = -turn_im
        if not EVEN:
            step_re = tl.where(t < left, turn_re, 1.0)
            step_im = tl.where(t < left, -turn_im, 0.0)
        a_re, a_im = times(step_re, step_im, a_re, a_im)
        b_re, b_im = times(step_re, step_im, grads_re[r] + b_re, grads_im[r] + b_im)
        if STARTS:
            a_re = tl.where(begins[r], 0.0, a_re)
            a_im = tl.where(begins[r], 0.0, a_im)
            b_re = tl.where(begins[r], 0.0, b_re)
            b_im = tl.where(begins[r], 0.0, b_im)
    a_re, a_im, b_re, b_im, p_re, p_im, q_re, q_im = scan_maps_complex(a_re, a_im, b_re, b_im, True)
    edge = (segment == 0) & mask
    if REACH > 0:
        publish(maps + own, a_re, edge)
        publish(maps + own + HALF, a_im, edge)
        publish(maps + own + plane, b_re, edge)
        publish(maps + own + plane + HALF, b_im, edge)
    final = grad_final + sequence * (2 * WIDTH) + WIDTH + column
    final_re = tl.load(final, mask=mask, other=0.0)
    final_im = tl.load(final + HALF, mask=mask, other=0.0)
    begin_re, begin_im = first_state_complex(
        ends + slot, ends + slot + HALF, maps + slot, maps + slot + HALF, plane, place, WIDTH, mask,
        final_re, final_im, REACH,
    )  # fmt: skip
    end_re, end_im = after_complex(a_re, a_im, b_re, b_im, begin_re, begin_im)
    publish(ends + own, end_re, edge)
    publish(ends + own + HALF, end_im, edge)
    grad_initial = grad_state + sequence * (2 * WIDTH) + WIDTH + column
    if chunk == 0:
        tl.store(tl.broadcast_to(grad_initial, end_re.shape), end_re, mask=edge)
        tl.store(tl.broadcast_to(grad_initial + HALF, end_im.shape), end_im, mask=edge)

    c_re, c_im = after_complex(p_re, p_im, q_re, q_im, begin_re, begin_im)
    grad_rate = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    grad_angle = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    grad_scale = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    for r in tl.static_range(RUN - 1, -1, -1):
        t = segment * RUN + r
        here = (t < left) & mask
        g_re = grads_re[r] + c_re
        g_im = grads_im[r] + c_im
        if EVEN:
            c_re, c_im = times(turn_re, -turn_im, g_re, g_im)
        else:  # beyond the last token the carry passes, and it does not count
            over_re, over_im = times(turn_re, -turn_im, g_re, g_im)
            c_re = tl.where(t < left, over_re, c_re)
            c_im = tl.where(t < left, over_im, c_im)
            g_re = tl.where(t < left, g_re, 0.0)
            g_im = tl.where(t < left, g_im, 0.0)
        if STARTS:
            c_re = tl.where(begins[r], 0.0, c_re)
            c_im = tl.where(begins[r], 0.0, c_im)
        grad_rate -= g_re * past_re[r] + g_im * past_im[r]
        grad_angle += g_im * past_re[r] - g_re * past_im[r]
        grad_scale += g_re * values_re[r].to(tl.float32) + g_im * values_im[r].to(tl.float32)
        words = out + t.to(tl.int64) * (BRANCHES * WIDTH) + 3 * WIDTH
        store_where(words, (scaling * g_re), here, ALL)
        store_where(words + HALF, (scaling * g_im), here, ALL)

    sums = partial + (sequence * places + chunk) * PARTIAL
    tl.store(sums + column, tl.sum(weight_re, 0, keep_dims=True), mask=mask)
    tl.store(sums + HALF + column, tl.sum(weight_im, 0, keep_dims=True), mask=mask)
    sums = sums + WIDTH + pair
    tl.store(sums, tl.sum(grad_rate, 0, keep_dims=True), mask=mask)
    tl.store(sums + WIDTH // 2, tl.sum(grad_angle, 0, keep_dims=True), mask=mask)
    tl.store(sums + 2 * (WIDTH // 2), tl.sum(grad_scale, 0, keep_dims=True), mask=mask)
