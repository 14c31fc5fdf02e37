"""The fused sections of a cell on CUDA: `mix_forward` and `mix_backward`, one Triton launch each.

A launch computes both sections, whose programs alternate: what one section waits for, memory or the state of the
chunk before, the other one's arithmetic hides. They read disjoint columns of the projections and write disjoint
columns of shared results. Nothing here waits for the device, and results do not depend on the order in which
programs run.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from mcsd_agent.kernels.cuda_chain import SIZES, empty_words, take_ticket
from mcsd_agent.kernels.cuda_real_section import real_backward, real_forward
from mcsd_agent.kernels.cuda_rotating_section import rotating_backward, rotating_forward
from mcsd_agent.mixing import Constants, Gradients

#: What `projected` may be; arithmetic is in float32.
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class Tile(NamedTuple):
    """A program's share: `segments * run` tokens of `group` channels of `block` (padded) features."""

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
_SEGMENTS = 4
_RUN = {"forward": 16, "backward": 8}
_REGISTERS = {"forward": 128, "backward": 128}
_SUMMED = 16  # columns of a program that sums gradients of constants: as many programs as a device has processors
_LONG = 128  # chunks from which on the chain of states is the limit, not memory


@triton.jit(do_not_specialize=SIZES)
def forward_kernel(
    projected, state, starts, normaliser, slope_rate, rate_bias, decay_rate, angle, decay_scale, norm_weight,
    gated, final, saved, ends, maps, tickets, batch, time, places, groups, marks, plane,
    WIDTH: tl.constexpr, CHANNELS: tl.constexpr, GROUP: tl.constexpr, BLOCK: tl.constexpr, SELECTIVE: tl.constexpr,
    ROTATING: tl.constexpr, NORMALISED: tl.constexpr, STARTS: tl.constexpr, SEGMENTS: tl.constexpr, RUN: tl.constexpr,
    REACH: tl.constexpr, EVEN: tl.constexpr, MARK: tl.constexpr,
):  # fmt: skip
    """One chunk of one section; `ends` and `maps` as in `cuda_chain`, those of the decay section second.

    Rows of all tensors are packed. `saved` receives `marks` states of every sequence: those before every `MARK`-th
    token. `EVEN` says that chunks divide the time.
    """
    BRANCHES: tl.constexpr = 5 if SELECTIVE else 4
    CHANNEL: tl.constexpr = WIDTH // CHANNELS
    both, sequence, place = take_ticket(tickets, 2 * groups, batch)
    decay, group = both % 2, both // 2
    sequence = sequence.to(tl.int64)
    words = decay.to(tl.int64) * batch * places * WIDTH
    states = decay.to(tl.int64) * batch * marks * WIDTH
    if decay == 0:
        real_forward(
            projected, state, starts, normaliser, slope_rate, rate_bias, norm_weight, norm_weight, gated, final,
            saved + states, ends + words, maps + words, group, sequence, place, time, places, marks, plane,
            0, WIDTH, BRANCHES, CHANNELS, CHANNEL, GROUP, BLOCK, SELECTIVE, False, NORMALISED, STARTS,
            SEGMENTS, RUN, REACH, EVEN, MARK,
        )  # fmt: skip
    else:
        if ROTATING:
            rotating_forward(
                projected, state, starts, decay_rate, angle, decay_scale, norm_weight, gated, final,
                saved + states, ends + words, maps + words, group, sequence, place, time, places, marks, plane,
                WIDTH, BRANCHES, CHANNEL // 2, GROUP, BLOCK // 2, STARTS, SEGMENTS, RUN, REACH, EVEN, MARK,
            )  # fmt: skip
        else:
            real_forward(
                projected, state, starts, normaliser, decay_rate, norm_weight, decay_scale, norm_weight, gated, final,
                saved + states, ends + words, maps + words, group, sequence, place, time, places, marks, plane,
                1, WIDTH, BRANCHES, CHANNELS, CHANNEL, GROUP, BLOCK, False, True, False, STARTS,
                SEGMENTS, RUN, REACH, EVEN, MARK,
            )  # fmt: skip


