"""Triton kernels of a section whose history is real: the slope section, and the decay section that does not rotate.

One program computes `SEGMENTS * RUN` tokens of some whole channels of one sequence. Each thread walks through the
`RUN` tokens of its segment alone, and only the segments' maps go through a parallel scan, which keeps that scan,
the costly part, to 1 / RUN of the data. Chunks are linked as `cuda_chain` says. Data passes once.

Backward, with d_t = dL/dh_t of the read-out, g_t = d_t + c_{t+1} and c_t = a_t g_t is what reaches the state before
t: a recurrence of its own, from the last token to the first, whose carry at the first token is dL/dstate.
"""

# Triton's language knows neither `(*x, y)` nor conditional expressions between blocks of different shapes, and its
# tensors and growing tuples have no types that mypy could follow.
# ruff: noqa: RUF005, SIM108
# mypy: disable-error-code="assignment, var-annotated"

from __future__ import annotations

import triton
import triton.language as tl

from mcsd_agent.kernels.cuda_arithmetic import (
    channel_sum,
    load_where,
    per_feature,
    selective_weights,
    sigmoid,
    softplus,
    store_where,
)
from mcsd_agent.kernels.cuda_chain import SIZES, after, first_state, publish, scan_maps, take_ticket

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


@triton.jit(do_not_specialize=SIZES)
def real_forward(
    projected,
    state,
    starts,
    normaliser,
    rate,
    bias,
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
    normaliser_batch,
    normaliser_time,
    plane,
    SECTION: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    CHANNEL_WIDTH: tl.constexpr,
    GROUP: tl.constexpr,
    CHANNEL_BLOCK: tl.constexpr,
    SELECTIVE: tl.constexpr,
    SCALED: tl.constexpr,
    NORMALISED: tl.constexpr,
    STARTS: tl.constexpr,
    SEGMENTS: tl.constexpr,
    RUN: tl.constexpr,
    REACH: tl.constexpr,
    EVEN: tl.constexpr,
    MARK: tl.constexpr,
):
    """Gated section of one chunk; `ends`, `maps` and `tickets` as in `cuda_chain`.

    `saved` receives the state before every `MARK`-th token. `projected` is (batch, time, branches * WIDTH), its
    rows packed; `EVEN` says that chunks divide the time.
    """
    group, sequence, place = take_ticket(tickets, groups, batch)
    BLOCK: tl.constexpr = GROUP * CHANNEL_BLOCK
    ALL: tl.constexpr = EVEN and WIDTH % BLOCK == 0 and CHANNEL_BLOCK == CHANNEL_WIDTH  # nothing is masked
    column, mask = columns(group, WIDTH, CHANNEL_WIDTH, GROUP, CHANNEL_BLOCK)
    segment = tl.arange(0, SEGMENTS)[:, None]
    sequence = sequence.to(tl.int64)
    first = place * (SEGMENTS * RUN)
    left = time - first  # tokens from the chunk's first one on
    first = first.to(tl.int64)
    x = projected + sequence * projected_batch + first * projected_time + column
    m = tl.load(rate + column, mask=mask, other=0.0)
    if SELECTIVE:
        offset = tl.load(bias + column, mask=mask, other=0.0)
        m = m * _INVERSE_LN2
    else:
        fixed = tl.exp(-m)
    if SCALED:
        scaling = tl.load(scale + column, mask=mask, other=0.0)
    w = tl.load(norm_weight + SECTION * WIDTH + column, mask=mask, other=0.0)

    values = ()
    rates = ()
    begins = ()
    for r in tl.static_range(RUN):
        t = segment * RUN + r
        here = (t < left) & mask
        words = x + t.to(tl.int64) * projected_time
        values = values + (load_where(words + (2 + SECTION) * WIDTH, here, 0.0, ALL),)
        if SELECTIVE:  # beyond the last token a = 1 and b = 0: the state passes
            rates = rates + (load_where(words + 4 * WIDTH, here, float("-inf"), ALL),)
        if STARTS:
            begin = starts + sequence * starts_batch + (first + t) * starts_time
            begins = begins + (load_where(begin, t < left, 0, EVEN) != 0,)

    # h_t = a_t h_{t-1} + b_t
    fresh = ()  # 1 - a_t
    inputs = ()  # b_t
    map_a = tl.full((SEGMENTS, BLOCK), 1.0, tl.float32)
    map_b = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    for r in tl.static_range(RUN):
        b = values[r].to(tl.float32)
        if SELECTIVE:
            keep, share = selective_weights(softplus(rates[r].to(tl.float32) + offset) * m)
            b = share * b
            fresh = fresh + (share,)
        else:
            keep = fixed
            if not EVEN:
                keep = tl.where(segment * RUN + r < left, fixed, 1.0)
            if SCALED:
                b = scaling * b
        if STARTS:  # an exact 0, also of inf and nan
            map_a = tl.where(begins[r], 0.0, map_a)
            map_b = tl.where(begins[r], 0.0, map_b)
        inputs = inputs + (b,)
        map_a = keep * map_a
        map_b = keep * map_b + b
    map_a, map_b, before_a, before_b = scan_maps(map_a, map_b, False)
    edge = (segment == SEGMENTS - 1) & mask

    slot = sequence * places * WIDTH + column
    if REACH > 0:
        publish(maps + slot + place * WIDTH, map_a, edge)
        publish(maps + slot + plane + place * WIDTH, map_b, edge)
    gates = ()
    for r in tl.static_range(RUN):
        t = segment * RUN + r
        words = x + t.to(tl.int64) * projected_time
        gates = gates + (load_where(words + SECTION * WIDTH, (t < left) & mask, 0.0, ALL),)
    initial = tl.load(state + sequence * (2 * WIDTH) + SECTION * WIDTH + column, mask=mask, other=0.0)
    begin_h = first_state(ends + slot, maps + slot, plane, place, WIDTH, mask, initial, REACH)
    publish(ends + slot + place * WIDTH, after(map_a, map_b, begin_h), edge)

    h = after(before_a, before_b, begin_h)
    marks = saved + ((sequence * places + place) * (SEGMENTS * RUN // MARK) + segment * RUN // MARK) * WIDTH + column
    tl.store(marks, h, mask=(segment * RUN % MARK == 0) & mask)
    out = gated + (sequence * time + first) * (2 * WIDTH) + SECTION * WIDTH + column
    for r in tl.static_range(RUN):
        t = segment * RUN + r
        if STARTS:
            h = tl.where(begins[r], 0.0, h)
        if SELECTIVE:
            h = (1.0 - fresh[r]) * h + inputs[r]
        else:
            h = fixed * h + inputs[r]
        history = h
        if NORMALISED:
            z = load_normaliser(
                normaliser, sequence, normaliser_batch, normaliser_time, first, t, left, group, CHANNELS, GROUP
            )
            history = history * per_feature(1.0 / z, GROUP, CHANNEL_BLOCK)
        mean = channel_sum(history * history, GROUP, CHANNEL_BLOCK) * (1.0 / CHANNEL_WIDTH)
        normed = history * per_feature(tl.rsqrt(mean + _EPSILON), GROUP, CHANNEL_BLOCK)
        u = gates[r].to(tl.float32)
        y = u * sigmoid(u) * (normed * w)
        store_where(out + t.to(tl.int64) * (2 * WIDTH), y, (t < left) & mask, ALL)


@triton.jit
def load_normaliser(
    normaliser, sequence, batch_stride, time_stride, first, t, left, group, CHANNELS: tl.constexpr, GROUP: tl.constexpr
):
    """z of the rows `t`, (rows, GROUP); 1 beyond the last token."""
    channel = group * GROUP + tl.arange(0, GROUP)[None, :]
    words = normaliser + sequence * batch_stride + (first + t) * time_stride + channel
    return tl.load(words, mask=(t < left) & (channel < CHANNELS), other=1.0)


@triton.jit(do_not_specialize=SIZES)
def real_backward(
    grad_gated,
    grad_final,
    projected,
    starts,
    normaliser,
    rate,
    bias,
    scale,
    norm_weight,
    saved,
    marks,
    grad_projected,
    grad_state,
    grad_normaliser,
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
    normaliser_batch,
    normaliser_time,
    plane,
    SECTION: tl.constexpr,
    WIDTH: tl.constexpr,
    BRANCHES: tl.constexpr,
    PARTIAL: tl.constexpr,
    CHANNELS: tl.constexpr,
    CHANNEL_WIDTH: tl.constexpr,
    GROUP: tl.constexpr,
    CHANNEL_BLOCK: tl.constexpr,
    SELECTIVE: tl.constexpr,
    SCALED: tl.constexpr,
    NORMALISED: tl.constexpr,
    STARTS: tl.constexpr,
    SEGMENTS: tl.constexpr,
    RUN: tl.constexpr,
    REACH: tl.constexpr,
    EVEN: tl.constexpr,
    RATIO: tl.constexpr,
):
    """Gradients of one chunk of `real_forward`; its parameters' part of the sums goes to a row of `partial`.

    A row has `PARTIAL` numbers: norm_weight (WIDTH) and, when selective, rate_bias (WIDTH). Every sequence has `marks`
    saved states, `RATIO` of them to a chunk.
    """
    group, sequence, place = take_ticket(tickets, groups, batch)
    chunk = places - 1 - place
    BLOCK: tl.constexpr = GROUP * CHANNEL_BLOCK
    ALL: tl.constexpr = EVEN and WIDTH % BLOCK == 0 and CHANNEL_BLOCK == CHANNEL_WIDTH  # nothing is masked
    column, mask = columns(group, WIDTH, CHANNEL_WIDTH, GROUP, CHANNEL_BLOCK)
    segment = tl.arange(0, SEGMENTS)[:, None]
    sequence = sequence.to(tl.int64)
    first = chunk * (SEGMENTS * RUN)
    left = time - first  # tokens from the chunk's first one on
    first = first.to(tl.int64)
    x = projected + sequence * projected_batch + first * projected_time + column
    dy = grad_gated + sequence * grad_batch + first * grad_time + column
    m = tl.load(rate + column, mask=mask, other=0.0)
    if SELECTIVE:
        offset = tl.load(bias + column, mask=mask, other=0.0)
        m = m * _INVERSE_LN2
    else:
        fixed = tl.exp(-m)
    if SCALED:
        scaling = tl.load(scale + column, mask=mask, other=0.0)
    w = tl.load(norm_weight + SECTION * WIDTH + column, mask=mask, other=0.0)
    slot = sequence * places * WIDTH + column
    begin_h = tl.load(saved + (sequence * marks + chunk * RATIO) * WIDTH + column, mask=mask, other=0.0)

    values = ()
    rates = ()
    begins = ()
    for r in tl.static_range(RUN):
        t = segment * RUN + r
        here = (t < left) & mask
        words = x + t.to(tl.int64) * projected_time
        values = values + (load_where(words + (2 + SECTION) * WIDTH, here, 0.0, ALL),)
        if SELECTIVE:  # beyond the last token a = 1 and b = 0: the state passes
            rates = rates + (load_where(words + 4 * WIDTH, here, float("-inf"), ALL),)
        if STARTS:
            begin = starts + sequence * starts_batch + (first + t) * starts_time
            begins = begins + (load_where(begin, t < left, 0, EVEN) != 0,)
    gates = ()
    outer = ()
    for r in tl.static_range(RUN):
        t = segment * RUN + r
        here = (t < left) & mask
        gates = gates + (load_where(x + t.to(tl.int64) * projected_time + SECTION * WIDTH, here, 0.0, ALL),)
        outer = outer + (load_where(dy + t.to(tl.int64) * grad_time + SECTION * WIDTH, here, 0.0, ALL),)

    # The history again, from the state saved at the chunk's start.
    fresh = ()  # 1 - a_t
    map_a = tl.full((SEGMENTS, BLOCK), 1.0, tl.float32)
    map_b = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    for r in tl.static_range(RUN):
        b = values[r].to(tl.float32)
        if SELECTIVE:
            keep, share = selective_weights(softplus(rates[r].to(tl.float32) + offset) * m)
            b = share * b
            fresh = fresh + (share,)
        else:
            keep = fixed
            if not EVEN:
                keep = tl.where(segment * RUN + r < left, fixed, 1.0)
            if SCALED:
                b = scaling * b
        if STARTS:  # an exact 0, also of inf and nan
            map_a = tl.where(begins[r], 0.0, map_a)
            map_b = tl.where(begins[r], 0.0, map_b)
        map_a = keep * map_a
        map_b = keep * map_b + b
    map_a, map_b, before_a, before_b = scan_maps(map_a, map_b, False)
    h = after(before_a, before_b, begin_h)

    # y = silu(u) n w with n = h rsqrt(mean h^2 + eps): d = rsqrt(...) (dn - n mean(dn n))
    grads = ()  # d_t
    before = ()  # h_{t-1}, 0 at an episode start
    grad_weight = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    out = grad_projected + (sequence * time + first) * (BRANCHES * WIDTH) + column
    for r in tl.static_range(RUN):
        t = segment * RUN + r
        here = (t < left) & mask
        if STARTS:
            h = tl.where(begins[r], 0.0, h)
        if SELECTIVE:
            before = before + (h,)
            h = (1.0 - fresh[r]) * h + fresh[r] * values[r].to(tl.float32)
        elif SCALED:
            h = fixed * h + scaling * values[r].to(tl.float32)
        else:
            h = fixed * h + values[r].to(tl.float32)
        history = h
        if NORMALISED:
            z = load_normaliser(
                normaliser, sequence, normaliser_batch, normaliser_time, first, t, left, group, CHANNELS, GROUP
            )
            history = history * per_feature(1.0 / z, GROUP, CHANNEL_BLOCK)
        mean = channel_sum(history * history, GROUP, CHANNEL_BLOCK) * (1.0 / CHANNEL_WIDTH)
        root = tl.rsqrt(mean + _EPSILON)
        inverse = per_feature(root, GROUP, CHANNEL_BLOCK)
        normed = history * inverse
        u = gates[r].to(tl.float32)
        gate = sigmoid(u)
        silu = u * gate
        d = outer[r].to(tl.float32)
        both = d * normed
        grad_gate = both * w * (gate + silu * (1.0 - gate))
        store_where(out + t.to(tl.int64) * (BRANCHES * WIDTH) + SECTION * WIDTH, grad_gate, here, ALL)
        grad_weight += both * silu
        d = d * w * silu
        along = channel_sum(d * normed, GROUP, CHANNEL_BLOCK)
        d = inverse * (d - normed * per_feature(along * (1.0 / CHANNEL_WIDTH), GROUP, CHANNEL_BLOCK))
        if NORMALISED:
            # The norm hides z but for its eps: of -Σ d h / z there remains -Σ (dn n) eps / (mean h² + eps) / z.
            channel = group * GROUP + tl.arange(0, GROUP)[None, :]
            tl.store(
                grad_normaliser + (sequence * time + first + t) * CHANNELS + channel,
                0.0 - along * root * root * _EPSILON / z,
                mask=(t < left) & (channel < CHANNELS),
            )
            d = d * per_feature(1.0 / z, GROUP, CHANNEL_BLOCK)
        grads = grads + (d,)

    # c_t = a_t (d_t + c_{t+1})
    map_a = tl.full((SEGMENTS, BLOCK), 1.0, tl.float32)
    map_b = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    for r in tl.static_range(RUN - 1, -1, -1):
        if SELECTIVE:
            keep = 1.0 - fresh[r]
        else:
            keep = fixed
            if not EVEN:
                keep = tl.where(segment * RUN + r < left, fixed, 1.0)
        map_a = keep * map_a
        map_b = keep * (grads[r] + map_b)
        if STARTS:
            map_a = tl.where(begins[r], 0.0, map_a)
            map_b = tl.where(begins[r], 0.0, map_b)
    map_a, map_b, after_a, after_b = scan_maps(map_a, map_b, True)
    edge = (segment == 0) & mask
    if REACH > 0:
        publish(maps + slot + place * WIDTH, map_a, edge)
        publish(maps + slot + plane + place * WIDTH, map_b, edge)
    final = tl.load(grad_final + sequence * (2 * WIDTH) + SECTION * WIDTH + column, mask=mask, other=0.0)
    begin_c = first_state(ends + slot, maps + slot, plane, place, WIDTH, mask, final, REACH)
    end_c = after(map_a, map_b, begin_c)
    publish(ends + slot + place * WIDTH, end_c, edge)
    if chunk == 0:
        initial = grad_state + sequence * (2 * WIDTH) + SECTION * WIDTH + column
        tl.store(tl.broadcast_to(initial, end_c.shape), end_c, mask=edge)

    c = after(after_a, after_b, begin_c)
    grad_bias = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    for r in tl.static_range(RUN - 1, -1, -1):
        t = segment * RUN + r
        here = (t < left) & mask
        words = out + t.to(tl.int64) * (BRANCHES * WIDTH)
        g = grads[r] + c
        if SELECTIVE:
            c = (1.0 - fresh[r]) * g
            grad_value = fresh[r] * g
            # h = a h' + (1 - a) v, a = e^-x: dL/dx = a g (v - h')
            slope = m * sigmoid(rates[r].to(tl.float32) + offset)
            grad_rate = c * (values[r].to(tl.float32) - before[r]) * slope
            if not ALL:
                grad_rate = tl.where(here, grad_rate, 0.0)
            grad_bias += grad_rate
            store_where(words + 4 * WIDTH, grad_rate, here, ALL)
        else:
            keep = fixed
            if not EVEN:
                keep = tl.where(t < left, fixed, 1.0)
            c = keep * g
            grad_value = g
            if SCALED:
                grad_value = g * scaling
        if STARTS:
            c = tl.where(begins[r], 0.0, c)
        store_where(words + (2 + SECTION) * WIDTH, grad_value, here, ALL)

    sums = partial + (sequence * places + chunk) * PARTIAL + column
    tl.store(sums, tl.sum(grad_weight, 0, keep_dims=True), mask=mask)
    if SELECTIVE:
        tl.store(sums + WIDTH, tl.sum(grad_bias, 0, keep_dims=True), mask=mask)
