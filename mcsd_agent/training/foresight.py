"""What the next observation will be, as something to learn beside the rewards.

To say how a reading is about to change, a memory has to hold what is not seen, such as velocities; rewards alone teach
that slowly. Jaderberg et al., arXiv 1611.05397; Ha and Schmidhuber, arXiv 1803.10122.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcsd_agent.errors import UserError
from mcsd_agent.spaces import BoxSpec, DiscreteSpec, Spec


class Foresight(nn.Module):
    """From features and the action taken, the change of all vector observations until the next tick.

    Only training has it: nothing of it is deployed.
    """

    def __init__(self, observation: dict[str, Spec], action: Spec, width: int) -> None:
        super().__init__()
        vectors = {k: s for k, s in observation.items() if isinstance(s, BoxSpec) and len(s.shape) == 1}
        if not vectors:
            named = ", ".join(observation)
            raise UserError(f"prediction_coef needs a vector among the observations, which are {named}")
        self.names = list(vectors)
        self.choices = action.n if isinstance(action, DiscreteSpec) else None
        inputs = width + (self.choices or math.prod(action.shape))
        self.net = nn.Sequential(
            nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, sum(s.size for s in vectors.values()))
        )

    def forward(self, features: Tensor, actions: Tensor, observations: dict[str, Tensor], starts: Tensor) -> Tensor:
        """Mean squared error over sequences `(batch, time, …)`; 1 for who never expects a change.

        What an episode's start brings does not follow from the step before it, and counts nowhere.
        """
        done = actions.flatten(2).float() if self.choices is None else F.one_hot(actions.long(), self.choices).float()
        seen = torch.cat([observations[k].float() for k in self.names], -1)
        change = seen[:, 1:] - seen[:, :-1]
        follows = (~starts[:, 1:].bool())[..., None]
        count = follows.sum().clamp(min=1)
        size = ((change.square() * follows).sum((0, 1)) / count).sqrt() + 1e-6
        said = self.net(torch.cat([features, done], -1)[:, :-1])
        return ((said - change / size).square() * follows).sum() / (count * change.shape[-1])
