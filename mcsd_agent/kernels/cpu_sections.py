"""The sections of a cell on a CPU: one pass over a sequence in each direction, compiled by Numba.

The mathematics is that of `mixing`. A loop runs over time; inside, loops over the features of one
token, which LLVM vectorises. Forward keeps the state at the start of every chunk of time; backward goes
through the chunks from the last to the first, computes a chunk's histories again into buffers that fit
the cache, and so never needs them for the whole sequence.

Arrays (float32, contiguous)
    p, g                      (batch, time, 4D or 5D)  [u_slope, u_decay, v_slope, v_decay (, r)] and its gradient
    gated, grad_gated         (batch, time, 2D)        slope section, decay section
    starts                    (batch, time) bool       where an episode starts
    state, final, grad_…      (batch, 2D)
    saved                     (batch, chunks, 2D)      states at the starts of chunks
    weight                    (2D,)                    of the norm
    channel                   how many features a channel has, see `channel_argument`
Complex features of channel c lie as [real half | imaginary half] within the channel.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import overload

from mcsd_agent.kernels.cpu_math import COMPILE, one_minus_exp_negative, sigmoid, softplus

#: Steps between stored states: a chunk's buffers stay in the second-level cache.
CHUNK = 32
_F = np.float32
_EPSILON = np.float32(1e-6)


def channel_argument(features: int) -> int | tuple[int, ...]:
    """How kernels are told the features of a channel: for usual numbers as a tuple of that length.

    The length is part of the tuple's type, so loops over a channel compile with a known count, which makes
    the kernels 1.3 times as fast. Each such number is compiled once; the others share one version.
    """
    return (0,) * features if features >= 8 and features % 4 == 0 else features


def _features(channel):
    """The number of features in either form."""


@overload(_features, inline="always")
def _features_of(channel):
    if isinstance(channel, types.BaseTuple):
        count = len(channel)
        return lambda channel: count
    return lambda channel: channel


@njit(inline="always", **COMPILE)
def _inverse_norms(h, channel, inverse):
    """1 / rms of each channel, written to each of its features."""
    dc = _features(channel)
    channels = h.shape[0] // dc
    for c in range(channels):
        total = _F(0.0)
        for i in range(c * dc, c * dc + dc):
            total += h[i] * h[i]
        value = _F(1.0) / np.sqrt(total / _F(dc) + _EPSILON)
        for i in range(c * dc, c * dc + dc):
            inverse[i] = value


@njit(inline="always", **COMPILE)
def _read_out(u, h, inverse, weight, out):
    for i in range(h.shape[0]):
        out[i] = u[i] * sigmoid(u[i]) * (h[i] * inverse[i]) * weight[i]


@njit(inline="always", **COMPILE)
def _read_out_gradient(grad_out, u, h, inverse, weight, grad_u, grad_weight, grad_normed, channel, grad_h):
    """From the gradient of the gated output to those of u, the norm's weight (added to) and the history."""
    dc = _features(channel)
    channels = h.shape[0] // dc
    for i in range(h.shape[0]):
        s = sigmoid(u[i])
        silu = u[i] * s
        gn = grad_out[i] * (h[i] * inverse[i])
        grad_u[i] = gn * weight[i] * (s + silu * (_F(1.0) - s))
        grad_weight[i] += gn * silu
        grad_normed[i] = grad_out[i] * silu * weight[i]
    for c in range(channels):
        total = _F(0.0)
        for i in range(c * dc, c * dc + dc):
            total += grad_normed[i] * h[i]
        inv = inverse[c * dc]
        k = total * inv * inv * inv / _F(dc)
        for i in range(c * dc, c * dc + dc):
            grad_h[i] = inv * grad_normed[i] - k * h[i]


