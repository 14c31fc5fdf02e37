"""Whatever acts in an environment with `action_masks()` obeys them: evaluation, videos, trials of restoring."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from mcsd_agent import Policy, PolicyConfig
from mcsd_agent.spaces import spec_from_space, specs_from_space
from mcsd_agent.training.environment_state import find_method
from mcsd_agent.training.evaluation import evaluate
from mcsd_agent.training.video import record_video

SPACES = [spaces.Discrete(4), spaces.MultiDiscrete([3, 2]), spaces.MultiBinary(3)]


class Forbidding(gymnasium.Env):
    """Half of what each choice could be is forbidden at every tick, and doing it is an error."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 10}
    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, kind: int = 0, render_mode: str | None = None) -> None:
        self.action_space, self.render_mode = SPACES[kind], render_mode
        self.sizes = [[4], [3, 2], [2, 2, 2]][kind]

    def _draw(self) -> np.ndarray:
        self.allowed = [self.np_random.permutation(n) < max(1, n // 2) for n in self.sizes]
        return self.np_random.uniform(-1.0, 1.0, 2).astype(np.float32)

    def action_masks(self) -> np.ndarray:
        return np.concatenate(self.allowed)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.tick = 0
        return self._draw(), {}

    def step(self, action):
        for allowed, choice in zip(self.allowed, np.ravel(action), strict=True):
            if not allowed[choice]:
                raise ValueError(f"{choice} is forbidden")
        self.tick += 1
        return self._draw(), 1.0, False, self.tick >= 20, {}

    def render(self):
        return np.zeros((16, 16, 3), np.uint8)


gymnasium.register("Forbidding-v0", Forbidding)


@pytest.mark.parametrize("kind", range(len(SPACES)))
def test_evaluation_and_videos_take_allowed_actions_only(kind, tmp_path):
    torch.manual_seed(0)
    specs = specs_from_space(Forbidding.observation_space)
    policy = Policy(specs, spec_from_space(SPACES[kind]), PolicyConfig(width=16, layers=1)).eval()
    (result,) = evaluate(policy, "Forbidding-v0", {"kind": kind}, episodes=5, seed=0, parallel=2)
    assert result.mean_return == 20.0
    assert record_video(policy, "Forbidding-v0", {"kind": kind}, tmp_path / "video.mp4") == 20


@pytest.mark.parametrize("kind", range(len(SPACES)))
def test_environments_that_forbid_actions_can_be_restored(kind):
    assert find_method(lambda: gymnasium.make("Forbidding-v0", kind=kind)).method is not None
