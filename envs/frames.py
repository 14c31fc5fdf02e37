"""Wrappers for images and for the time between two observations."""

from __future__ import annotations

from typing import Any

import cv2
import gymnasium
import numpy as np
from gymnasium import spaces


def is_image(space: gymnasium.Space[Any]) -> bool:
    """Whether a space is a picture: uint8, height × width × channels."""
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3


class FrameSkip(gymnasium.Wrapper[Any, Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """Holds each action for `ticks` ticks; the rewards add up, and the end of an episode is not stepped over.

    Example:
        >>> env = FrameSkip(gymnasium.make("CartPole-v1"), ticks=2)
        >>> _ = env.reset(seed=0)
        >>> float(env.step(0)[1])
        2.0
    """

    def __init__(self, env: gymnasium.Env[Any, Any], ticks: int) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self, ticks=ticks)
        super().__init__(env)
        if ticks < 1:
            raise ValueError(f"ticks={ticks} must be at least 1")
        self._ticks = ticks
        if fps := env.metadata.get("render_fps"):
            # What follows from it, such as the rate of a policy, is about the ticks that a policy sees.
            self.metadata = {**env.metadata, "render_fps": fps / ticks}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """The last observation and info, the sum of the rewards."""
        total = 0.0
        for _ in range(self._ticks):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, info


class ResizeImages(gymnasium.ObservationWrapper[Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """Makes every image of an observation `size` (height, width), grey where asked; images stay uint8 H × W × C.

    Raises:
        ValueError: the observation has no image, or one to be grey has other than 1 or 3 channels.
    """

    def __init__(
        self, env: gymnasium.Env[Any, Any], size: tuple[int, int] | None = None, grayscale: bool = False
    ) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self, size=size, grayscale=grayscale)
        super().__init__(env)
        space = env.observation_space
        entries = space.spaces if isinstance(space, spaces.Dict) else {"": space}
        self._names = [name for name, entry in entries.items() if is_image(entry)]
        if not self._names:
            raise ValueError(f"the observation has no image (uint8, height x width x channels): {space}")
        if size is not None and min(size) < 1:
            raise ValueError(f"size={tuple(size)} must be at least 1x1 pixels")
        self._size, self._grayscale = size, grayscale
        changed = {}
        for name in self._names:
            height, width, channels = entries[name].shape or (0, 0, 0)
            if grayscale and channels not in (1, 3):
                raise ValueError(f"an image of {channels} channels cannot be made grey; 1 or 3 can")
            shape = (*(size or (height, width)), 1 if grayscale else channels)
            changed[name] = spaces.Box(0, 255, shape, np.uint8)
        self._is_dict = isinstance(space, spaces.Dict)
        self.observation_space = spaces.Dict({**entries, **changed}) if self._is_dict else changed[""]

    def observation(self, observation: Any) -> Any:
        """The same observation with its images changed; fresh arrays."""
        if not self._is_dict:
            return self._image(observation)
        return {**observation, **{name: self._image(observation[name]) for name in self._names}}

    def _image(self, image: np.ndarray) -> np.ndarray:
        if self._grayscale and image.shape[2] == 3:
            image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        if self._size is not None and image.shape[:2] != self._size:
            # Averages over what becomes one pixel: thin lines stay visible when an image shrinks.
            image = cv2.resize(image, self._size[::-1], interpolation=cv2.INTER_AREA)
        # cv2 drops the last axis where there is one channel.
        return np.array(image, np.uint8, ndmin=3).reshape(*image.shape[:2], -1)
