"""The `torch` engine: the policy as it was trained, from the artifact's weights; what the other engines are judged by.

Outside of `mcsd_agent.runtime`, which a robot imports without torch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from mcsd_agent.artifact import policy_of
from mcsd_agent.runtime.artifact_spec import ACTION, NEXT_STATE, STATE, SUCCESS
from mcsd_agent.runtime.package import Package


class TorchEngine:
    """`run({name: array}) -> tuple of arrays`, for any batch."""

    def __init__(self, package: Package) -> None:
        self._policy = policy_of(package)
        self._outputs = [port.name for port in package.model.outputs]

    @torch.no_grad()
    def run(self, inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        """Outputs in the model's order; the arrays belong to the caller."""
        # Copied: torch takes no read-only arrays, and may return its input.
        tensors = {name: torch.from_numpy(array.copy()) for name, array in inputs.items()}
        state = tensors.pop(STATE)
        found = {}
        if SUCCESS in self._outputs:
            found[ACTION], found[SUCCESS], found[NEXT_STATE] = self._policy.act_and_judge(tensors, state)
        else:
            found[ACTION], found[NEXT_STATE] = self._policy.act(tensors, state)
        return tuple([found[name].contiguous().numpy() for name in self._outputs])
