"""The policy that fine-tuning began with, kept so that what is learned stays close to it.

The divergence of the learner from it is part of the loss: skills that a task's reward never asks for are not lost,
and exploration goes on from what was demonstrated. Jaques et al., arXiv 1611.02796; Schmitt et al., arXiv 1803.03835.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mcsd_agent.policy import Policy


class Leash:
    """A frozen copy of a policy that walks through the learner's rollouts with a memory of its own."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy.copied().eval().requires_grad_(False)
        self.state: Tensor | None = None

    def forget(self) -> None:
        """The next rollout begins with empty memories."""
        self.state = None

    @torch.no_grad()
    def follow(self, entries: dict[str, np.ndarray], starts: np.ndarray) -> np.ndarray:
        """Observations `(n_steps, n_envs, *shape)` and episode starts `(n_steps, n_envs)` of the rollout that follows
        the last one, to its action parameters `(n_steps, n_envs, size)`."""
        device = next(self.policy.parameters()).device
        n_envs = starts.shape[1]
        if self.state is None or len(self.state) != n_envs:
            self.state = self.policy.initial_state(n_envs)
        seen = {k: torch.from_numpy(v).to(device).transpose(0, 1) for k, v in entries.items()}
        begins = torch.from_numpy(starts).to(device).bool().T.contiguous()
        features, self.state = self.policy.scan(seen, self.state, begins)
        return self.policy.action_net(features).transpose(0, 1).cpu().numpy()

    def resume_state(self) -> dict[str, Any]:
        """Its weights and memories, as tensors."""
        return {"policy": self.policy.state_dict(), "state": self.state}

    def set_resume_state(self, state: dict[str, Any]) -> None:
        """The opposite of `resume_state`."""
        self.policy.load_state_dict(state["policy"])
        device = next(self.policy.parameters()).device
        self.state = None if state["state"] is None else state["state"].to(device)
