"""What a policy does, as an mp4."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.policy import Policy
from mcsd_agent.training.env_options import EnvOptions
from mcsd_agent.training.environments import make_env
from mcsd_agent.training.episodes import PolicyActor, action_masks


class VideoWriter:
    """RGB frames `(height, width, 3)` uint8 to an mp4 file."""

    def __init__(self, path: Path, fps: float) -> None:
        self.path, self.fps, self.frames = path, fps, 0
        self._writer: Any = None

    def add(self, frame: np.ndarray) -> None:
        """Append a frame; the first one sets the size."""
        if self._writer is None:
            self._check_writable()
            height, width = frame.shape[:2]
            self._writer = cv2.VideoWriter(str(self.path), cv2.VideoWriter.fourcc(*"mp4v"), self.fps, (width, height))
            if not self._writer.isOpened():
                raise UserError(f"video {str(self.path)!r} is of no known format; give a path that ends in .mp4")
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        self.frames += 1

    def _check_writable(self) -> None:
        # OpenCV does not say why it cannot open a file
        is_new = not self.path.exists()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.open("ab").close()
            if is_new:
                self.path.unlink()
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"video {str(self.path)!r}: {reason}; give an .mp4 path that can be written") from None

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()


def record_video(
    policy: Policy,
    env_id: str,
    env_kwargs: dict[str, Any],
    path: Path,
    seed: int = 0,
    episodes: int = 1,
    options: EnvOptions = EnvOptions(),  # noqa: B008 -- frozen
    max_frames: int | None = None,
) -> int:
    """`episodes` episodes of the policy, cut at `max_frames`; returns the number of frames."""
    # frames are drawn in memory; without this pygame looks for a display, and complains where there is none
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    env = make_env(env_id, env_kwargs, options, render_mode="rgb_array")
    writer = VideoWriter(path, float(env.metadata.get("render_fps") or 30))
    try:
        for episode in range(episodes):
            observation, _ = env.reset(seed=seed + episode)
            actor, starts, done = PolicyActor(policy, 1), np.ones(1, bool), False
            while not done and (max_frames is None or writer.frames < max_frames):
                frame = env.render()
                assert isinstance(frame, np.ndarray)
                writer.add(frame)
                mask = action_masks(env)
                actions = actor([observation], starts, *([] if mask is None else [mask[None]]))
                observation, _, terminated, truncated, _ = env.step(actions[0])
                starts, done = np.zeros(1, bool), terminated or truncated
    finally:
        writer.close()
        env.close()
    return writer.frames


def can_be_filmed(env_id: str, env_kwargs: dict[str, Any]) -> bool:
    """Whether an environment renders RGB arrays."""
    env = make_env(env_id, env_kwargs)
    env.close()
    return "rgb_array" in (env.metadata.get("render_modes") or ())
