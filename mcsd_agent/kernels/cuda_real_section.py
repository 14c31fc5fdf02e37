"""Section whose history is real, in Triton: the slope section, and the decay section that does not rotate.

One program computes `SEGMENTS * RUN` tokens of some whole channels of one sequence. Each thread walks through the
`RUN` tokens of its segment alone, and only the segments' maps go through a parallel scan, which keeps that scan,
the costly part, to 1 / RUN of the data. Chunks are linked as `cuda_chain` says. Data passes once.

Backward, with d_t = dL/dh_t of the read-out, g_t = d_t + c_{t+1} and c_t = a_t g_t is what reaches the state before
t: a recurrence of its own, from the last token to the first, whose carry at the first token is dL/dstate.

The functions are parts of the kernels in `cuda_sections`, which says what their arguments are.
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
    selective_weights,
    sigmoid,
    softplus,
    store_where,
    wide,
)
from mcsd_agent.kernels.cuda_chain import after, first_state, publish, scan_maps

_INVERSE_LN2 = tl.constexpr(1.4426950408889634)
_EPSILON = tl.constexpr(1e-6)


@triton.jit
def columns(group, WIDTH: tl.constexpr, CHANNEL_WIDTH: tl.constexpr, GROUP: tl.constexpr, CHANNEL_BLOCK: tl.constexpr):
    """The features of a group of channels, each channel padded to a power of two, and which of them exist."""
    feature = tl.arange(0, GROUP * CHANNEL_BLOCK)[None, :]
    if CHANNEL_BLOCK == CHANNEL_WIDTH:
        column = group * (GROUP * CHANNEL_BLOCK) + feature
        return column, column < WIDTH
    else:
        inside = feature % CHANNEL_BLOCK
        column = (group * GROUP + feature // CHANNEL_BLOCK) * CHANNEL_WIDTH + inside
        return column, (inside < CHANNEL_WIDTH) & (column < WIDTH)


@triton.jit
def real_rates(rate, bias, column, mask, SELECTIVE: tl.constexpr):
    """(m / ln 2, the bias of r) where rates depend on the token, else (a, a)."""
    m = tl.load(rate + column, mask=mask, other=0.0)
    if SELECTIVE:
        return m * _INVERSE_LN2, tl.load(bias + column, mask=mask, other=0.0)
    else:
        fixed = tl.exp(-m)
        return fixed, fixed


@triton.jit
def real_stretches(
    values, rates, begins, m, offset, scaling, segment, left,
    SELECTIVE: tl.constexpr, SCALED: tl.constexpr, STARTS: tl.constexpr, RUN: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    """What each segment does to a state, h_t = a_t h_{t-1} + b_t, and 1 - a_t of every token (empty if fixed)."""
    fresh = ()
    a = tl.full(values[0].shape, 1.0, tl.float32)
    b = tl.zeros(values[0].shape, tl.float32)
    for r in tl.static_range(RUN):
        add = wide(values[r])
        if SELECTIVE:  # beyond the last token a = 1 and b = 0: the state passes
            keep, share = selective_weights(softplus(wide(rates[r]) + offset) * m)
            add = share * add
            fresh = fresh + (share,)
        else:
            keep = m
            if not EVEN:
                keep = tl.where(segment * RUN + r < left, m, 1.0)
            if SCALED:
                add = scaling * add
        if STARTS:  # an exact 0, also of inf and nan
            a = tl.where(begins[r], 0.0, a)
            b = tl.where(begins[r], 0.0, b)
        a = keep * a
        b = keep * b + add
    return a, b, fresh


@triton.jit
def real_next(h, value, fresh, m, scaling, SELECTIVE: tl.constexpr, SCALED: tl.constexpr):
    """The history one token later; an episode start has been applied to `h`."""
    if SELECTIVE:
        return (1.0 - fresh) * h + fresh * value
    elif SCALED:
        return m * h + scaling * value
    else:
        return m * h + value


@triton.jit
def real_forward(
    projected, state, starts, normaliser, rate, bias, scale, norm_weight, gated, final, saved, ends, maps,
    group, sequence, place, time, places, marks, plane,
    SECTION: tl.constexpr, WIDTH: tl.constexpr, BRANCHES: tl.constexpr, CHANNELS: tl.constexpr,
    CHANNEL_WIDTH: tl.constexpr, GROUP: tl.constexpr, CHANNEL_BLOCK: tl.constexpr, SELECTIVE: tl.constexpr,
    SCALED: tl.constexpr, NORMALISED: tl.constexpr, STARTS: tl.constexpr, SEGMENTS: tl.constexpr,
    RUN: tl.constexpr, REACH: tl.constexpr, EVEN: tl.constexpr, MARK: tl.constexpr,
):  # fmt: skip
    """One chunk of the section: `gated`, the states in `saved`, the last one in `ends`, that of all in `final`."""
    BLOCK: tl.constexpr = GROUP * CHANNEL_BLOCK
    ROW: tl.constexpr = BRANCHES * WIDTH
    ALL: tl.constexpr = EVEN and WIDTH % BLOCK == 0 and CHANNEL_BLOCK == CHANNEL_WIDTH  # nothing is masked
    column, mask = columns(group, WIDTH, CHANNEL_WIDTH, GROUP, CHANNEL_BLOCK)
    segment = tl.arange(0, SEGMENTS)[:, None]
    first = place * (SEGMENTS * RUN)
    left = time - first  # tokens from the chunk's first one on
    row = sequence * time + first
    x = projected + row * ROW + (segment * (RUN * ROW) + column)

    values = load_rows(x + (2 + SECTION) * WIDTH, ROW, segment, left, mask, 0.0, RUN, ALL)
    rates = values
    if SELECTIVE:
        rates = load_rows(x + 4 * WIDTH, ROW, segment, left, mask, float("-inf"), RUN, ALL)
    begins = load_starts(starts + row, segment, left, STARTS, RUN, EVEN)
    m, offset = real_rates(rate, bias, column, mask, SELECTIVE)
    scaling = m
    if SCALED:
        scaling = tl.load(scale + column, mask=mask, other=0.0)
    a, b, fresh = real_stretches(
        values, rates, begins, m, offset, scaling, segment, left, SELECTIVE, SCALED, STARTS, RUN, EVEN
    )
    a, b, before_a, before_b = scan_maps(a, b, False)
    edge = (segment == SEGMENTS - 1) & mask

    slot = sequence * places * WIDTH + column
    if REACH > 0:
        publish(maps + slot + place * WIDTH, a, edge)
        publish(maps + slot + plane + place * WIDTH, b, edge)
    gates = load_rows(x + SECTION * WIDTH, ROW, segment, left, mask, 0.0, RUN, ALL)
    w = tl.load(norm_weight + SECTION * WIDTH + column, mask=mask, other=0.0)
    initial = tl.load(state + sequence * (2 * WIDTH) + SECTION * WIDTH + column, mask=mask, other=0.0)
    begin_h = first_state(ends + slot, maps + slot, plane, place, WIDTH, mask, initial, REACH)
    end_h = after(a, b, begin_h)
    publish(ends + slot + place * WIDTH, end_h, edge)
    if place == places - 1:
        last = final + sequence * (2 * WIDTH) + SECTION * WIDTH + column
        tl.store(tl.broadcast_to(last, end_h.shape), end_h, mask=edge)

    h = after(before_a, before_b, begin_h)
    mark, marked = marks_of(saved, sequence, marks, first, segment, column, WIDTH, RUN, MARK)
    out = gated + row * (2 * WIDTH) + (segment * (RUN * 2 * WIDTH) + SECTION * WIDTH + column)
    for r in tl.static_range(RUN):
        here = (segment * RUN + r < left) & mask
        if r % MARK == 0:
            store_where(mark + r // MARK * WIDTH, h, here & marked, ALL and MARK <= RUN)
        if STARTS:
            h = tl.where(begins[r], 0.0, h)
        if SELECTIVE:
            h = real_next(h, wide(values[r]), fresh[r], m, scaling, SELECTIVE, SCALED)
        else:
            h = real_next(h, wide(values[r]), m, m, scaling, SELECTIVE, SCALED)
        history = h
        if NORMALISED:
            z = load_normaliser(normaliser + row * CHANNELS, segment * RUN + r, left, group, CHANNELS, GROUP)
            history = history * per_feature(1.0 / z, GROUP, CHANNEL_BLOCK)
        mean = channel_sum(history * history, GROUP, CHANNEL_BLOCK) * (1.0 / CHANNEL_WIDTH)
        normed = history * per_feature(tl.rsqrt(mean + _EPSILON), GROUP, CHANNEL_BLOCK)
        u = wide(gates[r])
        y = u * sigmoid(u) * (normed * w)
        store_where(out + r * (2 * WIDTH), y, here, ALL)


@triton.jit
def marks_of(
    saved, sequence, marks, first, segment, column, WIDTH: tl.constexpr, RUN: tl.constexpr, MARK: tl.constexpr
):
    """Where the state before a segment is saved, and of which segments it is: that before every `MARK`-th token."""
    index = first // MARK + segment * RUN // MARK
    return saved + (sequence * marks + index) * WIDTH + column, segment * RUN % MARK == 0


@triton.jit
def load_normaliser(normaliser, t, left, group, CHANNELS: tl.constexpr, GROUP: tl.constexpr):
    """z of the rows `t`, (rows, GROUP); 1 beyond the last token."""
    channel = group * GROUP + tl.arange(0, GROUP)[None, :]
    return tl.load(normaliser + t * CHANNELS + channel, mask=(t < left) & (channel < CHANNELS), other=1.0)


@triton.jit
def real_backward(
    grad_gated, grad_final, projected, starts, normaliser, rate, bias, scale, norm_weight, saved,
    grad_projected, grad_state, grad_normaliser, partial, ends, maps,
    group, sequence, place, time, places, marks, plane,
    SECTION: tl.constexpr, WIDTH: tl.constexpr, BRANCHES: tl.constexpr, CHANNELS: tl.constexpr,
    CHANNEL_WIDTH: tl.constexpr, GROUP: tl.constexpr, CHANNEL_BLOCK: tl.constexpr, SELECTIVE: tl.constexpr,
    SCALED: tl.constexpr, NORMALISED: tl.constexpr, STARTS: tl.constexpr, SEGMENTS: tl.constexpr,
    RUN: tl.constexpr, REACH: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    """Gradients of one chunk of `real_forward`; those of norm_weight and rate_bias go to the row `partial`."""
    chunk = places - 1 - place
    BLOCK: tl.constexpr = GROUP * CHANNEL_BLOCK
    ROW: tl.constexpr = BRANCHES * WIDTH
    ALL: tl.constexpr = EVEN and WIDTH % BLOCK == 0 and CHANNEL_BLOCK == CHANNEL_WIDTH  # nothing is masked
    column, mask = columns(group, WIDTH, CHANNEL_WIDTH, GROUP, CHANNEL_BLOCK)
    segment = tl.arange(0, SEGMENTS)[:, None]
    first = chunk * (SEGMENTS * RUN)
    left = time - first  # tokens from the chunk's first one on
    row = sequence * time + first
    within = segment * (RUN * ROW) + column
    x = projected + row * ROW + within
    dy = grad_gated + row * (2 * WIDTH) + (segment * (RUN * 2 * WIDTH) + SECTION * WIDTH + column)

    values = load_rows(x + (2 + SECTION) * WIDTH, ROW, segment, left, mask, 0.0, RUN, ALL)
    rates = values
    if SELECTIVE:
        rates = load_rows(x + 4 * WIDTH, ROW, segment, left, mask, float("-inf"), RUN, ALL)
    gates = load_rows(x + SECTION * WIDTH, ROW, segment, left, mask, 0.0, RUN, ALL)
    outer = load_rows(dy, 2 * WIDTH, segment, left, mask, 0.0, RUN, ALL)
    begins = load_starts(starts + row, segment, left, STARTS, RUN, EVEN)
    m, offset = real_rates(rate, bias, column, mask, SELECTIVE)
    scaling = m
    if SCALED:
        scaling = tl.load(scale + column, mask=mask, other=0.0)
    w = tl.load(norm_weight + SECTION * WIDTH + column, mask=mask, other=0.0)
    begin_h = load_where(saved + (sequence * marks + chunk) * WIDTH + column, mask, 0.0, ALL)
    a, b, fresh = real_stretches(
        values, rates, begins, m, offset, scaling, segment, left, SELECTIVE, SCALED, STARTS, RUN, EVEN
    )
    a, b, before_a, before_b = scan_maps(a, b, False)
    h = after(before_a, before_b, begin_h)

    # y = silu(u) n w with n = h rsqrt(mean h^2 + eps): d = rsqrt(...) (dn - n mean(dn n))
    grads = ()  # d_t
    slopes = ()  # da/dr of token t, over a: (v_t - h_{t-1}) m sigmoid(r + bias)
    grad_weight = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    out = grad_projected + row * ROW + within
    for r in tl.static_range(RUN):
        here = (segment * RUN + r < left) & mask
        if STARTS:
            h = tl.where(begins[r], 0.0, h)
        value = wide(values[r])
        if SELECTIVE:
            slopes = slopes + ((value - h) * (m * sigmoid(wide(rates[r]) + offset)),)
            h = real_next(h, value, fresh[r], m, scaling, SELECTIVE, SCALED)
        else:
            h = real_next(h, value, m, m, scaling, SELECTIVE, SCALED)
        history = h
        if NORMALISED:
            z = load_normaliser(normaliser + row * CHANNELS, segment * RUN + r, left, group, CHANNELS, GROUP)
            history = history * per_feature(1.0 / z, GROUP, CHANNEL_BLOCK)
        u = wide(gates[r])
        gate = sigmoid(u)
        silu = u * gate
        d = wide(outer[r])
        # Both sums at once; with n = history * root: Σ d w silu n = root * Σ d w silu history.
        pull = d * silu * w
        mean = channel_sum(history * history, GROUP, CHANNEL_BLOCK) * (1.0 / CHANNEL_WIDTH)
        along = channel_sum(pull * history, GROUP, CHANNEL_BLOCK)
        root = tl.rsqrt(mean + _EPSILON)
        inverse = per_feature(root, GROUP, CHANNEL_BLOCK)
        both = d * (history * inverse)
        store_where(out + (r * ROW + SECTION * WIDTH), both * w * (gate + silu * (1.0 - gate)), here, ALL)
        grad_weight += both * silu
        share = per_feature(along * root * root * (1.0 / CHANNEL_WIDTH), GROUP, CHANNEL_BLOCK)
        d = inverse * (pull - history * share)
        if NORMALISED:
            # The norm hides z but for its eps: of -Σ d h / z there remains -Σ (dn n) eps / (mean h² + eps) / z.
            t = segment * RUN + r
            channel = group * GROUP + tl.arange(0, GROUP)[None, :]
            tl.store(
                grad_normaliser + row * CHANNELS + t * CHANNELS + channel,
                0.0 - along * root * root * root * _EPSILON / z,
                mask=(t < left) & (channel < CHANNELS),
            )
            d = d * per_feature(1.0 / z, GROUP, CHANNEL_BLOCK)
        grads = grads + (d,)

    # c_t = a_t (d_t + c_{t+1})
    a = tl.full((SEGMENTS, BLOCK), 1.0, tl.float32)
    b = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    for r in tl.static_range(RUN - 1, -1, -1):
        if SELECTIVE:
            keep = 1.0 - fresh[r]
        else:
            keep = m
            if not EVEN:
                keep = tl.where(segment * RUN + r < left, m, 1.0)
        a = keep * a
        b = keep * (grads[r] + b)
        if STARTS:
            a = tl.where(begins[r], 0.0, a)
            b = tl.where(begins[r], 0.0, b)
    a, b, after_a, after_b = scan_maps(a, b, True)
    edge = (segment == 0) & mask
    slot = sequence * places * WIDTH + column
    if REACH > 0:
        publish(maps + slot + place * WIDTH, a, edge)
        publish(maps + slot + plane + place * WIDTH, b, edge)
    final = tl.load(grad_final + sequence * (2 * WIDTH) + SECTION * WIDTH + column, mask=mask, other=0.0)
    begin_c = first_state(ends + slot, maps + slot, plane, place, WIDTH, mask, final, REACH)
    end_c = after(a, b, begin_c)
    publish(ends + slot + place * WIDTH, end_c, edge)
    if chunk == 0:
        initial = grad_state + sequence * (2 * WIDTH) + SECTION * WIDTH + column
        tl.store(tl.broadcast_to(initial, end_c.shape), end_c, mask=edge)

    c = after(after_a, after_b, begin_c)
    grad_bias = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    for r in tl.static_range(RUN - 1, -1, -1):
        t = segment * RUN + r
        here = (t < left) & mask
        g = grads[r] + c
        if SELECTIVE:
            c = (1.0 - fresh[r]) * g
            grad_value = fresh[r] * g
            grad_rate = c * slopes[r]  # h = a h' + (1 - a) v, a = e^-x: dL/dx = a g (v - h')
            if not ALL:
                grad_rate = tl.where(here, grad_rate, 0.0)
            grad_bias += grad_rate
            store_where(out + (r * ROW + 4 * WIDTH), grad_rate, here, ALL)
        else:
            keep = m
            if not EVEN:
                keep = tl.where(t < left, m, 1.0)
            c = keep * g
            grad_value = g
            if SCALED:
                grad_value = g * scaling
        if STARTS:
            c = tl.where(begins[r], 0.0, c)
        store_where(out + (r * ROW + (2 + SECTION) * WIDTH), grad_value, here, ALL)

    tl.store(partial + SECTION * WIDTH + column, tl.sum(grad_weight, 0, keep_dims=True), mask=mask)
    if SELECTIVE:
        tl.store(partial + 2 * WIDTH + column, tl.sum(grad_bias, 0, keep_dims=True), mask=mask)