@triton.jit(do_not_specialize=SIZES)
def backward_kernel(
    grad_gated, grad_final, projected, starts, normaliser, slope_rate, rate_bias, decay_rate, angle, decay_scale,
    norm_weight, saved, grad_projected, grad_state, grad_normaliser, partial, ends, maps, tickets,
    batch, time, places, groups, marks, plane,
    WIDTH: tl.constexpr, CHANNELS: tl.constexpr, GROUP: tl.constexpr, BLOCK: tl.constexpr, SELECTIVE: tl.constexpr,
    ROTATING: tl.constexpr, NORMALISED: tl.constexpr, STARTS: tl.constexpr, SEGMENTS: tl.constexpr, RUN: tl.constexpr,
    REACH: tl.constexpr, EVEN: tl.constexpr, PARTIAL: tl.constexpr,
):  # fmt: skip
    """Gradients of one chunk of one section of `forward_kernel`.

    A chunk has a row of `PARTIAL` numbers in `partial` for its part of the sums: norm_weight (2 WIDTH), rate_bias
    (WIDTH, if selective), -log γ, θ and the scale (WIDTH / 2 each, if rotating).
    """
    BRANCHES: tl.constexpr = 5 if SELECTIVE else 4
    CHANNEL: tl.constexpr = WIDTH // CHANNELS
    both, sequence, place = take_ticket(tickets, 2 * groups, batch)
    decay, group = both % 2, both // 2
    sequence = sequence.to(tl.int64)
    words = decay.to(tl.int64) * batch * places * WIDTH
    states = decay.to(tl.int64) * batch * marks * WIDTH
    sums = partial + (sequence * places + (places - 1 - place)) * PARTIAL
    if decay == 0:
        real_backward(
            grad_gated, grad_final, projected, starts, normaliser, slope_rate, rate_bias, norm_weight, norm_weight,
            saved + states, grad_projected, grad_state, grad_normaliser, sums, ends + words, maps + words,
            group, sequence, place, time, places, marks, plane,
            0, WIDTH, BRANCHES, CHANNELS, CHANNEL, GROUP, BLOCK, SELECTIVE, False, NORMALISED, STARTS,
            SEGMENTS, RUN, REACH, EVEN,
        )  # fmt: skip
    else:
        if ROTATING:
            rotating_backward(
                grad_gated, grad_final, projected, starts, decay_rate, angle, decay_scale, norm_weight,
                saved + states, grad_projected, grad_state, sums, ends + words, maps + words,
                group, sequence, place, time, places, marks, plane,
                WIDTH, BRANCHES, (BRANCHES - 2) * WIDTH, CHANNEL // 2, GROUP, BLOCK // 2, STARTS,
                SEGMENTS, RUN, REACH, EVEN,
            )  # fmt: skip
        else:
            real_backward(
                grad_gated, grad_final, projected, starts, normaliser, decay_rate, norm_weight, decay_scale,
                norm_weight, saved + states, grad_projected, grad_state, grad_normaliser, sums, ends + words,
                maps + words, group, sequence, place, time, places, marks, plane,
                1, WIDTH, BRANCHES, CHANNELS, CHANNEL, GROUP, BLOCK, False, True, False, STARTS,
                SEGMENTS, RUN, REACH, EVEN,
            )  # fmt: skip


