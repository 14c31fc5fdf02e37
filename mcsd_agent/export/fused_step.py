"""One step of an MCSD backbone in few ONNX operators.

A small operator costs about as much as a product of two thousand weights, so what counts is how many there are.
`FusedStep` computes what `MCSDBackbone.step` does, written down operator by operator:

- all that depends on constants alone is computed here: rates, rotations, sqrt(1-γ²) and the norm's weights, which are
  folded into the weights of the products before and behind them;
- what is added to a product is added by the product's operator: the memory that a value joins, a bias, the residual
  stream. So every branch that something is added to has a product of its own;
- what the memories of all layers do without a token (rotate, decay, move on in the convolution) is one operator each;
- norms and gates are single operators that onnxruntime has had since before version 1.18:
  SimplifiedLayerNormalization (RMSNorm), QuickGelu (x σ(x)) and RotaryEmbedding (the rotating decay). ONNX's own
  RMSNormalization and Swish came with operator sets 23 and 24, which that version does not read.

Values are rows `(batch, n)`, one number per feature, unless said otherwise. The operators are symbolic: outside of an
export their results are zeros.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.onnx import ops

from mcsd_agent.backbone import MCSDBackbone
from mcsd_agent.cell import MCSDCell
from mcsd_agent.mixing import RMS_EPSILON

_TAPS = 4
_MICROSOFT = "com.microsoft::"


class _Product(NamedTuple):
    """x W, not yet written down: what is to be added comes with it."""

    x: Tensor
    weight: Tensor


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
            self.products = [product for folded in self._cells for product in folded["products"]]
            self._mlps = [(mlp.inward.weight.t().clone(), mlp.outward.weight.t().clone()) for _, mlp in self._pairs]

    def step(self, x: Tensor, state: Tensor, episode_starts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One token `(batch, width)`, state `(batch, layers, size)`; an episode starts with a state of zeros."""
        assert episode_starts is None
        batch = x.shape[0]
        memories, parts = self._before_the_token(state, batch)
        states = []
        for i, folded in enumerate(self._cells):
            branches = self._project(self._norm(x, *self._norms[2 * i]), folded, batch)
            own = []
            if self.config.conv:
                own.append(self._convolve(branches, folded, parts["conv"][i], parts["window"][i], batch))
            if self.config.selective:
                slope, decay = memories[2 * i], memories[2 * i + 1]
                slope = self._blend(slope, branches["slope"], _plus(branches["rate"], folded["bias"]), folded)
                memory = _op("Concat", slope, _plus(branches["decay"], decay), shape=self._row(batch), axis=1)
                rows = self._rows(memory, batch)
            else:
                memory = _plus(branches["values"], memories[i])
                rows = self._rows(memory, batch)
                rows = _op("Mul", rows, parts["inverse"][i], shape=rows.shape)
                own.insert(0, parts["normaliser"][i])
            states.append(_op("Concat", memory, *own, shape=(batch, self.state_size), axis=1) if own else memory)
            history = _reshape(self._norm(rows, torch.ones(rows.shape[2]), RMS_EPSILON), self._row(batch))
            gated = _op("Mul", _silu(_value(branches["gate"])), history, shape=history.shape)
            x = _plus(_Product(gated, folded["output"]), x)
            x = self._mlp(x, i)
        rows = _op("Concat", *states, shape=(batch, self.layers * self.state_size), axis=1)
        return self._norm(x, *self._norms[-1]), _reshape(rows, (batch, self.layers, self.state_size))

    def _row(self, batch: Any) -> tuple[Any, int]:
        """Shape of a value for both sections."""
        return (batch, 2 * self.config.width)

    def _rows(self, row: Tensor, batch: Any, layers: int = 1) -> Tensor:
        """One row per channel: `(batch, layers * 2C, Dc)`."""
        return _reshape(row, (batch, layers * 2 * self.config.channels, self.config.channel_width))

    def _before_the_token(self, state: Tensor, batch: Any) -> tuple[list[Tensor], dict[str, list[Tensor]]]:
        """What becomes of the memories before the token is added: a row of each layer, of each section if selective.

        And of what a layer remembers besides, see the cell's state: rows, but `inverse`, which is `(batch, 2C, 1)`.
        """
        config, count = self.config, self.layers
        width, channels = config.width, config.channels
        sizes = [2 * width, 0 if config.selective else channels, 6 * width if config.conv else 0]
        pieces = iter(_split(state, [n for n in sizes if n], 2))
        memory, parts = next(pieces), {}
        if not config.selective:
            old = next(pieces)
            keep = torch.stack([f["normaliser_keep"] for f in self._cells])  # z ← e^-m z + 1
            z = _op("Add", _op("Mul", old, keep, shape=old.shape), torch.ones(1), shape=old.shape)
            inverse = _op("Reciprocal", z, shape=z.shape)
            # The decay has none: it is divided by 1.
            both = _pad(inverse, 2, channels, 1.0)
            parts["inverse"] = _split(_reshape(both, (batch, count * 2 * channels, 1)), [2 * channels] * count, 1)
            parts["normaliser"] = _split(_reshape(z, (batch, count * channels)), [channels] * count, 1)
        if config.conv:
            past = next(pieces)
            taps = torch.stack([f["past_taps"] for f in self._cells]).reshape(count, -1)
            weighed = _reshape(_op("Mul", past, taps, shape=past.shape), (batch, count, _TAPS - 1, 2 * width))
            summed = _op("ReduceSum", weighed, torch.tensor([2]), shape=(batch, count, 2 * width), keepdims=0)
            parts["conv"] = _split(_reshape(summed, (batch, count * 2 * width)), [2 * width] * count, 1)
            kept = _split(past, [2 * width, 4 * width], 2)[1]
            parts["window"] = _split(_reshape(kept, (batch, count * 4 * width)), [4 * width] * count, 1)
        sections = [width] * (2 * count) if config.selective else [2 * width] * count
        return _split(self._decayed(memory, batch), sections, 1), parts

    def _decayed(self, memory: Tensor, batch: Any) -> Tensor:
        """γ e^{iθ} h of every memory whose rates are fixed, as one row; a selective slope stays as it is."""
        cells, size = self._cells, self.layers * 2 * self.config.width
        if self.config.rotating:
            # Channels are positions: each has a row of cosines and sines of its own.
            cos, sin = (torch.cat([f[name] for f in cells]) for name in ("cos", "sin"))
            first = torch.zeros(1, dtype=torch.int64)
            rows = self._rows(memory, batch, self.layers)
            rows = _op(_MICROSOFT + "RotaryEmbedding", rows, first, cos, sin, shape=rows.shape)
            return _reshape(rows, (batch, size))
        row = _reshape(memory, (batch, size))
        return _op("Mul", row, torch.cat([f["keep"].flatten() for f in cells]), shape=row.shape)

    def _project(self, x: Tensor, folded: dict[str, Any], batch: Any) -> dict[str, Tensor | _Product]:
        """The branches by name, all that a cell makes of its token `(batch, D)`."""
        config, sizes = self.config, folded["sizes"]
        if not config.block_diagonal:
            return {name: _Product(x, folded[name]) for name in sizes}
        width, channels, dc = config.width, config.channels, config.channel_width
        branches = sum(sizes.values()) // width
        # (B, C, 1, Dc) by (C, Dc, branches * Dc)
        grouped = _reshape(x, (batch, channels, 1, dc))
        product = _op("MatMul", grouped, folded["project"], shape=(batch, channels, 1, branches * dc))
        product = _reshape(product, (batch, channels, branches, dc))
        product = _op("Transpose", product, shape=(batch, branches, channels, dc), perm=[0, 2, 1, 3])
        row = _reshape(product, (batch, branches * width))
        return dict(zip(sizes, _split(row, list(sizes.values()), 1), strict=True))

    def _convolve(
        self, branches: dict[str, Tensor | _Product], folded: dict[str, Any], past: Tensor, window: Tensor, batch: Any
    ) -> Tensor:
        """Replaces the values by what the convolution makes of them; returns the inputs that it needs next."""
        value = _value(branches["values"])
        mixed = _silu(_op("Add", _op("Mul", value, folded["last_tap"], shape=value.shape), past, shape=value.shape))
        mixed = _op("Mul", mixed, folded["value_scale"], shape=value.shape)
        branches["values"] = mixed
        if self.config.selective:
            branches["slope"], branches["decay"] = _split(mixed, [self.config.width] * 2, 1)
        return _op("Concat", window, value, shape=(batch, 6 * self.config.width), axis=1)

    def _blend(self, history: Tensor, value: Tensor | _Product, rate: Tensor, folded: dict[str, Any]) -> Tensor:
        """h + (1-a)(v - h), where `value` is 2v.

        (1-a)/2 = τ/(1+τ) with τ = tanh(x/2) is small where the memory holds, and not cancelled.
        """
        shape = history.shape
        half_x = _op("Mul", _op("Softplus", rate, shape=shape), folded["slope_rate"], shape=shape)
        tau = _op("Tanh", half_x, shape=shape)
        half = _op("Softsign", tau, shape=shape)  # τ/(1+|τ|): τ is not negative
        change = _plus(value, history, -2.0)
        return _op("Add", history, _op("Mul", half, change, shape=shape), shape=shape)

    def _mlp(self, x: Tensor, layer: int) -> Tensor:
        """x and what the layer's gated MLP adds to it."""
        inward, outward = self._mlps[layer]
        hidden = _value(_Product(self._norm(x, *self._norms[2 * layer + 1]), inward))
        opened, value = _split(hidden, [outward.shape[0]] * 2, 1)
        return _plus(_Product(_op("Mul", _silu(opened), value, shape=value.shape), outward), x)

    def _norm(self, x: Tensor, weight: Tensor, epsilon: float | None) -> Tensor:
        return _op("SimplifiedLayerNormalization", x, weight, shape=x.shape, axis=-1, epsilon=epsilon)


