"""Returns in units of their own spread, so that one value-loss weight fits every reward.

PopArt: van Hasselt et al., arXiv 1602.07714. The value network predicts returns with mean 0 and deviation 1; when
mean and deviation move, its last layer is changed so that what it predicts in the environment's units stays.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_DECAY = 0.95  # per update: old returns tell little about those of a better policy
_SMALLEST = 1e-2  # deviation below which returns count as all alike


class ValueScale(nn.Module):
    """Running mean and deviation of returns, and the changes of units they make."""

    mean: Tensor
    deviation: Tensor
    moments: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))
        self.register_buffer("moments", torch.zeros(3, dtype=torch.float64))  # weight, Σ w·x, Σ w·x²

    def forward(self, predicted: Tensor) -> Tensor:
        """The network's output in the environment's units."""
        return self.mean + self.deviation * predicted

    @torch.no_grad()
    def update(self, returns: Tensor, last: nn.Linear) -> None:
        """Take in fresh returns (any shape); `last` is the value network's last layer."""
        fresh = returns.double()
        seen = torch.stack([fresh.new_ones(()), fresh.mean(), fresh.square().mean()]).to(self.moments)
        self.moments.mul_(_DECAY).add_(seen, alpha=1 - _DECAY)
        mean = self.moments[1] / self.moments[0]
        spread = (self.moments[2] / self.moments[0] - mean.square()).clamp_min(0.0).sqrt().clamp_min(_SMALLEST)
        ratio = (self.deviation / spread).to(last.weight.dtype)
        last.weight.mul_(ratio)
        last.bias.mul_(ratio).add_(((self.mean - mean) / spread).to(last.bias.dtype))
        self.mean.copy_(mean)
        self.deviation.copy_(spread)