@njit(**COMPILE)
def selective_forward(p, starts, state, rate, bias, weight, channel, gated, final, saved):
    """The slope section with token-dependent rates; `rate` is m / ln 2."""
    batch, time, _ = p.shape
    width = bias.shape[0]
    h, inverse = np.empty(width, np.float32), np.empty(width, np.float32)
    for b in range(batch):
        h[:] = state[b, :width]
        for t in range(time):
            if t % CHUNK == 0:
                saved[b, t // CHUNK, :width] = h
            if starts[b, t]:
                h[:] = _F(0.0)
            v, r = p[b, t, 2 * width : 3 * width], p[b, t, 4 * width :]
            for i in range(width):
                fresh = one_minus_exp_negative(rate[i] * softplus(r[i] + bias[i]))
                h[i] += fresh * (v[i] - h[i])  # a h + (1-a) v
            _inverse_norms(h, channel, inverse)
            _read_out(p[b, t, :width], h, inverse, weight[:width], gated[b, t, :width])
        final[b, :width] = h


@njit(**COMPILE)
def selective_backward(
    grad_gated, grad_final, p, starts, rate, bias, weight, channel, saved, g, grad_state, grad_bias, grad_weight
):
    """Its gradient; `message` is dL/dh of the step before, as the steps after it see it."""
    batch, time, _ = p.shape
    width = bias.shape[0]
    before, after = np.empty((CHUNK, width), np.float32), np.empty((CHUNK, width), np.float32)
    fresh = np.empty((CHUNK, width), np.float32)
    inverse, grad_h = np.empty(width, np.float32), np.empty(width, np.float32)
    grad_normed, message = np.empty(width, np.float32), np.empty(width, np.float32)
    for b in range(batch):
        message[:] = grad_final[b, :width]
        for chunk in range((time - 1) // CHUNK, -1, -1):
            begin = chunk * CHUNK
            steps = min(CHUNK, time - begin)
            for j in range(steps):
                t = begin + j
                if starts[b, t]:
                    before[j] = _F(0.0)
                else:
                    before[j] = saved[b, chunk, :width] if j == 0 else after[j - 1]
                v, r = p[b, t, 2 * width : 3 * width], p[b, t, 4 * width :]
                h0, h1, f = before[j], after[j], fresh[j]
                for i in range(width):
                    f[i] = one_minus_exp_negative(rate[i] * softplus(r[i] + bias[i]))
                    h1[i] = h0[i] + f[i] * (v[i] - h0[i])
            for j in range(steps - 1, -1, -1):
                t = begin + j
                _inverse_norms(after[j], channel, inverse)
                _read_out_gradient(
                    grad_gated[b, t, :width],
                    p[b, t, :width],
                    after[j],
                    inverse,
                    weight[:width],
                    g[b, t, :width],
                    grad_weight[:width],
                    grad_normed,
                    channel,
                    grad_h,
                )
                v, r = p[b, t, 2 * width : 3 * width], p[b, t, 4 * width :]
                gv, gr = g[b, t, 2 * width : 3 * width], g[b, t, 4 * width :]
                h0, f = before[j], fresh[j]
                for i in range(width):
                    total = grad_h[i] + message[i]
                    gv[i] = total * f[i]
                    keep = _F(1.0) - f[i]
                    # d(1 - e^-x) = e^-x dx, x = rate softplus(r + b)
                    slope = total * (v[i] - h0[i]) * keep * rate[i] * sigmoid(r[i] + bias[i])
                    gr[i] = slope
                    grad_bias[i] += slope
                    message[i] = total * keep
                if starts[b, t]:
                    message[:] = _F(0.0)
        grad_state[b, :width] = message


@njit(**COMPILE)
def fixed_forward(p, starts, state, keep, scale, normaliser, weight, channel, section, gated, final, saved):
    """A section with one real rate per feature. `section` 0 is the slope (with its normaliser), 1 the decay."""
    batch, time, _ = p.shape
    width = keep.shape[0]
    dc = _features(channel)
    channels = width // dc
    o = section * width
    h, out, inverse = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    for b in range(batch):
        h[:] = state[b, o : o + width]
        for t in range(time):
            if t % CHUNK == 0:
                saved[b, t // CHUNK, o : o + width] = h
            if starts[b, t]:
                h[:] = _F(0.0)
            v = p[b, t, 2 * width + o : 3 * width + o]
            for i in range(width):
                h[i] = keep[i] * h[i] + scale[i] * v[i]
            out[:] = h
            if section == 0:
                for c in range(channels):
                    z = _F(1.0) / normaliser[b, t, c]
                    for i in range(c * dc, c * dc + dc):
                        out[i] *= z
            _inverse_norms(out, channel, inverse)
            _read_out(p[b, t, o : o + width], out, inverse, weight[o : o + width], gated[b, t, o : o + width])
        final[b, o : o + width] = h


@njit(**COMPILE)
def fixed_backward(
    grad_gated,
    grad_final,
    p,
    starts,
    keep,
    scale,
    normaliser,
    weight,
    channel,
    section,
    saved,
    g,
    grad_state,
    grad_normaliser,
    grad_weight,
):
    """Its gradient; the rates are predefined and get none."""
    batch, time, _ = p.shape
    width = keep.shape[0]
    dc = _features(channel)
    channels = width // dc
    o = section * width
    after = np.empty((CHUNK, width), np.float32)
    h, out, inverse = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    grad_h, grad_normed = np.empty(width, np.float32), np.empty(width, np.float32)
    message = np.empty(width, np.float32)
    for b in range(batch):
        message[:] = grad_final[b, o : o + width]
        for chunk in range((time - 1) // CHUNK, -1, -1):
            begin = chunk * CHUNK
            steps = min(CHUNK, time - begin)
            h[:] = saved[b, chunk, o : o + width]
            for j in range(steps):
                if starts[b, begin + j]:
                    h[:] = _F(0.0)
                v, h1 = p[b, begin + j, 2 * width + o : 3 * width + o], after[j]
                for i in range(width):
                    h[i] = keep[i] * h[i] + scale[i] * v[i]
                    h1[i] = h[i]
            for j in range(steps - 1, -1, -1):
                t = begin + j
                out[:] = after[j]
                if section == 0:
                    for c in range(channels):
                        z = _F(1.0) / normaliser[b, t, c]
                        for i in range(c * dc, c * dc + dc):
                            out[i] *= z
                _inverse_norms(out, channel, inverse)
                _read_out_gradient(
                    grad_gated[b, t, o : o + width],
                    p[b, t, o : o + width],
                    out,
                    inverse,
                    weight[o : o + width],
                    g[b, t, o : o + width],
                    grad_weight[o : o + width],
                    grad_normed,
                    channel,
                    grad_h,
                )
                if section == 0:
                    for c in range(channels):  # h = p / z
                        z = _F(1.0) / normaliser[b, t, c]
                        total = _F(0.0)
                        for i in range(c * dc, c * dc + dc):
                            total -= grad_h[i] * out[i]
                            grad_h[i] *= z
                        grad_normaliser[b, t, c] = total * z
                gv = g[b, t, 2 * width + o : 3 * width + o]
                for i in range(width):
                    total = grad_h[i] + message[i]
                    gv[i] = total * scale[i]
                    message[i] = total * keep[i]
                if starts[b, t]:
                    message[:] = _F(0.0)
        grad_state[b, o : o + width] = message


@njit(inline="always", **COMPILE)
def _split(row, channel, real, imaginary):
    """Gather [real half | imaginary half] of every channel into two long rows."""
    half = _features(channel) // 2
    channels = real.shape[0] // half
    for c in range(channels):
        for k in range(half):
            real[c * half + k] = row[2 * c * half + k]
            imaginary[c * half + k] = row[(2 * c + 1) * half + k]


@njit(inline="always", **COMPILE)
def _join(real, imaginary, channel, row):
    half = _features(channel) // 2
    channels = real.shape[0] // half
    for c in range(channels):
        for k in range(half):
            row[2 * c * half + k] = real[c * half + k]
            row[(2 * c + 1) * half + k] = imaginary[c * half + k]


@njit(**COMPILE)
def rotating_forward(p, starts, state, cos, sin, scale, weight, channel, gated, final, saved):
    """The decay section with rotation; `cos` and `sin` are γ cos θ and γ sin θ per complex feature."""
    batch, time, _ = p.shape
    pairs = cos.shape[0]
    width = 2 * pairs
    real, imaginary = np.empty(pairs, np.float32), np.empty(pairs, np.float32)
    v_real, v_imaginary = np.empty(pairs, np.float32), np.empty(pairs, np.float32)
    h, inverse = np.empty(width, np.float32), np.empty(width, np.float32)
    for b in range(batch):
        h[:] = state[b, width:]
        _split(h, channel, real, imaginary)
        for t in range(time):
            if t % CHUNK == 0:
                saved[b, t // CHUNK, width:] = h
            if starts[b, t]:
                real[:] = _F(0.0)
                imaginary[:] = _F(0.0)
            _split(p[b, t, 3 * width : 4 * width], channel, v_real, v_imaginary)
            for i in range(pairs):
                re, im = real[i], imaginary[i]
                real[i] = cos[i] * re - sin[i] * im + scale[i] * v_real[i]
                imaginary[i] = sin[i] * re + cos[i] * im + scale[i] * v_imaginary[i]
            _join(real, imaginary, channel, h)
            _inverse_norms(h, channel, inverse)
            _read_out(p[b, t, width : 2 * width], h, inverse, weight[width:], gated[b, t, width:])
        final[b, width:] = h


@njit(**COMPILE)
def rotating_backward(
    grad_gated,
    grad_final,
    p,
    starts,
    cos,
    sin,
    scale,
    weight,
    channel,
    saved,
    g,
    grad_state,
    grad_rate,
    grad_angle,
    grad_scale,
    grad_weight,
):
    """Its gradient, also that of -log γ, θ and the scale; with q = γ e^{iθ} h of the step before, dq/dθ = i q."""
    batch, time, _ = p.shape
    pairs = cos.shape[0]
    width = 2 * pairs
    after = np.empty((CHUNK, width), np.float32)
    turned_real, turned_imaginary = np.empty((CHUNK, pairs), np.float32), np.empty((CHUNK, pairs), np.float32)
    value_real, value_imaginary = np.empty((CHUNK, pairs), np.float32), np.empty((CHUNK, pairs), np.float32)
    real, imaginary = np.empty(pairs, np.float32), np.empty(pairs, np.float32)
    h, inverse = np.empty(width, np.float32), np.empty(width, np.float32)
    grad_h, grad_normed = np.empty(width, np.float32), np.empty(width, np.float32)
    grad_real, grad_imaginary = np.empty(pairs, np.float32), np.empty(pairs, np.float32)
    message_real, message_imaginary = np.empty(pairs, np.float32), np.empty(pairs, np.float32)
    for b in range(batch):
        h[:] = grad_final[b, width:]
        _split(h, channel, message_real, message_imaginary)
        for chunk in range((time - 1) // CHUNK, -1, -1):
            begin = chunk * CHUNK
            steps = min(CHUNK, time - begin)
            h[:] = saved[b, chunk, width:]
            _split(h, channel, real, imaginary)
            for j in range(steps):
                if starts[b, begin + j]:
                    real[:] = _F(0.0)
                    imaginary[:] = _F(0.0)
                vr, vi, qr, qi = value_real[j], value_imaginary[j], turned_real[j], turned_imaginary[j]
                _split(p[b, begin + j, 3 * width : 4 * width], channel, vr, vi)
                for i in range(pairs):
                    re, im = real[i], imaginary[i]
                    qr[i] = cos[i] * re - sin[i] * im
                    qi[i] = sin[i] * re + cos[i] * im
                    real[i] = qr[i] + scale[i] * vr[i]
                    imaginary[i] = qi[i] + scale[i] * vi[i]
                _join(real, imaginary, channel, after[j])
            for j in range(steps - 1, -1, -1):
                t = begin + j
                _inverse_norms(after[j], channel, inverse)
                _read_out_gradient(
                    grad_gated[b, t, width:],
                    p[b, t, width : 2 * width],
                    after[j],
                    inverse,
                    weight[width:],
                    g[b, t, width : 2 * width],
                    grad_weight[width:],
                    grad_normed,
                    channel,
                    grad_h,
                )
                _split(grad_h, channel, grad_real, grad_imaginary)
                vr, vi, qr, qi = value_real[j], value_imaginary[j], turned_real[j], turned_imaginary[j]
                for i in range(pairs):
                    re, im = grad_real[i] + message_real[i], grad_imaginary[i] + message_imaginary[i]
                    grad_real[i], grad_imaginary[i] = scale[i] * re, scale[i] * im
                    grad_scale[i] += re * vr[i] + im * vi[i]
                    grad_rate[i] -= re * qr[i] + im * qi[i]
                    grad_angle[i] += im * qr[i] - re * qi[i]
                    message_real[i] = cos[i] * re + sin[i] * im
                    message_imaginary[i] = cos[i] * im - sin[i] * re
                _join(grad_real, grad_imaginary, channel, g[b, t, 3 * width : 4 * width])
                if starts[b, t]:
                    message_real[:] = _F(0.0)
                    message_imaginary[:] = _F(0.0)
        _join(message_real, message_imaginary, channel, grad_state[b, width:])
