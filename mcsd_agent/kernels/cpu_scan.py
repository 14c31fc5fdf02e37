"""A whole MCSD backbone over sequences on a CPU, with its gradient: what a learner's update does.

One node of autograd for the whole stack instead of one for each of its fifty operations, since calls cost more
than the arithmetic of a minibatch of a few short sequences. And all layers of one piece of time before the next
piece: what a product writes is still in the cache when the loop after it reads it, and what only the gradient
passes through is as large as a piece. Products, sections and norms are those that `MCSDBackbone.scan` uses, and
so are the results, up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from mcsd_agent.kernels import cpu_rows, cpu_sections
from mcsd_agent.kernels.linear import add_grad_of_weight, grad_of_input, product
from mcsd_agent.kernels.operators import refuse_second_derivatives

if TYPE_CHECKING:
    from mcsd_agent.backbone import MCSDBackbone

_EPSILON = np.float32(1e-6)
#: Tokens in a piece of time, all sequences together: so many rows of all projections are about a second-level cache.
ROWS_OF_A_PIECE = 512
#: Less time than this is not worth the calls.
_SHORTEST_PIECE = 8
_Fields = TypeVar("_Fields", "_Layer", "_Kept")


class _Layer(NamedTuple):
    """Parameters of one layer: norm and projection, rates, norm and output of the cell, then norm and MLP."""

    norm: Tensor
    project: Tensor
    rate_bias: Tensor
    log_decay_rate: Tensor
    angle: Tensor
    cell_norm: Tensor
    output: Tensor
    mlp_norm: Tensor
    inward: Tensor
    outward: Tensor


class _Rates(NamedTuple):
    """What follows from a layer's rates: arrays per (complex) feature."""

    slope: np.ndarray
    decay: np.ndarray
    cos: np.ndarray
    sin: np.ndarray
    scale: np.ndarray


class _Kept(NamedTuple):
    """What a layer's gradient needs again: rows of tokens, and the states at the starts of chunks."""

    stream: Tensor
    inverse: Tensor
    normed: Tensor
    chunks: Tensor
    projected: Tensor
    gated: Tensor
    mlp_stream: Tensor
    mlp_inverse: Tensor
    mlp_normed: Tensor
    h: Tensor
    hidden: Tensor


class _Net(NamedTuple):
    """The stack: `norms` are those before each layer and the last one."""

    layers: list[_Layer]
    rates: list[_Rates]
    channel: Any
    norms: list[Tensor]


class _Sums(NamedTuple):
    """Gradients of the parameters, to be added to: rates are (of -log γ, of the scale) per complex feature."""

    layers: list[_Layer]
    rates: list[tuple[np.ndarray, np.ndarray]]
    last: Tensor


