"""A whole MCSD backbone over short sequences on a CPU, with its gradient: what a reinforcement learner's update does.

A minibatch of a few sequences is so little arithmetic that calls cost more: one node of autograd for the
whole stack instead of one for each of its fifty operations. Products, sections and norms are those that
`MCSDBackbone.scan` uses, and so are the results, up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from mcsd_agent.kernels import cpu_rows, cpu_sections
from mcsd_agent.kernels.linear import grad_of_input, grad_of_weight, product
from mcsd_agent.kernels.operators import refuse_second_derivatives

if TYPE_CHECKING:
    from mcsd_agent.backbone import MCSDBackbone

_EPSILON = np.float32(1e-6)
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
        batch, time, width = xs.shape
        rows, chunks = batch * time, (time + cpu_sections.CHUNK - 1) // cpu_sections.CHUNK
        channel = cpu_sections.channel_argument(channel_width)
        begins = np.zeros((batch, time), np.bool_) if starts is None else starts.contiguous().numpy()
        layers = _cut(_Layer, [p.detach() for p in parameters])
        before = state.detach().transpose(0, 1).contiguous()
        after = torch.empty_like(before)
        stream = xs.detach().reshape(rows, width).contiguous()
        normed, inverse = torch.empty_like(stream), xs.new_empty(rows)
        cpu_rows.norm_forward(stream.numpy(), layers[0].norm.numpy(), _EPSILON, normed.numpy(), inverse.numpy())
        kept: list[Tensor] = []
        rates = [_rates(layer, slope, channel_width) for layer, slope in zip(layers, slopes, strict=True)]
        following = [*(layer.norm for layer in layers[1:]), last.detach()]
        for i, layer in enumerate(layers):
            projected = product(normed, layer.project.t())
            gated, saved = xs.new_empty(rows, 2 * width), xs.new_empty(batch, chunks, 2 * width)
            first = projected.numpy().reshape(batch, time, -1), begins, before[i].numpy()
            weight = layer.cell_norm.numpy()
            out = weight, channel, gated.numpy().reshape(batch, time, -1), after[i].numpy(), saved.numpy()
            cpu_sections.selective_forward(*first, rates[i].slope, layer.rate_bias.numpy(), *out)
            cpu_sections.rotating_forward(*first, rates[i].cos, rates[i].sin, rates[i].scale, *out)
            kept += stream, inverse, normed, saved, projected, gated
            stream, normed, inverse = _add(stream, product(gated, layer.output), layer.mlp_norm)
            h = product(normed, layer.inward)
            hidden = h.new_empty(rows, h.shape[1] // 2)
            cpu_rows.gated_forward(h.numpy(), hidden.numpy())
            kept += stream, inverse, normed, h, hidden
            stream, normed, inverse = _add(stream, product(hidden, layer.outward), following[i])
        # Saved so, they are freed with the graph, and autograd refuses where one has been changed since.
        ctx.save_for_backward(last, stream, inverse, *parameters, *kept)
        ctx.rates, ctx.begins, ctx.channel, ctx.shape = rates, begins, channel, xs.shape
        return normed.view(xs.shape), after.transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_final: Tensor) -> tuple[Any, ...]:
        refuse_second_derivatives()
        last, stream, inverse, *rest = (t.detach() for t in ctx.saved_tensors)
        count = len(_Layer._fields) * len(ctx.rates)
        layers, kept = _cut(_Layer, rest[:count]), _cut(_Kept, rest[count:])
        finals = grad_final.transpose(0, 1).contiguous()
        grad_state = torch.empty_like(finals)
        grad_stream, of_last = torch.empty_like(stream), torch.zeros_like(last)
        normed = grad.reshape(-1, ctx.shape[-1]).contiguous()
        cpu_rows.norm_backward(
            normed.numpy(), stream.numpy(), inverse.numpy(), last.numpy(), grad_stream.numpy(), of_last.numpy()
        )
        grads: list[Tensor] = []
        for i in range(len(layers) - 1, -1, -1):
            arrays = ctx.rates[i], ctx.begins, ctx.channel, finals[i], grad_state[i]
            grad_stream, of_layer = _layer_backward(layers[i], kept[i], grad_stream, *arrays)
            grads[:0] = of_layer
        wants_xs, wants_state, *_ = ctx.needs_input_grad
        of_inputs = (
            grad_stream.view(ctx.shape) if wants_xs else None,
            grad_state.transpose(0, 1) if wants_state else None,
        )
        return *of_inputs, None, None, None, of_last, *grads


def _layer_backward(
    layer: _Layer,
    kept: _Kept,
    grad_stream: Tensor,
    rates: _Rates,
    begins: np.ndarray,
    channel: Any,
    grad_final: Tensor,
    grad_state: Tensor,
) -> tuple[Tensor, _Layer]:
    """From the gradient of a layer's output to those of its input and its parameters; fills `grad_state`."""
    grad_hidden = grad_of_input(grad_stream, layer.outward)
    outward = grad_of_weight(grad_stream, kept.hidden)
    grad_h = torch.empty_like(kept.h)
    cpu_rows.gated_backward(grad_hidden.numpy(), kept.h.numpy(), grad_h.numpy())
    inward = grad_of_weight(grad_h, kept.mlp_normed)
    grad_normed = grad_of_input(grad_h, layer.inward)
    grad_stream, mlp_norm = _add_backward(grad_stream, grad_normed, kept.mlp_stream, kept.mlp_inverse, layer.mlp_norm)

    grad_gated = grad_of_input(grad_stream, layer.output)
    output = grad_of_weight(grad_stream, kept.gated)
    grad_projected = torch.empty_like(kept.projected)
    rate_bias, angle, cell_norm = (torch.zeros_like(p) for p in (layer.rate_bias, layer.angle, layer.cell_norm))
    of_rate, of_scale = np.zeros_like(rates.decay), np.zeros_like(rates.scale)
    shape = *begins.shape, -1
    first = grad_gated.numpy().reshape(shape), grad_final.numpy(), kept.projected.numpy().reshape(shape), begins
    saved = layer.cell_norm.numpy(), channel, kept.chunks.numpy()
    out = grad_projected.numpy().reshape(shape), grad_state.numpy()
    cpu_sections.selective_backward(
        *first, rates.slope, layer.rate_bias.numpy(), *saved, *out, rate_bias.numpy(), cell_norm.numpy()
    )
    of_rates = of_rate, angle.view(-1).numpy(), of_scale
    cpu_sections.rotating_backward(
        *first, rates.cos, rates.sin, rates.scale, *saved, *out, *of_rates, cell_norm.numpy()
    )
    # rate = e^l, scale = sqrt(1 - e^(-2 rate)): both follow the logarithm l that is learnt
    log_rate = (of_rate + of_scale * np.exp(-2 * rates.decay) / rates.scale) * rates.decay
    project = grad_of_weight(kept.normed, grad_projected)
    grad_normed = grad_of_input(grad_projected, layer.project.t())
    grad_stream, norm = _add_backward(grad_stream, grad_normed, kept.stream, kept.inverse, layer.norm)
    log_decay_rate = torch.from_numpy(log_rate).view(layer.angle.shape)
    return grad_stream, _Layer(
        norm, project, rate_bias, log_decay_rate, angle, cell_norm, output, mlp_norm, inward, outward
    )


