"""One step of an MCSD backbone in few ONNX operators.

A small operator costs about as much as a product of two thousand weights, so what counts is how many there are.
`FusedStep` computes what `MCSDBackbone.step` does, written down operator by operator:

- all that depends on constants alone is computed here: rates, rotations, sqrt(1-γ²) and the norm's weights, which are
  folded into the weights of the products before and behind them;
- one product makes all input projections of a layer, and what remains of its inputs is one split;
- what the memories of all layers do without a token (rotate, decay, move on in the convolution) is one operator each;
- norms and gates are single operators that onnxruntime has had since before version 1.18:
  SimplifiedLayerNormalization (RMSNorm), QuickGelu (x σ(x)) and RotaryEmbedding (the rotating decay). ONNX's own
  RMSNormalization and Swish came with operator sets 23 and 24, which that version does not read.

The operators are symbolic: outside of an export their results are zeros.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.onnx import ops

from mcsd_agent.backbone import MCSDBackbone
from mcsd_agent.cell import MCSDCell
from mcsd_agent.mixing import RMS_EPSILON

_TAPS = 4
_MICROSOFT = "com.microsoft::"


class FusedStep(nn.Module):
    """`step(x, state)` of an `MCSDBackbone` for export; see the module."""

    def __init__(self, net: MCSDBackbone) -> None:
        super().__init__()
        self.config, self.layers, self.state_size = net.config, net.layers, net.state_size
        norms = cast(Sequence[nn.RMSNorm], net.norms)
        self._norms = [(n.weight.detach().clone(), n.eps) for n in norms]
        self._pairs = list(net.paired_layers())
        with torch.no_grad():
            self._cells = [_folded(cell) for cell, _ in self._pairs]
            # Which constants are a weight of the cell times something: whole, weight, factor.
            self.products = [folded["product"] for folded in self._cells]
            self._mlps = [(mlp.inward.weight.t().clone(), mlp.outward.weight.t().clone()) for _, mlp in self._pairs]

    def step(self, x: Tensor, state: Tensor, episode_starts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One token `(batch, width)`, state `(batch, layers, size)`; an episode starts with a state of zeros."""
        assert episode_starts is None
        config = self.config
        width, channels, dc = config.width, config.channels, config.channel_width
        batch = x.shape[0]
        memories, parts = self._before_the_token(state, batch)
        states = []
        for i, folded in enumerate(self._cells):
            normed = self._norm(x, *self._norms[2 * i])
            gate, value_slope, value_decay, rate = self._project(normed, folded, batch)
            own = []
            if config.conv:
                value = self._joined(value_slope, value_decay)
                window = parts["window"][i]
                taken = _op("Mul", value, folded["last_tap"], shape=value.shape)
                mixed = _silu(_op("Add", taken, parts["conv"][i], shape=value.shape))
                value_slope, value_decay = _split(mixed, [channels, channels], 1)
                value_decay = _op("Mul", value_decay, folded["decay_scale"], shape=value_decay.shape)
                own.append(_op("Concat", window, _flat(value, batch, 2 * width), shape=(batch, 6 * width), axis=1))
            slope, decay = memories[2 * i], memories[2 * i + 1]
            if config.selective:
                assert rate is not None
                slope = self._blend(slope, value_slope, rate, folded["slope_rate"])
                history = slope
            else:
                slope = _op("Add", slope, value_slope, shape=slope.shape)
                history = _op("Mul", slope, parts["inverse"][i], shape=slope.shape)
                own.insert(0, parts["normaliser"][i])
            decay = _op("Add", decay, value_decay, shape=decay.shape)
            joined = self._joined(history, decay)
            gated = _op("Mul", _silu(gate), self._norm(joined, torch.ones(dc), RMS_EPSILON), shape=joined.shape)
            x = self._add(x, _flat(gated, batch, 2 * width), folded["output"])
            normed = self._norm(x, *self._norms[2 * i + 1])
            inward, outward = self._mlps[i]
            hidden = _op("MatMul", normed, inward, shape=(batch, inward.shape[1]))
            opened, value = _split(hidden, [outward.shape[0]] * 2, 1)
            x = self._add(x, _op("Mul", _silu(opened), value, shape=value.shape), outward)
            kept = joined if config.selective else self._joined(slope, decay)
            states.append(self._state(kept, own, batch))
        if self._is_plain:
            # the layers' memories one after the other, as rows of channels
            rows = _op("Concat", *states, shape=(batch, 2 * channels * self.layers, dc), axis=1)
        else:
            rows = _op("Concat", *states, shape=(batch, self.layers * self.state_size), axis=1)
        return self._norm(x, *self._norms[-1]), _reshape(rows, (batch, self.layers, self.state_size))

    @property
    def _is_plain(self) -> bool:
        """Whether a layer's state is its two memories and nothing else."""
        return self.state_size == 2 * self.config.width

    def _before_the_token(self, state: Tensor, batch: Any) -> tuple[list[Tensor], dict[str, list[Tensor]]]:
        """What becomes of the memories before the token is added: `(batch, C, Dc)` of each section of each layer.

        And of what a layer remembers besides: see the cell's state.
        """
        config, count = self.config, self.layers
        width, channels, dc = config.width, config.channels, config.channel_width
        memory, parts = state, {}
        if not self._is_plain:
            sizes = [2 * width, 0 if config.selective else channels, 6 * width if config.conv else 0]
            pieces = iter(_split(state, [n for n in sizes if n], 2))
            memory = next(pieces)
            if not config.selective:
                old = next(pieces)
                keep = torch.stack([f["normaliser_keep"] for f in self._cells])  # z ← e^-m z + 1
                z = _op("Add", _op("Mul", old, keep, shape=old.shape), torch.ones(1), shape=old.shape)
                inverse = _reshape(_op("Reciprocal", z, shape=z.shape), (batch, count, channels, 1))
                parts["inverse"] = [_reshape(p, (batch, channels, 1)) for p in _split(inverse, [1] * count, 1)]
                parts["normaliser"] = [_reshape(p, (batch, channels)) for p in _split(z, [1] * count, 1)]
            if config.conv:
                past = next(pieces)
                taps = torch.stack([f["past_taps"] for f in self._cells]).reshape(count, -1)
                weighed = _reshape(_op("Mul", past, taps, shape=past.shape), (batch, count, _TAPS - 1, 2 * width))
                summed = _op("ReduceSum", weighed, torch.tensor([2]), shape=(batch, count, 2 * width), keepdims=0)
                parts["conv"] = [_reshape(p, (batch, 2 * channels, dc)) for p in _split(summed, [1] * count, 1)]
                kept = _split(past, [2 * width, 4 * width], 2)[1]
                parts["window"] = [_reshape(p, (batch, 4 * width)) for p in _split(kept, [1] * count, 1)]
        rows = _reshape(memory, (batch, 2 * channels * count, dc))
        moved = self._decayed(rows)
        return _split(moved, [channels] * (2 * count), 1), parts

    def _decayed(self, rows: Tensor) -> Tensor:
        """γ e^{iθ} h of every memory whose rates are fixed; a selective slope stays as it is."""
        cells = self._cells
        if self.config.rotating:
            # Channels are positions: each has a row of cosines and sines of its own.
            cos, sin = (torch.cat([f[name] for f in cells]) for name in ("cos", "sin"))
            first = torch.zeros(1, dtype=torch.int64)
            return _op(_MICROSOFT + "RotaryEmbedding", rows, first, cos, sin, shape=rows.shape)
        keep = torch.cat([f["keep"] for f in cells])
        return _op("Mul", rows, keep, shape=rows.shape)

    def _project(self, x: Tensor, folded: dict[str, Any], batch: Any) -> tuple[Tensor, Tensor, Tensor, Any]:
        """Gate `(batch, 2C, Dc)`, both values and the rate `(batch, C, Dc)` or None."""
        config = self.config
        channels, dc = config.channels, config.channel_width
        branches = 5 if config.selective else 4
        weight = folded["project"]
        if config.block_diagonal:
            # (B, C, 1, Dc) by (C, Dc, branches * Dc)
            grouped = _reshape(x, (batch, channels, 1, dc))
            product = _op("MatMul", grouped, weight, shape=(batch, channels, 1, branches * dc))
            product = _reshape(product, (batch, channels, branches, dc))
            order = (batch, branches, channels, dc)
            product = _op("Transpose", product, shape=order, perm=[0, 2, 1, 3])
            if config.selective:
                product = _op("Add", product, folded["bias"].reshape(branches, channels, dc), shape=order)
        elif config.selective:
            product = _op("Gemm", x, weight, folded["bias"], shape=(batch, branches * config.width))
        else:
            product = _op("MatMul", x, weight, shape=(batch, branches * config.width))
        rows = _reshape(product, (batch, branches * channels, dc))
        parts = _split(rows, [2 * channels, channels, channels] + [channels] * config.selective, 1)
        return parts[0], parts[1], parts[2], parts[3] if config.selective else None

    def _blend(self, history: Tensor, value: Tensor, rate: Tensor, half_rate: Tensor) -> Tensor:
        """h + (1-a)(v - h) with 1-a = 2τ/(1+τ), τ = tanh(x/2): small where the memory holds, and not cancelled."""
        shape = value.shape
        tau = _op("Tanh", _op("Mul", _op("Softplus", rate, shape=shape), half_rate, shape=shape), shape=shape)
        half = _op("HardSigmoid", tau, shape=shape, alpha=0.5, beta=0.5)  # (1+τ)/2: τ is within 0 and 1
        fresh = _op("Div", tau, half, shape=shape)
        return _op("Add", history, _op("Mul", fresh, _op("Sub", value, history, shape=shape), shape=shape), shape=shape)

    def _joined(self, first: Tensor, second: Tensor) -> Tensor:
        shape = (first.shape[0], 2 * self.config.channels, self.config.channel_width)
        return _op("Concat", first, second, shape=shape, axis=1)

    def _state(self, memory: Tensor, parts: list[Tensor], batch: Any) -> Tensor:
        if self._is_plain:
            return memory
        flat = _flat(memory, batch, 2 * self.config.width)
        return _op("Concat", flat, *parts, shape=(batch, self.state_size), axis=1)

    def _norm(self, x: Tensor, weight: Tensor, epsilon: float | None) -> Tensor:
        return _op("SimplifiedLayerNormalization", x, weight, shape=x.shape, axis=-1, epsilon=epsilon)

    def _add(self, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """x + y W in one operator."""
        return _op("Gemm", y, weight, x, shape=x.shape)


def _folded(cell: MCSDCell) -> dict[str, Any]:
    """The constants of one cell in the shapes in which the step needs them."""
    config, c = cell.config, cell.constants()
    width, channels, dc = config.width, config.channels, config.channel_width
    folded: dict[str, Any] = {"output": (cell.output.weight * c.norm_weight).t().clone()}
    scale = c.decay_scale
    if config.rotating:
        # one number per complex feature, for its real and its imaginary half
        scale = scale.reshape(channels, 1, -1).repeat(1, 2, 1)
    scale = scale.reshape(channels, dc)
    project: Tensor = cell.project
    factor = torch.ones(project.shape[0] if config.block_diagonal else project.shape[1] // width, channels, dc)
    if config.conv:
        # between the product and the scale is a SiLU
        folded["decay_scale"] = scale
        folded["last_tap"] = cell.taps[-1].reshape(2 * channels, dc).clone()
        folded["past_taps"] = cell.taps[:-1].clone()
    else:
        factor[3] = scale
    if config.block_diagonal:
        project = project.permute(1, 2, 0, 3).flatten(2)
        factor = factor.transpose(0, 1).reshape(channels, 1, -1)
    else:
        factor = factor.reshape(1, -1)
    folded["project"] = project * factor
    folded["product"] = tuple(t.detach().numpy().copy() for t in (folded["project"], project, factor))
    slope_keep = torch.exp(-c.slope_rate).reshape(channels, dc)
    if config.selective:
        bias = torch.zeros(5 * width)
        bias[4 * width :] = cell.rate_bias
        folded["bias"] = bias
        folded["slope_rate"] = (c.slope_rate / (2 * math.log(2))).reshape(channels, dc)
        slope_keep = torch.ones_like(slope_keep)
    else:
        folded["normaliser_keep"] = torch.exp(-cell.log_slope.exp())
    gamma = torch.exp(-c.decay_rate)
    if c.angle is not None:
        cos, sin = (gamma * turn for turn in (c.angle.cos(), c.angle.sin()))
        half = slope_keep[:, : dc // 2]
        folded["cos"] = torch.cat([half, cos.reshape(channels, -1)])
        folded["sin"] = torch.cat([torch.zeros_like(half), sin.reshape(channels, -1)])
    else:
        folded["keep"] = torch.cat([slope_keep, gamma.reshape(channels, dc)])
    return folded


# --- operators -----------------------------------------------------------------------------------


def _op(name: str, *inputs: Tensor, shape: Sequence[Any], **attributes: Any) -> Tensor:
    version = 1 if name.startswith(_MICROSOFT) else None
    return ops.symbolic(name, inputs, attributes, dtype=torch.float32, shape=tuple(shape), version=version)


def _split(x: Tensor, sizes: list[int], axis: int) -> list[Tensor]:
    if len(sizes) == 1:
        return [x]
    shapes = [(*x.shape[:axis], n, *x.shape[axis + 1 :]) for n in sizes]
    parts = ops.symbolic_multi_out(
        "Split",
        (x, torch.tensor(sizes)),
        {"axis": axis},
        dtypes=[torch.float32] * len(sizes),
        shapes=shapes,
        version=None,
    )
    return list(parts)


def _reshape(x: Tensor, shape: Sequence[Any]) -> Tensor:
    # Zero keeps the batch, however large it is.
    return _op("Reshape", x, torch.tensor([0, *shape[1:]]), shape=shape)


def _flat(x: Tensor, batch: Any, size: int) -> Tensor:
    return _reshape(x, (batch, size))


def _silu(x: Tensor) -> Tensor:
    return _op(_MICROSOFT + "QuickGelu", x, shape=x.shape, alpha=1.0)
