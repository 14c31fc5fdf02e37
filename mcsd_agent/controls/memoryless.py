"""No memory at all: what can be done from the current tick alone."""

from __future__ import annotations

from torch import Tensor, nn

from mcsd_agent.backbone import GatedMLP


class MemorylessControl(nn.Module):
    """Gated MLP layers and a state of one unused zero."""

    state_size = 1

    def __init__(self, width: int, layers: int, expansion: int = 2) -> None:
        super().__init__()
        self.layers = layers
        self.mlps = nn.ModuleList(GatedMLP(width, expansion, 1.0) for _ in range(layers))
        self.norms = nn.ModuleList(nn.RMSNorm(width, eps=1e-6) for _ in range(layers + 1))

    def step(self, x: Tensor, state: Tensor, episode_starts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One token; see `backbone.Backbone`."""
        for norm, mlp in zip(self.norms[:-1], self.mlps, strict=True):
            x = x + mlp(norm(x))
        return self.norms[-1](x), state * 0.0

    def scan(self, xs: Tensor, state: Tensor, episode_starts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """A whole sequence; see `backbone.Backbone`."""
        return self.step(xs, state)
