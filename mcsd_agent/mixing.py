"""Everything of a cell between its input projection and its output projection, as pure functions.

Symbols as in `cell`; per token and feature

    slope   selective   x = m softplus(r + b) / ln 2,   h ← (1-s) e^(-x) h + (1 - e^(-x)) v
            fixed       p ← (1-s) e^(-m) p + v,         h = p / z
    decay   rotating    h ← (1-s) γ e^{iθ} h + sqrt(1-γ²) v     v of a channel: [real half | imaginary half]
            plain       h ← (1-s) γ h + sqrt(1-γ²) v
    out     silu(u) ⊙ rmsnorm(h) ⊙ w, one norm per channel and section

`mix_one` and `mix_reference` say this in torch for one token and for a sequence, in any dtype; autograd
differentiates them. `mix_sequence` is the latter through the fused kernels of `mcsd_agent.kernels` where
they exist for device and dtype.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mcsd_agent.recurrence import chunked_recurrence

RMS_EPSILON = 1e-6


class Constants(NamedTuple):
    """What does not depend on the token: vectors per feature."""

    slope_rate: Tensor  # (D,) m
    rate_bias: Tensor | None  # (D,) b; None where the slope's rates are fixed
    decay_rate: Tensor  # -log γ: (D/2,) per complex feature when rotating, else (D,)
    angle: Tensor | None  # (D/2,) θ; None where nothing rotates
    decay_scale: Tensor  # sqrt(1-γ²), as long as decay_rate
    norm_weight: Tensor  # (2D,) w


class Gradients(NamedTuple):
    """Of what a kernel's backward pass has gradients for; None where the variant has no such input."""

    projected: Tensor
    state: Tensor
    normaliser: Tensor | None
    rate_bias: Tensor | None
    decay_rate: Tensor | None
    angle: Tensor | None
    decay_scale: Tensor | None
    norm_weight: Tensor


def selective_weights(rate: Tensor, slope_rate: Tensor) -> tuple[Tensor, Tensor]:
    """a = exp(-m softplus(r) / ln 2) and 1 - a, both `(…, D)`.

    A memory that holds has a close to 1, where 1 - exp(-x) would cancel and the norm behind it
    would blow up what is left. With τ = tanh(x / 2) neither does: a = (1-τ)/(1+τ), 1-a = 2τ/(1+τ).
    """
    tau = torch.tanh(F.softplus(rate) * (slope_rate / (2 * math.log(2))))
    return (1 - tau) / (1 + tau), 2 * tau / (1 + tau)


def read_out(gate: Tensor, history: Tensor, norm_weight: Tensor, channels: int) -> Tensor:
    """silu(u) ⊙ rmsnorm(h) ⊙ w for both sections side by side, `(…, 2D)`."""
    grouped = history.unflatten(-1, (2 * channels, -1))
    normed = F.rms_norm(grouped, (grouped.shape[-1],), eps=RMS_EPSILON).flatten(-2)
    return F.silu(gate) * (normed * norm_weight)


