"""The weight of the entropy in soft actor-critic: a number, or learned so that the entropy meets a target.

Haarnoja et al., arXiv 1812.05905, section 5.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mcsd_agent.errors import UserError


class Temperature(nn.Module):
    """Made from what users write: `"auto"`, `"auto_0.1"` to begin with 0.1, or a number that stays.

    :param ent_coef: see above
    :param target_entropy: nats; `"auto"` is minus the number of action dimensions `dims`
    :param learning_rate: of its logarithm

    Raises `UserError` for anything else.
    """

    def __init__(self, ent_coef: str | float, target_entropy: str | float, dims: int, learning_rate: float) -> None:
        super().__init__()
        try:
            self.target = -float(dims) if target_entropy == "auto" else float(target_entropy)
            kind, _, first = str(ent_coef).partition("_")
            self.learned = kind == "auto"
            value = float(first or 1.0) if self.learned else float(ent_coef)
            if not 0.0 <= value < math.inf or (self.learned and value == 0.0):
                raise ValueError
        except ValueError:
            raise UserError(
                f"ent_coef={ent_coef!r} and target_entropy={target_entropy!r} must be numbers, ent_coef not negative, "
                "or 'auto'; 'auto_0.1' learns ent_coef from 0.1 on"
            ) from None
        log = torch.tensor([value]).log()
        self.log = nn.Parameter(log, requires_grad=self.learned)
        self.optimizer = torch.optim.Adam([self.log], lr=learning_rate)

    @property
    def value(self) -> float:
        """The weight as it is now."""
        return self.log.detach().exp().item()

    def follow(self, entropy: Tensor) -> None:
        """One step: down where the entropy (a scalar) is above its target, up where it is below."""
        if self.learned:
            self.optimizer.zero_grad()
            (self.log * (entropy.detach() - self.target)).sum().backward()
            self.optimizer.step()
