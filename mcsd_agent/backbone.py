"""The sequence encoder inside a policy: a residual stack of cells, and the interface of every backbone.

One layer is `x + cell(norm(x))`, then `x + mlp(norm(x))` with a gated MLP. Outputs pass a final norm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcsd_agent.cell import MCSDCell, MCSDConfig


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
        self.inward = nn.Linear(width, 2 * expansion * width, bias=False)
        self.outward = nn.Linear(expansion * width, width, bias=False)
        nn.init.normal_(self.inward.weight, std=1.0 / math.sqrt(width))
        nn.init.normal_(self.outward.weight, std=output_scale / math.sqrt(expansion * width))

    def forward(self, x: Tensor) -> Tensor:
        """`(…, width)` to `(…, width)`."""
        gate, value = self.inward(x).chunk(2, -1)
        return self.outward(F.silu(gate) * value)


class MCSDBackbone(nn.Module):
    """`layers` MCSD layers of one config."""

    def __init__(self, config: MCSDConfig, layers: int) -> None:
        super().__init__()
        self.config, self.layers = config, layers
        scale = 1.0 / math.sqrt(2 * layers)  # 2 * layers branches are added to the residual stream
        cells = [MCSDCell(config) for _ in range(layers)]
        self.mlps = nn.ModuleList(GatedMLP(config.width, config.expansion, scale) for _ in range(layers))
        self.norms = nn.ModuleList(nn.RMSNorm(config.width, eps=1e-6) for _ in range(2 * layers + 1))
        with torch.no_grad():
            for cell in cells:
                cell.output.weight.mul_(scale)
        self.cells = nn.ModuleList(cells)
        self.state_size = cells[0].state_size

    def _layers(self) -> Iterator[tuple[MCSDCell, GatedMLP]]:
        return cast(Iterator[tuple[MCSDCell, GatedMLP]], zip(self.cells, self.mlps, strict=True))

    def step(self, x: Tensor, state: Tensor, episode_starts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One token; see `Backbone`."""
        states = []
        for i, (cell, mlp) in enumerate(self._layers()):
            y, layer_state = cell.step(self.norms[2 * i](x), state[:, i], episode_starts)
            x = x + y
            x = x + mlp(self.norms[2 * i + 1](x))
            states.append(layer_state)
        return self.norms[-1](x), torch.stack(states, 1)

    def scan(self, xs: Tensor, state: Tensor, episode_starts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """A whole sequence; see `Backbone`."""
        states = []
        for i, (cell, mlp) in enumerate(self._layers()):
            y, layer_state = cell.scan(self.norms[2 * i](xs), state[:, i], episode_starts)
            xs = xs + y
            xs = xs + mlp(self.norms[2 * i + 1](xs))
            states.append(layer_state)
        return self.norms[-1](xs), torch.stack(states, 1)