def scan(net: MCSDBackbone, xs: Tensor, state: Tensor, starts: Tensor | None) -> tuple[Tensor, Tensor]:
    """As `MCSDBackbone.scan`, for float32 and the preset `extended` without convolution."""
    *norms, last = (cast(Tensor, n.weight) for n in net.norms)
    parameters: list[Any] = []
    for i, (cell, mlp) in enumerate(net.paired_layers()):
        parameters += _Layer(
            norm=norms[2 * i],
            project=cell.project,
            rate_bias=cell.rate_bias,
            log_decay_rate=cast(Tensor, cell.log_decay_rate),
            angle=cell.angle,
            cell_norm=cell.norm_weight,
            output=cell.output.weight,
            mlp_norm=norms[2 * i + 1],
            inward=mlp.inward.weight,
            outward=mlp.outward.weight,
        )
    slopes = [cell.log_slope for cell, _ in net.paired_layers()]
    begins = None if starts is None else starts.bool()
    return _Scan.apply(xs, state, begins, net.config.channel_width, slopes, last, *parameters)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        xs: Tensor,
        state: Tensor,
        starts: Tensor | None,
        channel_width: int,
        slopes: list[Tensor],
        last: Tensor,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        batch, time, _ = xs.shape
        begins = np.zeros((batch, time), np.bool_) if starts is None else starts.contiguous().numpy()
        layers = _cut(_Layer, [p.detach() for p in parameters])
        net = _Net(
            layers,
            [_rates(layer, slope, channel_width) for layer, slope in zip(layers, slopes, strict=True)],
            cpu_sections.channel_argument(channel_width),
            [*(layer.norm for layer in layers), last.detach()],
        )
        states, ys, kept = state.detach().transpose(0, 1).contiguous(), torch.empty_like(xs), []
        pieces = _pieces(batch, time)
        for piece in pieces:
            rows = xs.detach()[:, piece].reshape(-1, xs.shape[2])  # a copy, unless the piece is all of a batch
            normed, states, of_piece = _piece_forward(net, rows, states, np.ascontiguousarray(begins[:, piece]))
            ys[:, piece] = normed.view(batch, -1, xs.shape[2])
            kept += of_piece
        # Saved so, they are freed with the graph, and autograd refuses where one has been changed since.
        ctx.save_for_backward(last, *parameters, *kept)
        ctx.net, ctx.begins, ctx.pieces, ctx.shape = net._replace(layers=[], norms=[]), begins, pieces, xs.shape
        return ys, states.transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_final: Tensor) -> tuple[Any, ...]:
        refuse_second_derivatives()
        last, *rest = (t.detach() for t in ctx.saved_tensors)
        depth, width = len(ctx.net.rates), ctx.shape[2]
        count = len(_Layer._fields) * depth
        layers, kept = _cut(_Layer, rest[:count]), rest[count:]
        net = ctx.net._replace(layers=layers, norms=[*(layer.norm for layer in layers), last])
        sums = _Sums(
            [_Layer(*map(torch.zeros_like, layer)) for layer in layers],
            [(np.zeros_like(r.decay), np.zeros_like(r.scale)) for r in net.rates],
            torch.zeros_like(last),
        )
        grad_states, grad_xs = grad_final.transpose(0, 1).contiguous(), grad.new_empty(ctx.shape)
        of_a_piece = len(kept) // len(ctx.pieces)
        for number in range(len(ctx.pieces) - 1, -1, -1):
            piece = ctx.pieces[number]
            rows = grad[:, piece].reshape(-1, width).contiguous()
            begins = np.ascontiguousarray(ctx.begins[:, piece])
            of_piece = kept[number * of_a_piece : (number + 1) * of_a_piece]
            rows, grad_states = _piece_backward(net, of_piece, rows, grad_states, begins, sums)
            grad_xs[:, piece] = rows.view(ctx.shape[0], -1, width)
        for layer, rates, (of_rate, of_scale) in zip(sums.layers, net.rates, sums.rates, strict=True):
            # rate = e^l, scale = sqrt(1 - e^(-2 rate)): both follow the logarithm l that is learnt
            log_rate = (of_rate + of_scale * np.exp(-2 * rates.decay) / rates.scale) * rates.decay
            layer.log_decay_rate.copy_(torch.from_numpy(log_rate).view(layer.angle.shape))
        wants_xs, wants_state, *_ = ctx.needs_input_grad
        of_inputs = grad_xs if wants_xs else None, grad_states.transpose(0, 1) if wants_state else None
        return *of_inputs, None, None, None, sums.last, *(p for layer in sums.layers for p in layer)


