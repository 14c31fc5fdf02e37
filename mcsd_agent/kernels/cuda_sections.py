"""The fused sections of a cell on CUDA: `mix_forward` and `mix_backward`, two Triton launches each.

The launches read disjoint columns of the projections and write disjoint columns of shared results. Nothing here
waits for the device, and results do not depend on the order in which programs run.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from mcsd_agent.kernels.cuda_chain import empty_words
from mcsd_agent.kernels.cuda_real_section import real_backward, real_forward
from mcsd_agent.kernels.cuda_rotating_section import rotating_backward, rotating_forward
from mcsd_agent.mixing import Constants, Gradients

#: What `projected` may be; arithmetic is in float32.
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class Tile(NamedTuple):
    """A program's share: `segments * run` tokens of `group` channels of `block` (padded) features or pairs."""

    group: int
    block: int
    segments: int
    run: int
    reach: int
    warps: int
    registers: int | None  # per thread at most


# Chosen by measurement, not searched for at run time: a search would cost every process and every new shape seconds,
# and make the order of summation, hence the last bits of a gradient, depend on what else the device was doing.
_FEATURES = 64  # of a row: 128 bytes of bfloat16; a warp holds a row
_PAIRS = 32
_SEGMENTS = 4
_RUN = {"real_forward": 16, "real_backward": 8, "rotating_forward": 16, "rotating_backward": 8}
_REGISTERS = {"real_forward": 128, "real_backward": 168, "rotating_forward": 128, "rotating_backward": 168}
_LONG = 128  # chunks from which on the chain of states is the limit, not memory


def _next_power(n: int) -> int:
    return 1 << max(n - 1, 0).bit_length()


