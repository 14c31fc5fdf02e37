"""One tick of exploration of all environments: arrays in, arrays out.

On a GPU the tick is recorded once as a CUDA graph and then replayed. Weights, scales and statistics change in
place, so that a replay always uses the present ones; and a tick of some hundred small kernels is one launch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mcsd_agent.training.actor_critic import SequenceActorCritic

_WARM_UPS = 3  # what compiles or allocates at first must have done so before the recording


class RolloutStep:
    """`policy.forward` for NumPy observations `(n_envs, *shape)`.

    Returns actions, values and log-probabilities as arrays and the next state as a tensor on the device.
    """

    def __init__(self, policy: SequenceActorCritic) -> None:
        self.policy = policy
        self._recorded: dict[Any, _Recording] = {}

    def __call__(
        self,
        observation: Any,
        state: Tensor,
        starts: np.ndarray,
        masks: np.ndarray | None = None,
        noise: Tensor | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, Tensor]:
        """See the class; `masks` `(n_envs, …)` and `noise` `(n_envs, dims)` as in `SequenceActorCritic.forward`."""
        device = self.policy.device
        inputs = {
            **{f"observation {k}": v for k, v in self.policy.host_tensors(observation).items()},
            "state": state,
            "starts": torch.as_tensor(starts),
        }
        if masks is not None:
            inputs["masks"] = torch.as_tensor(masks).flatten(1)
        if noise is not None:
            inputs["noise"] = noise
        with torch.no_grad():
            if device.type == "cuda":
                key = tuple((k, v.shape, v.dtype) for k, v in inputs.items())
                if key not in self._recorded:
                    self._recorded[key] = _Recording(self._forward, inputs, device)
                actions, values, log_probs, following = self._recorded[key](inputs)
                state = following.clone()  # the next replay writes over its outputs
            else:
                actions, values, log_probs, state = self._forward({k: v.to(device) for k, v in inputs.items()})
        return actions.cpu().numpy(), values.cpu().numpy(), log_probs.cpu().numpy(), state

    def _forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        observation = {k.removeprefix("observation "): v for k, v in inputs.items() if k.startswith("observation ")}
        return self.policy(observation, inputs["state"], inputs["starts"], inputs.get("masks"), inputs.get("noise"))


class _Recording:
    """A CUDA graph of a function of named tensors of fixed shapes."""

    def __init__(
        self, function: Callable[[dict[str, Tensor]], tuple[Tensor, ...]], inputs: dict[str, Tensor], device: Any
    ) -> None:
        self.inputs = {k: v.to(device, copy=True) for k, v in inputs.items()}
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                function(self.inputs)
        torch.cuda.current_stream(device).wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.outputs = function(self.inputs)

    def __call__(self, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        for name, value in inputs.items():
            self.inputs[name].copy_(value)
        self.graph.replay()
        return self.outputs