def mix_reference(
    projected: Tensor,
    state: Tensor,
    starts: Tensor | None,
    normaliser: Tensor | None,
    constants: Constants,
    channels: int,
) -> tuple[Tensor, Tensor]:
    """Projections `(batch, time, 5D or 4D)`: [u_slope, u_decay, v_slope, v_decay (, r)] to the gated sections.

    `state` `(batch, 2D)` is what the sections remember before the first token (slope, then decay);
    `starts` `(batch, time)` is true where an episode starts; `normaliser` `(batch, time, channels)` is z
    of a slope window with fixed rates. Returns `(batch, time, 2D)` and the state after the last token.
    """
    width = constants.norm_weight.shape[0] // 2
    gate, value_slope, value_decay, *rate = projected.split(
        [2 * width, width, width] + [width] * (constants.rate_bias is not None), -1
    )
    slope, decay = state.split(width, -1)
    alive = None if starts is None else ~starts.bool()[..., None]

    def from_last_start(a: Tensor, b: Tensor) -> Tensor:
        a = a.expand_as(b)
        return a if alive is None else a * alive

    if constants.rate_bias is not None:
        keep, fresh = selective_weights(rate[0] + constants.rate_bias, constants.slope_rate)
        value_slope = fresh * value_slope
    else:
        keep = torch.exp(-constants.slope_rate)
    slopes = history = chunked_recurrence(from_last_start(keep, value_slope), value_slope, slope)
    if normaliser is not None:
        history = slopes / normaliser.repeat_interleave(width // channels, -1)

    if constants.angle is not None:
        half = width // channels // 2
        real, imaginary = value_decay.unflatten(-1, (channels, 2, half)).unbind(-2)
        old = decay.unflatten(-1, (channels, 2, half))
        turn = torch.polar(torch.exp(-constants.decay_rate), constants.angle)
        b = torch.complex(real.flatten(-2) * constants.decay_scale, imaginary.flatten(-2) * constants.decay_scale)
        h = chunked_recurrence(from_last_start(turn, b), b, torch.complex(old[..., 0, :], old[..., 1, :]).flatten(1))
        h = h.unflatten(-1, (channels, half))
        decays = torch.stack([h.real, h.imag], -2).flatten(2)
    else:
        value_decay = value_decay * constants.decay_scale
        decays = chunked_recurrence(from_last_start(torch.exp(-constants.decay_rate), value_decay), value_decay, decay)
    gated = read_out(gate, torch.cat([history, decays], -1), constants.norm_weight, channels)
    return gated, torch.cat([slopes[:, -1], decays[:, -1]], -1)


def mix_one(
    projected: Tensor, state: Tensor, normaliser: Tensor | None, constants: Constants, channels: int
) -> tuple[Tensor, Tensor]:
    """One token `(batch, 5D or 4D)`; `normaliser` `(batch, channels)`. Otherwise as `mix_reference`."""
    width = constants.norm_weight.shape[0] // 2
    gate, value_slope, value_decay, *rate = projected.split(
        [2 * width, width, width] + [width] * (constants.rate_bias is not None), -1
    )
    slope, decay = state.split(width, -1)
    if constants.rate_bias is not None:
        keep, fresh = selective_weights(rate[0] + constants.rate_bias, constants.slope_rate)
        slope = keep * slope + fresh * value_slope
    else:
        slope = torch.exp(-constants.slope_rate) * slope + value_slope
    history = slope if normaliser is None else slope / normaliser.repeat_interleave(width // channels, -1)
    gamma = torch.exp(-constants.decay_rate)
    if constants.angle is not None:
        shape = (channels, 2, width // channels // 2)
        old, new = decay.unflatten(1, shape), value_decay.unflatten(1, shape)
        scale = constants.decay_scale.view(channels, -1)
        cos = (gamma * constants.angle.cos()).view(channels, -1)
        sin = (gamma * constants.angle.sin()).view(channels, -1)
        real = cos * old[:, :, 0] - sin * old[:, :, 1] + scale * new[:, :, 0]
        imaginary = sin * old[:, :, 0] + cos * old[:, :, 1] + scale * new[:, :, 1]
        decay = torch.stack([real, imaginary], 2).flatten(1)
    else:
        decay = gamma * decay + constants.decay_scale * value_decay
    gated = read_out(gate, torch.cat([history, decay], -1), constants.norm_weight, channels)
    return gated.to(projected.dtype), torch.cat([slope, decay], -1)


def mix_sequence(
    projected: Tensor,
    state: Tensor,
    starts: Tensor | None,
    normaliser: Tensor | None,
    constants: Constants,
    channels: int,
) -> tuple[Tensor, Tensor]:
    """As `mix_reference`, which it calls where no kernel takes the inputs. The result has the dtype of `projected`."""
    from mcsd_agent.kernels import operators

    if operators.fused(projected):
        return operators.mix(projected, state, starts, normaliser, constants, channels)
    precise = projected.to(state.dtype)
    if operators.fused(precise):
        gated, final = operators.mix(precise, state, starts, normaliser, constants, channels)
    else:
        gated, final = mix_reference(precise, state, starts, normaliser, constants, channels)
    return gated.to(projected.dtype), final