def tile(kernel: str, channels: int, channel_width: int, time: int) -> Tile:
    """Launch parameters of a kernel by sizes alone; `channel_width` counts pairs where features come in pairs."""
    block = _next_power(channel_width)
    features = _PAIRS if kernel.startswith("rotating") else _FEATURES
    group = min(max(1, features // block), _next_power(channels))
    segments, run = _SEGMENTS, _RUN[kernel]
    least = max(_RUN.values()) // run  # a chunk of any kernel begins where a run of any other does
    while group * block * segments > features * _SEGMENTS and segments > least:  # wide channels: fewer tokens
        segments //= 2
    while segments * run > _next_power(time) and segments > least:  # short sequences
        segments //= 2
    reach = 4 if time > _LONG * segments * run else 0
    warps = max(1, min(8, group * block * segments // features))
    return Tile(group, block, segments, run, reach, warps, _REGISTERS[kernel])


def _bytes(starts: Tensor | None, stand_in: Tensor) -> tuple[Tensor, int, int]:
    """The starts as bytes with their strides; any tensor where there are none."""
    if starts is None:
        return stand_in, 0, 0
    starts = starts.view(torch.uint8) if starts.dtype == torch.bool else starts.to(torch.uint8)
    return starts, starts.stride(0), starts.stride(1)


def _packed(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _normaliser(normaliser: Tensor | None, stand_in: Tensor) -> tuple[Tensor, int, int]:
    if normaliser is None:
        return stand_in, 0, 0
    normaliser = _packed(normaliser)
    return normaliser, normaliser.stride(0), normaliser.stride(1)


class _Section:
    """One section of one pass, ready to be launched."""

    def __init__(self, kernel: Any, decay: bool, projected: Tensor, width: int, channels: int) -> None:
        self.kernel, self.decay, self.width = kernel, decay, width
        self.rotating = kernel in (rotating_forward, rotating_backward)
        self.batch, self.time = projected.shape[0], int(projected.shape[1])
        self.channel_width = width // channels // (2 if self.rotating else 1)
        self.tile = tile(kernel.fn.__name__, channels, self.channel_width, self.time)
        self.tokens = self.tile.segments * self.tile.run
        self.places = -(-self.time // self.tokens)
        self.groups = -(-channels // self.tile.group)
        self.words = self.batch * self.places * width  # the states at the ends of the chunks

    def launch(self, *arguments: Any, ends: Tensor, ticket: Tensor, layout: tuple[int, ...], **options: Any) -> None:
        t = self.tile
        maps, plane = ends, 0
        if t.reach:
            maps, plane = empty_words(2 * self.words, device=ends.device), self.words
        if self.rotating:
            options |= {"HALF": self.channel_width, "HALF_BLOCK": t.block}
        else:
            options |= {"CHANNEL_WIDTH": self.channel_width, "CHANNEL_BLOCK": t.block, "SECTION": int(self.decay)}
        self.kernel[(self.groups * self.batch * self.places,)](
            *arguments, ends, maps, ticket, self.batch, self.time, self.places, self.groups, *layout, plane,
            WIDTH=self.width, GROUP=t.group, SEGMENTS=t.segments, RUN=t.run, REACH=t.reach,
            EVEN=self.time % self.tokens == 0, num_warps=t.warps, maxnreg=t.registers, **options,
        )  # fmt: skip


def _sections(
    backward: bool, projected: Tensor, width: int, channels: int, rotating: bool
) -> tuple[_Section, _Section]:
    real, turning = (real_backward, rotating_backward) if backward else (real_forward, rotating_forward)
    decay = turning if rotating else real
    return _Section(real, False, projected, width, channels), _Section(decay, True, projected, width, channels)


def _marks(
    slope: _Section, decay: _Section, projected: Tensor, width: int, channels: int, rotating: bool
) -> list[tuple[int, int]]:
    """For each section of the forward pass: how many states it saves per sequence, and every how many tokens."""
    marks = []
    for made, later in zip((slope, decay), _sections(True, projected, width, channels, rotating), strict=True):
        every = min(made.tokens, later.tokens)
        marks.append((made.places * made.tokens // every, every))
    return marks


def saved_shape(projected: Tensor, width: int, channels: int, rotating: bool) -> tuple[int]:
    """The shape of `mix_forward`'s third result."""
    if projected.shape[0] == 0 or projected.shape[1] == 0:
        return (0,)
    marks = _marks(*_sections(False, projected, width, channels, rotating), projected, width, channels, rotating)
    return (projected.shape[0] * sum(n for n, _ in marks) * width,)


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
    """Gated sections `(batch, time, 2D)`, the last state `(batch, 2D)` and what `mix_backward` needs.

    `projected` `(batch, time, 5D or 4D)`, `state` `(batch, 2D)`, `starts` `(batch, time)`, `normaliser`
    `(batch, time, channels)` as for `mcsd_agent.mixing.mix_reference`. The third result, float32, holds the
    states before every stretch of time, first those of the slope section, then those of the decay section.
    """
    batch, time, width = *projected.shape[:2], constants.norm_weight.shape[0] // 2
    gated = projected.new_empty(batch, time, 2 * width)
    if batch == 0 or time == 0:
        return gated, state.clone(), state.new_empty(0)
    projected, state = _packed(projected), state.contiguous()
    flags, *flag_strides = _bytes(starts, projected)
    slope, decay = _sections(False, projected, width, channels, rotating)
    marks = _marks(slope, decay, projected, width, channels, rotating)
    saved = state.new_empty(saved_shape(projected, width, channels, rotating))
    kept = saved.split([batch * n * width for n, _ in marks])
    words = empty_words(slope.words + decay.words, device=projected.device)
    ends = words.split([slope.words, decay.words])
    tickets = empty_words(2, device=projected.device)
    strides = [projected.stride(0), projected.stride(1), *flag_strides]
    weight, has_starts = constants.norm_weight, starts is not None
    z, *z_strides = _normaliser(normaliser, state)
    with torch.cuda.device_of(projected):
        slope.launch(
            projected, state, flags, z, constants.slope_rate, constants.rate_bias, weight, weight, gated, kept[0],
            ends=ends[0], ticket=tickets[:1], layout=(*strides, *z_strides), CHANNELS=channels, MARK=marks[0][1],
            SELECTIVE=selective, SCALED=False, NORMALISED=normaliser is not None, STARTS=has_starts,
        )  # fmt: skip
        if rotating:
            decay.launch(
                projected, state, flags, constants.decay_rate, constants.angle, constants.decay_scale, weight, gated,
                kept[1], ends=ends[1], ticket=tickets[1:], layout=tuple(strides), STARTS=has_starts, MARK=marks[1][1],
            )  # fmt: skip
        else:
            decay.launch(
                projected, state, flags, state, constants.decay_rate, weight, constants.decay_scale, weight, gated,
                kept[1], ends=ends[1], ticket=tickets[1:], layout=(*strides, 0, 0), CHANNELS=channels, MARK=marks[1][1],
                SELECTIVE=False, SCALED=True, NORMALISED=False, STARTS=has_starts,
            )  # fmt: skip
    last = [
        x.view(torch.float32).view(batch, s.places, width)[:, -1] for s, x in zip((slope, decay), ends, strict=True)
    ]
    return gated, torch.cat(last, 1), saved


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
    """Gradients of `mix_forward`'s inputs from those of its first two results; `saved` is its third."""
    batch, time, width = *projected.shape[:2], constants.norm_weight.shape[0] // 2
    branches = 5 if selective else 4
    grad_projected = projected.new_empty(batch, time, branches * width)
    grad_z = None if normaliser is None else state.new_empty(batch, time, channels)
    lengths = ([width] + [width] * selective, [width] + [width // 2] * (3 * rotating))
    if batch == 0 or time == 0:
        grad_state = grad_final.clone()
        sums = [[state.new_zeros(n) for n in section] for section in lengths]
        return _gradients(grad_projected, grad_state, grad_z, sums, selective, rotating)
    projected, grad_gated = _packed(projected), _packed(grad_gated)
    state, grad_final, grad_state = state.contiguous(), grad_final.contiguous(), torch.empty_like(state)
    flags, *flag_strides = _bytes(starts, projected)
    slope, decay = _sections(True, projected, width, channels, rotating)
    marks = _marks(*_sections(False, projected, width, channels, rotating), projected, width, channels, rotating)
    kept = saved.split([batch * n * width for n, _ in marks])
    words = empty_words(slope.words + decay.words, device=projected.device)
    ends = words.split([slope.words, decay.words])
    tickets = empty_words(2, device=projected.device)
    partial = [state.new_empty(batch * s.places, sum(n)) for s, n in zip((slope, decay), lengths, strict=True)]
    strides = [grad_gated.stride(0), grad_gated.stride(1), projected.stride(0), projected.stride(1), *flag_strides]
    weight, has_starts = constants.norm_weight, starts is not None
    z, *z_strides = _normaliser(normaliser, state)
    given = (grad_gated, grad_final, projected, flags)
    shared = {"STARTS": has_starts, "BRANCHES": branches}
    with torch.cuda.device_of(projected):
        slope.launch(
            *given, z, constants.slope_rate, constants.rate_bias, weight, weight, kept[0], marks[0][0],
            grad_projected, grad_state, grad_state if grad_z is None else grad_z, partial[0],
            ends=ends[0], ticket=tickets[:1], layout=(*strides, *z_strides), CHANNELS=channels,
            PARTIAL=sum(lengths[0]), RATIO=slope.tokens // marks[0][1],
            SELECTIVE=selective, SCALED=False, NORMALISED=normaliser is not None, **shared,
        )  # fmt: skip
        placing = {"PARTIAL": sum(lengths[1]), "RATIO": decay.tokens // marks[1][1], **shared}
        if rotating:
            decay.launch(
                *given, constants.decay_rate, constants.angle, constants.decay_scale, weight, kept[1], marks[1][0],
                grad_projected, grad_state, partial[1],
                ends=ends[1], ticket=tickets[1:], layout=tuple(strides), **placing,
            )  # fmt: skip
        else:
            decay.launch(
                *given, state, constants.decay_rate, weight, constants.decay_scale, weight, kept[1], marks[1][0],
                grad_projected, grad_state, grad_state, partial[1],
                ends=ends[1], ticket=tickets[1:], layout=(*strides, 0, 0), CHANNELS=channels,
                SELECTIVE=False, SCALED=True, NORMALISED=False, **placing,
            )  # fmt: skip
    sums = [list(x.sum(0).split(n)) for x, n in zip(partial, lengths, strict=True)]
    return _gradients(grad_projected, grad_state, grad_z, sums, selective, rotating)


def _gradients(
    projected: Tensor,
    state: Tensor,
    normaliser: Tensor | None,
    sums: list[list[Tensor]],
    selective: bool,
    rotating: bool,
) -> Gradients:
    """Results that share no memory, as an operator's must."""
    rate, angle, scale = (x.clone() for x in sums[1][1:]) if rotating else (None, None, None)
    bias = sums[0][1].clone() if selective else None
    return Gradients(projected, state, normaliser, bias, rate, angle, scale, torch.cat([sums[0][0], sums[1][0]]))
