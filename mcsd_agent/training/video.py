"""What a policy does, as an mp4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.policy import Policy
from mcsd_agent.training.environments import make_env
from mcsd_agent.training.episodes import PolicyActor


class VideoWriter:
    """RGB frames `(height, width, 3)` uint8 to an mp4 file."""

    def __init__(self, path: Path, fps: float) -> None:
        self.path, self.fps, self.frames = path, fps, 0
        self._writer: Any = None

    def add(self, frame: np.ndarray) -> None:
        """Append a frame; the first one sets the size."""
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            height, width = frame.shape[:2]
            self._writer = cv2.VideoWriter(str(self.path), cv2.VideoWriter.fourcc(*"mp4v"), self.fps, (width, height))
            if not self._writer.isOpened():
                raise UserError(f"video {str(self.path)!r} cannot be written; give a path that ends in .mp4")
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        self.frames += 1

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()


def record_video(
    policy: Policy, env_id: str, env_kwargs: dict[str, Any], path: Path, seed: int = 0, episodes: int = 1
) -> int:
    """`episodes` episodes of the policy; returns the number of frames."""
    env = make_env(env_id, env_kwargs, render_mode="rgb_array")
    writer = VideoWriter(path, float(env.metadata.get("render_fps") or 30))
    for episode in range(episodes):
        observation, _ = env.reset(seed=seed + episode)
        actor, starts, done = PolicyActor(policy, 1), np.ones(1, bool), False
        while not done:
            frame = env.render()
            assert isinstance(frame, np.ndarray)
            writer.add(frame)
            observation, _, terminated, truncated, _ = env.step(actor([observation], starts)[0])
            starts, done = np.zeros(1, bool), terminated or truncated
    writer.close()
    env.close()
    return writer.frames