def _pieces(batch: int, time: int) -> list[slice]:
    steps = max(_SHORTEST_PIECE, ROWS_OF_A_PIECE // batch)
    return [slice(begin, min(begin + steps, time)) for begin in range(0, time, steps)]


def _piece_forward(net: _Net, rows: Tensor, states: Tensor, begins: np.ndarray) -> tuple[Tensor, Tensor, list[Tensor]]:
    """All layers over one piece of time: the normed output, the states after it, and what its gradient needs."""
    (batch, time), width = begins.shape, rows.shape[1]
    after, chunks = torch.empty_like(states), -(-time // cpu_sections.CHUNK)
    stream, normed, inverse = rows, torch.empty_like(rows), rows.new_empty(rows.shape[0])
    cpu_rows.norm_forward(stream.numpy(), net.norms[0].numpy(), _EPSILON, normed.numpy(), inverse.numpy())
    kept: list[Tensor] = []
    for i, (layer, rates) in enumerate(zip(net.layers, net.rates, strict=True)):
        projected = product(normed, layer.project.t())
        gated, saved = rows.new_empty(rows.shape[0], 2 * width), rows.new_empty(batch, chunks, 2 * width)
        first = projected.numpy().reshape(batch, time, -1), begins, states[i].numpy()
        weight = layer.cell_norm.numpy()
        out = weight, net.channel, gated.numpy().reshape(batch, time, -1), after[i].numpy(), saved.numpy()
        cpu_sections.selective_forward(*first, rates.slope, layer.rate_bias.numpy(), *out)
        cpu_sections.rotating_forward(*first, rates.cos, rates.sin, rates.scale, *out)
        kept += stream, inverse, normed, saved, projected, gated
        stream, normed, inverse = _add(stream, product(gated, layer.output), layer.mlp_norm)
        h = product(normed, layer.inward)
        hidden = h.new_empty(rows.shape[0], h.shape[1] // 2)
        cpu_rows.gated_forward(h.numpy(), hidden.numpy())
        kept += stream, inverse, normed, h, hidden
        stream, normed, inverse = _add(stream, product(hidden, layer.outward), net.norms[i + 1])
    return normed, after, [*kept, stream, inverse]


def _piece_backward(
    net: _Net, kept: list[Tensor], grad: Tensor, grad_states: Tensor, begins: np.ndarray, sums: _Sums
) -> tuple[Tensor, Tensor]:
    """From the gradients of a piece's output and last states to those of its input and first; adds to `sums`."""
    *of_layers, stream, inverse = kept
    before, rows = torch.empty_like(grad_states), torch.empty_like(grad)
    arrays = (t.numpy() for t in (grad, stream, inverse, net.norms[-1], rows, sums.last))
    cpu_rows.norm_backward(*arrays)
    layers = list(zip(net.layers, _cut(_Kept, of_layers), net.rates, sums.layers, sums.rates, strict=True))
    for i in range(len(layers) - 1, -1, -1):
        rows = _layer_backward(*layers[i], rows, begins, net.channel, grad_states[i], before[i])
    return rows, before


def _layer_backward(
    layer: _Layer,
    kept: _Kept,
    rates: _Rates,
    sums: _Layer,
    of_rates: tuple[np.ndarray, np.ndarray],
    grad_stream: Tensor,
    begins: np.ndarray,
    channel: Any,
    grad_final: Tensor,
    grad_state: Tensor,
) -> Tensor:
    """From the gradient of a layer's output to that of its input; adds to the sums and fills `grad_state`."""
    grad_hidden = grad_of_input(grad_stream, layer.outward)
    add_grad_of_weight(sums.outward, grad_stream, kept.hidden)
    grad_h = torch.empty_like(kept.h)
    cpu_rows.gated_backward(grad_hidden.numpy(), kept.h.numpy(), grad_h.numpy())
    add_grad_of_weight(sums.inward, grad_h, kept.mlp_normed)
    grad_normed = grad_of_input(grad_h, layer.inward)
    grad_stream = _add_backward(
        grad_stream, grad_normed, kept.mlp_stream, kept.mlp_inverse, layer.mlp_norm, sums.mlp_norm
    )

    grad_gated = grad_of_input(grad_stream, layer.output)
    add_grad_of_weight(sums.output, grad_stream, kept.gated)
    grad_projected = torch.empty_like(kept.projected)
    shape = *begins.shape, -1
    first = grad_gated.numpy().reshape(shape), grad_final.numpy(), kept.projected.numpy().reshape(shape), begins
    saved = layer.cell_norm.numpy(), channel, kept.chunks.numpy()
    out = grad_projected.numpy().reshape(shape), grad_state.numpy()
    of_norm, (of_rate, of_scale) = sums.cell_norm.numpy(), of_rates
    cpu_sections.selective_backward(
        *first, rates.slope, layer.rate_bias.numpy(), *saved, *out, sums.rate_bias.numpy(), of_norm
    )
    of_decay = of_rate, sums.angle.view(-1).numpy(), of_scale
    cpu_sections.rotating_backward(*first, rates.cos, rates.sin, rates.scale, *saved, *out, *of_decay, of_norm)
    add_grad_of_weight(sums.project.t(), grad_projected, kept.normed)
    grad_normed = grad_of_input(grad_projected, layer.project.t())
    return _add_backward(grad_stream, grad_normed, kept.stream, kept.inverse, layer.norm, sums.norm)


def _cut(kind: type[_Fields], tensors: Sequence[Tensor]) -> list[_Fields]:
    """As many of `kind` as the tensors make, one after the other."""
    size = len(kind._fields)
    return [kind(*tensors[i : i + size]) for i in range(0, len(tensors), size)]


def _rates(layer: _Layer, log_slope: Tensor, channel_width: int) -> _Rates:
    """By torch, as `MCSDCell.constants` does: a difference in the last place grows with the length of the memory."""
    slope = log_slope.exp().repeat_interleave(channel_width) / math.log(2)
    rate, angle = layer.log_decay_rate.exp().flatten(), layer.angle.flatten()
    gamma = torch.exp(-rate)
    scale = torch.sqrt(-torch.expm1(-2 * rate))
    return _Rates(*(t.numpy() for t in (slope, rate, gamma * angle.cos(), gamma * angle.sin(), scale)))


def _add(stream: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The sum in the place of `y`, its norm, and 1 / rms."""
    normed, inverse = torch.empty_like(y), y.new_empty(y.shape[0])
    total = y.numpy()
    cpu_rows.add_norm_forward(stream.numpy(), total, weight.numpy(), _EPSILON, total, normed.numpy(), inverse.numpy())
    return y, normed, inverse


def _add_backward(
    grad_stream: Tensor, grad_normed: Tensor, total: Tensor, inverse: Tensor, weight: Tensor, grad_weight: Tensor
) -> Tensor:
    """The gradient of the sum; adds to that of the norm's weight."""
    grad = torch.empty_like(grad_stream)
    tensors = grad_stream, grad_normed, total, inverse, weight, grad, grad_weight
    cpu_rows.add_norm_backward(*(t.numpy() for t in tensors))
    return grad