@triton.jit(do_not_specialize=("rows",))
def sum_rows_kernel(
    partial, norm_weight, bias, rate, angle, scale, rows, WIDTH: tl.constexpr, COLUMNS: tl.constexpr,
    SELECTIVE: tl.constexpr, ROTATING: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sums over the `rows` of `backward_kernel`'s `partial`, each of its gradients to memory of its own."""
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    row = tl.arange(0, ROWS)[:, None]
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    for first in range(0, rows, ROWS):
        here = (first + row < rows) & (column[None, :] < COLUMNS)
        total += tl.load(partial + (first + row).to(tl.int64) * COLUMNS + column[None, :], mask=here, other=0.0)
    total = tl.sum(total, 0)
    tl.store(norm_weight + column, total, mask=column < 2 * WIDTH)
    inside = column - 2 * WIDTH
    if SELECTIVE:
        tl.store(bias + inside, total, mask=(inside >= 0) & (inside < WIDTH))
        inside -= WIDTH
    if ROTATING:
        HALF: tl.constexpr = WIDTH // 2
        tl.store(rate + inside, total, mask=(inside >= 0) & (inside < HALF))
        tl.store(angle + (inside - HALF), total, mask=(inside >= HALF) & (inside < 2 * HALF))
        tl.store(scale + (inside - 2 * HALF), total, mask=(inside >= 2 * HALF) & (inside < 3 * HALF))


def _next_power(n: int) -> int:
    return 1 << max(n - 1, 0).bit_length()


def tile(direction: str, channels: int, channel_width: int, time: int) -> Tile:
    """Launch parameters of the forward or backward kernel by sizes alone."""
    block = _next_power(channel_width)
    group = min(max(1, _FEATURES // block), _next_power(channels))
    segments, run = _SEGMENTS, _RUN[direction]
    while group * block * segments > _FEATURES * _SEGMENTS and segments > 1:  # wide channels: fewer tokens
        segments //= 2
    while segments * run > _next_power(time) and segments > 1:  # short sequences
        segments //= 2
    reach = 4 if time > _LONG * segments * run else 0
    warps = max(1, min(8, group * block * segments // _FEATURES))
    return Tile(group, block, segments, run, reach, warps, _REGISTERS[direction])


class _Plan:
    """How a pass over `projected` is cut into chunks."""

    def __init__(self, direction: str, batch: int, time: int, width: int, channels: int) -> None:
        self.tile = t = tile(direction, channels, width // channels, time)
        self.batch, self.time, self.width, self.channels = batch, time, width, channels
        self.tokens = t.segments * t.run
        self.places = -(-time // self.tokens)  # chunks of a sequence
        self.groups = -(-channels // t.group)
        backward = tile("backward", channels, width // channels, time)
        self.mark = backward.segments * backward.run
        self.marks = -(-time // self.mark)  # saved states of a sequence: one before each of its chunks backward

    def launch(self, kernel: Any, *arguments: Tensor | None, device: torch.device, **options: Any) -> None:
        t, words = self.tile, 2 * self.batch * self.places * self.width
        ends = empty_words(words + 1, device=device)  # and the counter of tickets
        maps, plane = (empty_words(2 * words, device=device), words) if t.reach else (ends, 0)
        kernel[(2 * self.groups * self.batch * self.places,)](
            *arguments, ends, maps, ends[words:], self.batch, self.time, self.places, self.groups, self.marks, plane,
            WIDTH=self.width, CHANNELS=self.channels, GROUP=t.group, BLOCK=t.block, SEGMENTS=t.segments, RUN=t.run,
            REACH=t.reach, EVEN=self.time % self.tokens == 0, num_warps=t.warps, maxnreg=t.registers, **options,
        )  # fmt: skip


def saved_shape(projected: Tensor, width: int, channels: int, rotating: bool) -> tuple[int]:
    """The shape of `mix_forward`'s third result."""
    batch, time, _ = projected.shape
    if batch == 0 or time == 0:
        return (0,)
    return (2 * batch * _Plan("forward", batch, int(time), width, channels).marks * width,)


def _flags(starts: Tensor | None, stand_in: Tensor) -> Tensor:
    """The starts as bytes; any tensor where there are none."""
    if starts is None:
        return stand_in
    starts = starts.contiguous()
    return starts.view(torch.uint8) if starts.dtype == torch.bool else starts.to(torch.uint8)


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
    projected, state = projected.contiguous(), state.contiguous()
    final = torch.empty_like(state)
    plan = _Plan("forward", batch, int(time), width, channels)
    saved = state.new_empty(2 * batch * plan.marks * width)
    z = None if normaliser is None else normaliser.contiguous()
    c = constants
    with torch.cuda.device_of(projected):
        plan.launch(
            forward_kernel, projected, state, _flags(starts, projected), z, c.slope_rate, c.rate_bias,
            c.decay_rate, c.angle, c.decay_scale, c.norm_weight, gated, final, saved, device=projected.device,
            SELECTIVE=selective, ROTATING=rotating, NORMALISED=z is not None, STARTS=starts is not None, MARK=plan.mark,
        )  # fmt: skip
    return gated, final, saved


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
    grad_projected = projected.new_empty(batch, time, (5 if selective else 4) * width)
    grad_z = None if normaliser is None else state.new_empty(batch, time, channels)
    sums = state.new_zeros if batch == 0 or time == 0 else state.new_empty
    of_weight, of_bias = sums(2 * width), sums(width) if selective else None
    of_rate, of_angle, of_scale = (sums(width // 2) if rotating else None for _ in range(3))
    if batch == 0 or time == 0:
        return Gradients(grad_projected, grad_final.clone(), grad_z, of_bias, of_rate, of_angle, of_scale, of_weight)
    projected, grad_gated, grad_final = projected.contiguous(), grad_gated.contiguous(), grad_final.contiguous()
    plan = _Plan("backward", batch, int(time), width, channels)
    grad_state = torch.empty_like(grad_final)
    columns = (2 + selective) * width + 3 * (width // 2) * rotating
    partial = state.new_empty(batch * plan.places, columns)
    z = None if normaliser is None else normaliser.contiguous()
    c = constants
    with torch.cuda.device_of(projected):
        plan.launch(
            backward_kernel, grad_gated, grad_final, projected, _flags(starts, projected), z, c.slope_rate,
            c.rate_bias, c.decay_rate, c.angle, c.decay_scale, c.norm_weight, saved, grad_projected, grad_state,
            grad_z, partial, device=projected.device, PARTIAL=columns,
            SELECTIVE=selective, ROTATING=rotating, NORMALISED=z is not None, STARTS=starts is not None,
        )  # fmt: skip
        sum_rows_kernel[(triton.cdiv(columns, _SUMMED),)](
            partial, of_weight, of_bias, of_rate, of_angle, of_scale, len(partial), WIDTH=width, COLUMNS=columns,
            SELECTIVE=selective, ROTATING=rotating, ROWS=1024, BLOCK=_SUMMED, num_warps=16,
        )  # fmt: skip
    return Gradients(grad_projected, grad_state, grad_z, of_bias, of_rate, of_angle, of_scale, of_weight)
