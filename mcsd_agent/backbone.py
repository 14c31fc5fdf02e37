"""The sequence encoder inside a policy: a residual stack of cells, and the interface of every backbone.

One layer is `x + cell(norm(x))`, then `x + mlp(norm(x))` with a gated MLP. Outputs pass a final norm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from mcsd_agent.cell import MCSDCell, MCSDConfig
from mcsd_agent.kernels.cpu_threads import pieces_for
from mcsd_agent.kernels.linear import Linear, linear
from mcsd_agent.kernels.mlp_operators import gated_mlp, takes_mlp
from mcsd_agent.kernels.operators import fused
from mcsd_agent.kernels.row_operators import add_norm_before_product, gated, norm_before_product, norm_of_sum

_EPSILON = 1e-6


class Backbone(Protocol):
    """What a policy asks of a sequence encoder. State in, state out.

    The state is one float tensor `(batch, layers, state_size)`, zeros at an episode start.
    """

    layers: int
    state_size: int

    def step(self, x: Tensor, state: Tensor, episode_starts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`(batch, width)` to `(batch, width)`; `episode_starts` `(batch,)`."""
        ...

    def scan(self, xs: Tensor, state: Tensor, episode_starts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`(batch, time, width)` to the same shape and the final state; `episode_starts` `(batch, time)`."""
        ...


class GatedMLP(nn.Module):
    """`W_2 (silu(W_1 x) ⊙ W_3 x)`, with W_1 and W_3 in one product."""

    def __init__(self, width: int, expansion: int, output_scale: float) -> None:
        super().__init__()
        self.inward = Linear(width, 2 * expansion * width, bias=False)
        self.outward = Linear(expansion * width, width, bias=False)
        nn.init.normal_(self.inward.weight, std=1.0 / math.sqrt(width))
        nn.init.normal_(self.outward.weight, std=output_scale / math.sqrt(expansion * width))

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """`(…, width)` to `(…, width)`; of `x` ⊙ `scale` `(width,)` where one is given."""
        inward = self.inward.weight if scale is None else self.inward.weight * scale
        if takes_mlp(x, inward, self.outward.weight):
            return gated_mlp(x, inward, self.outward.weight)
        return self.outward(gated(linear(x, inward)))


class MCSDBackbone(nn.Module):
    """`layers` MCSD layers of one config."""

    def __init__(self, config: MCSDConfig, layers: int) -> None:
        super().__init__()
        self.config, self.layers = config, layers
        scale = 1.0 / math.sqrt(2 * layers)  # 2 * layers branches are added to the residual stream
        cells = [MCSDCell(config) for _ in range(layers)]
        self.mlps = nn.ModuleList(GatedMLP(config.width, config.expansion, scale) for _ in range(layers))
        self.norms = nn.ModuleList(nn.RMSNorm(config.width, eps=_EPSILON) for _ in range(2 * layers + 1))
        with torch.no_grad():
            for cell in cells:
                cell.output.weight.mul_(scale)
        self.cells = nn.ModuleList(cells)
        self.state_size = cells[0].state_size
        self._packed: Any = None  # constants of the last version of the weights, see `kernels.cpu_step`

    def paired_layers(self) -> Iterator[tuple[MCSDCell, GatedMLP]]:
        """Cell and MLP of each layer."""
        return cast(Iterator[tuple[MCSDCell, GatedMLP]], zip(self.cells, self.mlps, strict=True))

    def step(self, x: Tensor, state: Tensor, episode_starts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One token; see `Backbone`."""
        if self._steps_packed(x, state):
            from mcsd_agent.kernels import cpu_step

            if self._packed is None or self._packed.version != cpu_step.version(self):
                self._packed = cpu_step.PackedStep(self)
            return self._packed(x, state, episode_starts)
        self._forget_packed()
        states = []
        for i, (cell, mlp) in enumerate(self.paired_layers()):
            y, layer_state = cell.step(self.norms[2 * i](x), state[:, i], episode_starts)
            x = x + y
            x = x + mlp(self.norms[2 * i + 1](x))
            states.append(layer_state)
        return self.norms[-1](x), torch.stack(states, 1)

    def _forget_packed(self) -> None:
        """After gradients come new weights, and torch's fused optimisers do not count a weight's version up."""
        if self._packed is not None and torch.is_grad_enabled():
            self._packed = None

    def _steps_packed(self, x: Tensor, state: Tensor) -> bool:
        """Whether a rollout's step takes the compiled path: the default cell, float32 on a CPU, no gradients."""
        return not torch.is_grad_enabled() and self._packs(x, state)

    def _scans_packed(self, xs: Tensor, state: Tensor) -> bool:
        """Whether a sequence takes the path with one node of autograd: where one thread does the work anyhow."""
        if self.config.block_diagonal or not self._packs(xs, state):
            return False
        tokens = xs.shape[0] * xs.shape[1]
        return pieces_for(xs.shape[0], tokens * 5 * xs.shape[2]) == 1

    def _packs(self, x: Tensor, state: Tensor) -> bool:
        """Whether there are compiled paths for the whole stack: the default cell, float32 on a CPU."""
        if torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.is_autocast_enabled("cpu"):
            return False
        config = self.config
        if not (config.selective and config.rotating) or config.conv:
            return False
        return x.device.type == "cpu" and fused(x) and fused(state) and x.numel() > 0

    def scan(self, xs: Tensor, state: Tensor, episode_starts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """A whole sequence; see `Backbone`."""
        self._forget_packed()
        if self._scans_packed(xs, state):
            from mcsd_agent.kernels import cpu_scan

            return cpu_scan.scan(self, xs, state, episode_starts)
        states = []
        weights = [cast(Tensor, n.weight) for n in self.norms]
        normed = norm_before_product(xs, weights[0], _EPSILON)
        for i, (cell, mlp) in enumerate(self.paired_layers()):
            y, layer_state = cell.scan(normed.rows, state[:, i], episode_starts, normed.scale)
            xs, normed = add_norm_before_product(xs, y, weights[2 * i + 1], _EPSILON)
            y = mlp(normed.rows, normed.scale)
            if i + 1 < self.layers:
                xs, normed = add_norm_before_product(xs, y, weights[2 * i + 2], _EPSILON)
            states.append(layer_state)
        return norm_of_sum(xs, y, weights[-1], _EPSILON), torch.stack(states, 1)
