"""The `torch` engine: the policy as it was trained, from the artifact's weights; what the other engines are judged by.

Outside of `mcsd_agent.runtime`, which a robot imports without torch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from mcsd_agent.artifact import policy_of
from mcsd_agent.runtime.artifact_spec import ACTION, STATE
from mcsd_agent.runtime.package import Package


class TorchEngine:
    """`run({name: array}) -> tuple of arrays`, for any batch."""

    def __init__(self, package: Package) -> None:
        self._policy = policy_of(package)
        self._action_first = [port.name for port in package.model.outputs].index(ACTION) == 0

    @torch.no_grad()
    def run(self, inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        """Outputs in the model's order; the arrays belong to the caller."""
        # Copied: torch takes no read-only arrays, and may return its input.
        tensors = {name: torch.from_numpy(array.copy()) for name, array in inputs.items()}
        state = tensors.pop(STATE)
        action, state = self._policy.act(tensors, state)
        outputs = (action.numpy(), state.contiguous().numpy())
        return outputs if self._action_first else outputs[::-1]