def _folded(cell: MCSDCell) -> dict[str, Any]:
    """The constants of one cell in the shapes in which the step needs them."""
    config, c = cell.config, cell.constants()
    width, channels, dc = config.width, config.channels, config.channel_width
    folded: dict[str, Any] = {"output": (cell.output.weight * c.norm_weight).t().clone()}
    scale = c.decay_scale
    if config.rotating:
        # one number per complex feature, for its real and its imaginary half
        scale = scale.reshape(channels, 1, -1).repeat(1, 2, 1)
    # Of a selective slope twice the value is needed.
    slope_scale = torch.full((width,), 2.0 if config.selective else 1.0)
    value_scale = torch.cat([slope_scale, scale.reshape(channels, dc).flatten()])
    sizes = {"gate": 2 * width}
    if config.conv or not config.selective:
        sizes["values"] = 2 * width
    else:
        sizes |= {"slope": width, "decay": width}
    if config.selective:
        sizes["rate"] = width
    folded["sizes"] = sizes
    factor = torch.ones(sum(sizes.values()))
    if config.conv:
        # between the product and the scale is a SiLU
        folded["value_scale"] = value_scale
        folded["last_tap"], folded["past_taps"] = cell.taps[-1].clone(), cell.taps[:-1].clone()
    else:
        factor[2 * width : 4 * width] = value_scale
    project: Tensor = cell.project
    if config.block_diagonal:
        weights = {"project": project.permute(1, 2, 0, 3).flatten(2)}
        factors = {"project": factor.reshape(-1, channels, dc).transpose(0, 1).reshape(channels, 1, -1)}
    else:
        weights = dict(zip(sizes, project.split(list(sizes.values()), 1), strict=True))
        factors = dict(zip(sizes, factor[None].split(list(sizes.values()), 1), strict=True))
    folded |= {name: weight * factors[name] for name, weight in weights.items()}
    folded["products"] = [
        tuple(t.detach().numpy().copy() for t in (folded[name], weight, factors[name]))
        for name, weight in weights.items()
    ]
    slope_keep = torch.exp(-c.slope_rate).reshape(channels, dc)
    if config.selective:
        folded["bias"] = cell.rate_bias.clone()
        folded["slope_rate"] = c.slope_rate / (2 * math.log(2))
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