def _cut(kind: type[_Fields], tensors: Sequence[Tensor]) -> list[_Fields]:
    """As many of `kind` as the tensors make, one after the other."""
    size = len(kind._fields)
    return [kind(*tensors[i : i + size]) for i in range(0, len(tensors), size)]


def _rates(layer: _Layer, log_slope: Tensor, channel_width: int) -> _Rates:
    slope = np.repeat(np.exp(log_slope.numpy()) / np.float32(math.log(2)), channel_width)
    rate = np.exp(layer.log_decay_rate.numpy().ravel())
    gamma, angle = np.exp(-rate), layer.angle.numpy().ravel()
    return _Rates(slope, rate, gamma * np.cos(angle), gamma * np.sin(angle), np.sqrt(-np.expm1(-2 * rate)))


def _add(stream: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The sum in the place of `y`, its norm, and 1 / rms."""
    normed, inverse = torch.empty_like(y), y.new_empty(y.shape[0])
    total = y.numpy()
    cpu_rows.add_norm_forward(stream.numpy(), total, weight.numpy(), _EPSILON, total, normed.numpy(), inverse.numpy())
    return y, normed, inverse


def _add_backward(
    grad_stream: Tensor, grad_normed: Tensor, total: Tensor, inverse: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients of the sum and of the norm's weight."""
    grad, grad_weight = torch.empty_like(grad_stream), torch.zeros_like(weight)
    tensors = grad_stream, grad_normed, total, inverse, weight, grad, grad_weight
    cpu_rows.add_norm_backward(*(t.numpy() for t in tensors))
    return grad, grad_weight
