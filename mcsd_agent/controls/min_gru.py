"""minGRU: a GRU whose gates do not see its history, so that it becomes a linear recurrence.

After "Were RNNs All We Needed?" (Feng, Tung, Ahmed, Bengio, Hajimirsadegh; arXiv 2410.01201):

    z = σ(W_z x),   h ← (1-z) h + z W_h x
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mcsd_agent.backbone import GatedMLP
from mcsd_agent.controls.residual import ResidualStack
from mcsd_agent.kernels.linear import Linear
from mcsd_agent.recurrence import linear_recurrence


class MinGRUControl(ResidualStack):
    """Layers of minGRU and gated MLP; the state is h."""

    def __init__(self, width: int, layers: int, expansion: int = 2) -> None:
        scale = 1.0 / math.sqrt(2 * layers)  # of what each of 2 * layers branches adds to the residual stream
        super().__init__(
            width, [MinGRU(width) for _ in range(layers)], [GatedMLP(width, expansion, scale) for _ in range(layers)]
        )


class MinGRU(nn.Module):
    """One recurrence of `width` numbers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inward = Linear(width, 2 * width, bias=False)  # W_z and W_h
        self.state_size = width

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """See `residual.Mixer`."""
        gate, value = self.inward(x).chunk(2, -1)
        h = torch.sigmoid(-gate) * state + torch.sigmoid(gate) * value  # 1-z = σ(-W_z x), without cancellation
        return h, h

    def scan(self, xs: Tensor, state: Tensor, starts: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `residual.Mixer`. The recurrence runs in float32 at least, whatever the autocast dtype."""
        projected = self.inward(xs)
        with torch.autocast(xs.device.type, enabled=False):
            gate, value = projected.to(torch.promote_types(xs.dtype, torch.float32)).chunk(2, -1)
            keep = torch.sigmoid(-gate)
            if starts is not None:
                keep = keep.masked_fill(starts[..., None], 0.0)
            h = linear_recurrence(keep, torch.sigmoid(gate) * value, state.to(value.dtype))
        return h, h[:, -1]
