"""`mix` of a whole sequence and its gradient on a CPU: torch tensors around the loops of `cpu_sections`."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from mcsd_agent.kernels import cpu_sections
from mcsd_agent.kernels.cpu_threads import over_batch, pieces_at_most
from mcsd_agent.mixing import Constants, Gradients

#: For arguments that a variant does not use: Numba compiles for an array all the same.
_NO_NORMALISER = np.ones((1, 1, 1), np.float32)


def mix_forward(
    projected: Tensor,
    state: Tensor,
    starts: Tensor | None,
    normaliser: Tensor | None,
    constants: Constants,
    channels: int,
    selective: bool,
    rotating: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `mixing.mix_reference`, for contiguous float32; also the states at chunk starts, for the gradient."""
    batch, time, _ = projected.shape
    width = state.shape[1] // 2
    gated = projected.new_empty(batch, time, 2 * width)
    final = torch.empty_like(state)
    saved = projected.new_empty(saved_shape(projected, width, channels, rotating))
    p, s = projected.numpy(), state.numpy()
    begins, z = _starts(starts, batch, time), _normaliser(normaliser, batch)
    out, end, kept = gated.numpy(), final.numpy(), saved.numpy()
    slope, decay = _slope_constants(constants), _decay_constants(constants)
    weight, channel = constants.norm_weight.numpy(), cpu_sections.channel_argument(width // channels)

    def run(rows: slice, _: int) -> None:
        a, b, c = p[rows], begins[rows], s[rows]
        results = out[rows], end[rows], kept[rows]
        if selective:
            cpu_sections.selective_forward(a, b, c, *slope, weight, channel, *results)
        else:
            cpu_sections.fixed_forward(a, b, c, *slope, z[rows], weight, channel, 0, *results)
        if rotating:
            cpu_sections.rotating_forward(a, b, c, *decay, weight, channel, *results)
        else:
            cpu_sections.fixed_forward(a, b, c, *decay, _NO_NORMALISER, weight, channel, 1, *results)

    over_batch(run, batch, projected.numel())
    return gated, final, saved


def saved_shape(projected: Tensor, width: int, channels: int, rotating: bool) -> tuple[int, ...]:
    """Shape of the third result: a state at the start of every chunk of time."""
    return projected.shape[0], (projected.shape[1] + cpu_sections.CHUNK - 1) // cpu_sections.CHUNK, 2 * width


def mix_backward(
    grad_gated: Tensor,
    grad_final: Tensor,
    projected: Tensor,
    state: Tensor,
    starts: Tensor | None,
    normaliser: Tensor | None,
    constants: Constants,
    channels: int,
    selective: bool,
    rotating: bool,
    saved: Tensor,
) -> Gradients:
    """The gradients; None for an input that the variant has not, or whose rates are predefined."""
    batch, time, _ = projected.shape
    grad_projected = torch.empty_like(projected)
    grad_state = torch.empty_like(grad_final)
    grad_normaliser = None if normaliser is None else torch.empty_like(normaliser)
    p, begins, z = projected.numpy(), _starts(starts, batch, time), _normaliser(normaliser, batch)
    gg, gf, kept = grad_gated.numpy(), grad_final.numpy(), saved.numpy()
    gp, gs, gz = grad_projected.numpy(), grad_state.numpy(), _normaliser(grad_normaliser, batch)
    slope, decay = _slope_constants(constants), _decay_constants(constants)
    weight, channel = constants.norm_weight.numpy(), cpu_sections.channel_argument(grad_final.shape[1] // 2 // channels)
    # One buffer a thread: sums over the batch then come out alike on every run.
    sums = {
        name: value.new_zeros(pieces_at_most(batch), *value.shape)
        for name, value in constants._asdict().items()
        if value is not None
    }

    def run(rows: slice, piece: int) -> None:
        grads = {name: value[piece].numpy() for name, value in sums.items()}
        first = gg[rows], gf[rows], p[rows], begins[rows]
        last = kept[rows], gp[rows], gs[rows]
        if selective:
            cpu_sections.selective_backward(
                *first, *slope, weight, channel, *last, grads["rate_bias"], grads["norm_weight"]
            )
        else:
            cpu_sections.fixed_backward(
                *first, *slope, z[rows], weight, channel, 0, *last, gz[rows], grads["norm_weight"]
            )
        if rotating:
            cpu_sections.rotating_backward(
                *first,
                *decay,
                weight,
                channel,
                *last,
                grads["decay_rate"],
                grads["angle"],
                grads["decay_scale"],
                grads["norm_weight"],
            )
        else:
            cpu_sections.fixed_backward(
                *first, *decay, _NO_NORMALISER, weight, channel, 1, *last, _NO_NORMALISER, grads["norm_weight"]
            )

    over_batch(run, batch, projected.numel())
    totals = {name: value.sum(0) for name, value in sums.items() if name != "slope_rate"}
    if not rotating:
        totals |= {"decay_rate": None, "decay_scale": None}
    missing = {"rate_bias": None, "angle": None}
    return Gradients(grad_projected, grad_state, grad_normaliser, **(missing | totals))


def _starts(starts: Tensor | None, batch: int, time: int) -> np.ndarray:
    return np.zeros((batch, time), np.bool_) if starts is None else starts.contiguous().numpy()


def _normaliser(normaliser: Tensor | None, batch: int) -> np.ndarray:
    return np.ones((batch, 1, 1), np.float32) if normaliser is None else normaliser.numpy()


def _slope_constants(constants: Constants) -> tuple[np.ndarray, np.ndarray]:
    if constants.rate_bias is not None:
        return (constants.slope_rate / math.log(2)).numpy(), constants.rate_bias.numpy()
    return torch.exp(-constants.slope_rate).numpy(), torch.ones_like(constants.slope_rate).numpy()


def _decay_constants(constants: Constants) -> tuple[np.ndarray, ...]:
    gamma = torch.exp(-constants.decay_rate)
    if constants.angle is None:
        return gamma.numpy(), constants.decay_scale.numpy()
    return (
        (gamma * constants.angle.cos()).numpy(),
        (gamma * constants.angle.sin()).numpy(),
        constants.decay_scale.numpy(),
    )
