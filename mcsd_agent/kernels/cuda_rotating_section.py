"""The decay section that rotates, in Triton: h_t = γ e^{iθ} h_{t-1} + s v_t, complex, per pair of features.

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

from mcsd_agent.kernels.cuda_arithmetic import (
    channel_sum,
    load_rows,
    load_starts,
    load_where,
    per_feature,
    sigmoid,
    store_where,
    wide,
)
from mcsd_agent.kernels.cuda_chain import after_complex, first_state_complex, publish, scan_maps_complex
from mcsd_agent.kernels.cuda_real_section import marks_of

_EPSILON = tl.constexpr(1e-6)


@triton.jit
def times(a_re, a_im, b_re, b_im):
    """The product of two complex numbers."""
    return a_re * b_re - a_im * b_im, a_re * b_im + a_im * b_re


@triton.jit
def times_plus(a_re, a_im, b_re, b_im, c_re, c_im):
    """a b + c, in two fused operations each."""
    return tl.fma(a_re, b_re, tl.fma(-a_im, b_im, c_re)), tl.fma(a_re, b_im, tl.fma(a_im, b_re, c_im))


@triton.jit
def pairs(group, WIDTH: tl.constexpr, HALF: tl.constexpr, GROUP: tl.constexpr, HALF_BLOCK: tl.constexpr):
    """The columns of the real parts (imaginary parts are `HALF` further), the numbers of the pairs, which exist."""
    feature = tl.arange(0, GROUP * HALF_BLOCK)[None, :]
    channel = group * GROUP + feature // HALF_BLOCK
    inside = feature % HALF_BLOCK
    column = channel * (2 * HALF) + inside
    return column, channel * HALF + inside, (inside < HALF) & (column < WIDTH)


@triton.jit
def turns(rate, angle, scale, pair, mask):
    """λ = γ e^{iθ} and the scale of the inputs."""
    gamma = tl.exp(-tl.load(rate + pair, mask=mask, other=0.0))
    theta = tl.load(angle + pair, mask=mask, other=0.0)
    return gamma * tl.cos(theta), gamma * tl.sin(theta), tl.load(scale + pair, mask=mask, other=0.0)


@triton.jit
def over_stretches(
    turn_re, turn_im, begins, segment, left, STARTS: tl.constexpr, RUN: tl.constexpr, EVEN: tl.constexpr
):
    """What each segment multiplies a state by: λ^RUN (fewer at the end of the sequence), and 0 over a start."""
    re = tl.broadcast_to(turn_re, (segment.shape[0], turn_re.shape[1]))
    im = tl.broadcast_to(turn_im, re.shape)
    if EVEN:
        for i in tl.static_range(5):
            if 2 << i <= RUN:  # RUN is a power of 2
                re, im = times(re, im, re, im)
    else:
        a_re = tl.full(re.shape, 1.0, tl.float32)
        a_im = tl.zeros(re.shape, tl.float32)
        for r in tl.static_range(RUN):
            next_re, next_im = times(turn_re, turn_im, a_re, a_im)
            inside = segment * RUN + r < left  # beyond the last token the state passes
            a_re = tl.where(inside, next_re, a_re)
            a_im = tl.where(inside, next_im, a_im)
        re = a_re
        im = a_im
    if STARTS:
        begun = begins[0]
        for r in tl.static_range(1, RUN):
            begun = begun | begins[r]
        re = tl.where(begun, 0.0, re)
        im = tl.where(begun, 0.0, im)
    return re, im


@triton.jit
def rotating_stretches(
    values_re, values_im, begins, turn_re, turn_im, scaling, segment, left,
    STARTS: tl.constexpr, RUN: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    """What each segment does to a state, (a, b) as real and imaginary parts."""
    a_re, a_im = over_stretches(turn_re, turn_im, begins, segment, left, STARTS, RUN, EVEN)
    b_re = tl.zeros(values_re[0].shape, tl.float32)
    b_im = tl.zeros(values_re[0].shape, tl.float32)
    for r in tl.static_range(RUN):
        if STARTS:  # an exact 0, also of inf and nan
            b_re = tl.where(begins[r], 0.0, b_re)
            b_im = tl.where(begins[r], 0.0, b_im)
        next_re, next_im = times_plus(
            turn_re, turn_im, b_re, b_im, scaling * wide(values_re[r]), scaling * wide(values_im[r])
        )
        if not EVEN:
            next_re = tl.where(segment * RUN + r < left, next_re, b_re)
            next_im = tl.where(segment * RUN + r < left, next_im, b_im)
        b_re = next_re
        b_im = next_im
    return a_re, a_im, b_re, b_im


@triton.jit
def rotating_forward(
    projected, state, starts, rate, angle, scale, norm_weight, gated, final, saved, ends, maps,
    group, sequence, place, time, places, marks, plane,
    WIDTH: tl.constexpr, BRANCHES: tl.constexpr, HALF: tl.constexpr, GROUP: tl.constexpr, HALF_BLOCK: tl.constexpr,
    STARTS: tl.constexpr, SEGMENTS: tl.constexpr, RUN: tl.constexpr, REACH: tl.constexpr, EVEN: tl.constexpr,
    MARK: tl.constexpr,
):  # fmt: skip
    """As `real_forward`; `HALF` pairs to a channel."""
    BLOCK: tl.constexpr = GROUP * HALF_BLOCK
    ROW: tl.constexpr = BRANCHES * WIDTH
    ALL: tl.constexpr = EVEN and HALF_BLOCK == HALF and WIDTH % (2 * BLOCK) == 0  # nothing is masked
    column, pair, mask = pairs(group, WIDTH, HALF, GROUP, HALF_BLOCK)
    segment = tl.arange(0, SEGMENTS)[:, None]
    first = place * (SEGMENTS * RUN)
    left = time - first
    row = sequence * time + first
    x = projected + row * ROW + (segment * (RUN * ROW) + column)

    values_re = load_rows(x + 3 * WIDTH, ROW, segment, left, mask, 0.0, RUN, ALL)
    values_im = load_rows(x + (3 * WIDTH + HALF), ROW, segment, left, mask, 0.0, RUN, ALL)
    begins = load_starts(starts + row, segment, left, STARTS, RUN, EVEN)
    turn_re, turn_im, scaling = turns(rate, angle, scale, pair, mask)
    a_re, a_im, b_re, b_im = rotating_stretches(
        values_re, values_im, begins, turn_re, turn_im, scaling, segment, left, STARTS, RUN, EVEN
    )
    a_re, a_im, b_re, b_im, p_re, p_im, q_re, q_im = scan_maps_complex(a_re, a_im, b_re, b_im, False)
    edge = (segment == SEGMENTS - 1) & mask

    slot = sequence * places * WIDTH + column
    own = slot + place * WIDTH
    if REACH > 0:
        publish(maps + own, a_re, edge)
        publish(maps + own + HALF, a_im, edge)
        publish(maps + own + plane, b_re, edge)
        publish(maps + own + plane + HALF, b_im, edge)
    gates_re = load_rows(x + WIDTH, ROW, segment, left, mask, 0.0, RUN, ALL)
    gates_im = load_rows(x + (WIDTH + HALF), ROW, segment, left, mask, 0.0, RUN, ALL)
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
    if place == places - 1:
        last = final + sequence * (2 * WIDTH) + WIDTH + column
        tl.store(tl.broadcast_to(last, end_re.shape), end_re, mask=edge)
        tl.store(tl.broadcast_to(last + HALF, end_im.shape), end_im, mask=edge)

    h_re, h_im = after_complex(p_re, p_im, q_re, q_im, begin_re, begin_im)
    mark, marked = marks_of(saved, sequence, marks, first, segment, column, WIDTH, RUN, MARK)
    out = gated + row * (2 * WIDTH) + (segment * (RUN * 2 * WIDTH) + WIDTH + column)
    for r in tl.static_range(RUN):
        here = (segment * RUN + r < left) & mask
        if r % MARK == 0:
            store_where(mark + r // MARK * WIDTH, h_re, here & marked, ALL and MARK <= RUN)
            store_where(mark + (r // MARK * WIDTH + HALF), h_im, here & marked, ALL and MARK <= RUN)
        if STARTS:
            h_re = tl.where(begins[r], 0.0, h_re)
            h_im = tl.where(begins[r], 0.0, h_im)
        h_re, h_im = times_plus(
            turn_re, turn_im, h_re, h_im, scaling * wide(values_re[r]), scaling * wide(values_im[r])
        )
        mean = channel_sum(h_re * h_re + h_im * h_im, GROUP, HALF_BLOCK) * (0.5 / HALF)
        inverse = per_feature(tl.rsqrt(mean + _EPSILON), GROUP, HALF_BLOCK)
        u_re = wide(gates_re[r])
        u_im = wide(gates_im[r])
        y_re = u_re * sigmoid(u_re) * (h_re * inverse * w_re)
        y_im = u_im * sigmoid(u_im) * (h_im * inverse * w_im)
        store_where(out + r * (2 * WIDTH), y_re, here, ALL)
        store_where(out + (r * (2 * WIDTH) + HALF), y_im, here, ALL)


@triton.jit
def rotating_backward(
    grad_gated, grad_final, projected, starts, rate, angle, scale, norm_weight, saved,
    grad_projected, grad_state, partial, ends, maps,
    group, sequence, place, time, places, marks, plane,
    WIDTH: tl.constexpr, BRANCHES: tl.constexpr, OFFSET: tl.constexpr, HALF: tl.constexpr, GROUP: tl.constexpr,
    HALF_BLOCK: tl.constexpr, STARTS: tl.constexpr, SEGMENTS: tl.constexpr, RUN: tl.constexpr, REACH: tl.constexpr,
    EVEN: tl.constexpr,
):  # fmt: skip
    """As `real_backward`; from `OFFSET` on `partial` receives -log γ, θ and the scale, WIDTH / 2 each."""
    chunk = places - 1 - place
    BLOCK: tl.constexpr = GROUP * HALF_BLOCK
    ROW: tl.constexpr = BRANCHES * WIDTH
    ALL: tl.constexpr = EVEN and HALF_BLOCK == HALF and WIDTH % (2 * BLOCK) == 0  # nothing is masked
    column, pair, mask = pairs(group, WIDTH, HALF, GROUP, HALF_BLOCK)
    segment = tl.arange(0, SEGMENTS)[:, None]
    first = chunk * (SEGMENTS * RUN)
    left = time - first
    row = sequence * time + first
    within = segment * (RUN * ROW) + column
    x = projected + row * ROW + within
    dy = grad_gated + row * (2 * WIDTH) + (segment * (RUN * 2 * WIDTH) + WIDTH + column)

    values_re = load_rows(x + 3 * WIDTH, ROW, segment, left, mask, 0.0, RUN, ALL)
    values_im = load_rows(x + (3 * WIDTH + HALF), ROW, segment, left, mask, 0.0, RUN, ALL)
    gates_re = load_rows(x + WIDTH, ROW, segment, left, mask, 0.0, RUN, ALL)
    gates_im = load_rows(x + (WIDTH + HALF), ROW, segment, left, mask, 0.0, RUN, ALL)
    outer_re = load_rows(dy, 2 * WIDTH, segment, left, mask, 0.0, RUN, ALL)
    outer_im = load_rows(dy + HALF, 2 * WIDTH, segment, left, mask, 0.0, RUN, ALL)
    begins = load_starts(starts + row, segment, left, STARTS, RUN, EVEN)
    turn_re, turn_im, scaling = turns(rate, angle, scale, pair, mask)
    w_re = tl.load(norm_weight + WIDTH + column, mask=mask, other=0.0)
    w_im = tl.load(norm_weight + WIDTH + HALF + column, mask=mask, other=0.0)
    states = saved + (sequence * marks + chunk) * WIDTH + column
    begin_re = load_where(states, mask, 0.0, ALL)
    begin_im = load_where(states + HALF, mask, 0.0, ALL)
    a_re, a_im, b_re, b_im = rotating_stretches(
        values_re, values_im, begins, turn_re, turn_im, scaling, segment, left, STARTS, RUN, EVEN
    )
    a_re, a_im, b_re, b_im, p_re, p_im, q_re, q_im = scan_maps_complex(a_re, a_im, b_re, b_im, False)
    h_re, h_im = after_complex(p_re, p_im, q_re, q_im, begin_re, begin_im)

    grads_re = ()
    grads_im = ()
    past_re = ()  # q_t
    past_im = ()
    weight_re = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    weight_im = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    out = grad_projected + row * ROW + within
    for r in tl.static_range(RUN):
        here = (segment * RUN + r < left) & mask
        if STARTS:
            h_re = tl.where(begins[r], 0.0, h_re)
            h_im = tl.where(begins[r], 0.0, h_im)
        q_re, q_im = times(turn_re, turn_im, h_re, h_im)
        past_re = past_re + (q_re,)
        past_im = past_im + (q_im,)
        h_re = q_re + scaling * wide(values_re[r])
        h_im = q_im + scaling * wide(values_im[r])
        u_re = wide(gates_re[r])
        u_im = wide(gates_im[r])
        s_re = sigmoid(u_re)
        s_im = sigmoid(u_im)
        silu_re = u_re * s_re
        silu_im = u_im * s_im
        d_re = wide(outer_re[r])
        d_im = wide(outer_im[r])
        pull_re = d_re * silu_re * w_re
        pull_im = d_im * silu_im * w_im
        mean = channel_sum(h_re * h_re + h_im * h_im, GROUP, HALF_BLOCK) * (0.5 / HALF)
        along = channel_sum(pull_re * h_re + pull_im * h_im, GROUP, HALF_BLOCK)
        root = tl.rsqrt(mean + _EPSILON)
        inverse = per_feature(root, GROUP, HALF_BLOCK)
        both_re = d_re * (h_re * inverse)
        both_im = d_im * (h_im * inverse)
        words = out + (r * ROW + WIDTH)
        store_where(words, both_re * w_re * (s_re + silu_re * (1.0 - s_re)), here, ALL)
        store_where(words + HALF, both_im * w_im * (s_im + silu_im * (1.0 - s_im)), here, ALL)
        weight_re += both_re * silu_re
        weight_im += both_im * silu_im
        share = per_feature(along * root * root * (0.5 / HALF), GROUP, HALF_BLOCK)
        grads_re = grads_re + (inverse * (pull_re - h_re * share),)
        grads_im = grads_im + (inverse * (pull_im - h_im * share),)

    a_re, a_im = over_stretches(turn_re, -turn_im, begins, segment, left, STARTS, RUN, EVEN)
    b_re = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    b_im = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    for r in tl.static_range(RUN - 1, -1, -1):
        next_re, next_im = times(turn_re, -turn_im, grads_re[r] + b_re, grads_im[r] + b_im)
        if not EVEN:
            next_re = tl.where(segment * RUN + r < left, next_re, b_re)
            next_im = tl.where(segment * RUN + r < left, next_im, b_im)
        if STARTS:
            next_re = tl.where(begins[r], 0.0, next_re)
            next_im = tl.where(begins[r], 0.0, next_im)
        b_re = next_re
        b_im = next_im
    a_re, a_im, b_re, b_im, p_re, p_im, q_re, q_im = scan_maps_complex(a_re, a_im, b_re, b_im, True)
    edge = (segment == 0) & mask
    slot = sequence * places * WIDTH + column
    own = slot + place * WIDTH
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
    if chunk == 0:
        initial = grad_state + sequence * (2 * WIDTH) + WIDTH + column
        tl.store(tl.broadcast_to(initial, end_re.shape), end_re, mask=edge)
        tl.store(tl.broadcast_to(initial + HALF, end_im.shape), end_im, mask=edge)

    c_re, c_im = after_complex(p_re, p_im, q_re, q_im, begin_re, begin_im)
    grad_rate = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    grad_angle = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    grad_scale = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    for r in tl.static_range(RUN - 1, -1, -1):
        here = (segment * RUN + r < left) & mask
        g_re = grads_re[r] + c_re
        g_im = grads_im[r] + c_im
        if EVEN:
            c_re, c_im = times(turn_re, -turn_im, g_re, g_im)
        else:  # beyond the last token the carry passes, and it does not count
            inside = segment * RUN + r < left
            over_re, over_im = times(turn_re, -turn_im, g_re, g_im)
            c_re = tl.where(inside, over_re, c_re)
            c_im = tl.where(inside, over_im, c_im)
            g_re = tl.where(inside, g_re, 0.0)
            g_im = tl.where(inside, g_im, 0.0)
        if STARTS:
            c_re = tl.where(begins[r], 0.0, c_re)
            c_im = tl.where(begins[r], 0.0, c_im)
        grad_rate -= g_re * past_re[r] + g_im * past_im[r]
        grad_angle += g_im * past_re[r] - g_re * past_im[r]
        grad_scale += g_re * wide(values_re[r]) + g_im * wide(values_im[r])
        words = out + (r * ROW + 3 * WIDTH)
        store_where(words, scaling * g_re, here, ALL)
        store_where(words + HALF, scaling * g_im, here, ALL)

    tl.store(partial + WIDTH + column, tl.sum(weight_re, 0, keep_dims=True), mask=mask)
    tl.store(partial + WIDTH + HALF + column, tl.sum(weight_im, 0, keep_dims=True), mask=mask)
    sums = partial + OFFSET + pair
    tl.store(sums, tl.sum(grad_rate, 0, keep_dims=True), mask=mask)
    tl.store(sums + WIDTH // 2, tl.sum(grad_angle, 0, keep_dims=True), mask=mask)
    tl.store(sums + 2 * (WIDTH // 2), tl.sum(grad_scale, 0, keep_dims=True), mask=mask)