def _value(branch: Tensor | _Product) -> Tensor:
    if isinstance(branch, Tensor):
        return branch
    # Not MatMul, which takes a third of a microsecond longer to begin.
    return _op("Gemm", branch.x, branch.weight, shape=(branch.x.shape[0], branch.weight.shape[1]))


def _plus(branch: Tensor | _Product, addend: Tensor, times: float = 1.0) -> Tensor:
    """branch + times addend: one operator for a product."""
    if isinstance(branch, _Product):
        shape = (branch.x.shape[0], branch.weight.shape[1])
        return _op("Gemm", branch.x, branch.weight, addend, shape=shape, beta=times)
    if times != 1.0:
        addend = _op("Mul", addend, torch.tensor(times), shape=addend.shape)
    return _op("Add", branch, addend, shape=branch.shape)


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


def _pad(x: Tensor, axis: int, count: int, value: float) -> Tensor:
    """`count` times `value` behind the last of `axis`."""
    ends = [count if i == axis else 0 for i in range(x.ndim)]
    shape = [n + more for n, more in zip(x.shape, ends, strict=True)]
    return _op("Pad", x, torch.tensor([0] * x.ndim + ends), torch.tensor(value), shape=shape)


def _reshape(x: Tensor, shape: Sequence[Any]) -> Tensor:
    # Zero keeps the batch, however large it is.
    return _op("Reshape", x, torch.tensor([0, *shape[1:]]), shape=shape)


def _silu(x: Tensor) -> Tensor:
    return _op(_MICROSOFT + "QuickGelu", x, shape=x.shape, alpha=1.0)
