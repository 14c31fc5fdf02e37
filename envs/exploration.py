"""Noise for demonstrations: what is executed strays from what the expert asked for, the label does not.

A clone of clean demonstrations has never seen the states its own mistakes lead to. Executing noisy
actions while recording the expert's clean ones shows it how to come back (Laskey et al., "DART: Noise
injection for robust imitation learning", 2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from gymnasium import spaces

# below this part of the bounds the Gaussian noise shrinks with the action
_FULL_NOISE_FROM = 0.2


@dataclass(frozen=True)
class NoiseConfig:
    """How much noise. Actions are measured in half widths of their bounds, so that -1 and 1 are the bounds.

    Args:
        noisy_episodes: share of episodes with any noise.
        burst_probability: chance per tick that a burst starts, in which one random action is held.
        burst_ticks: shortest and longest burst.
        max_deviation: each noisy episode draws its Gaussian standard deviation from [0, max_deviation].
    """

    noisy_episodes: float = 0.75
    burst_probability: float = 0.04
    burst_ticks: tuple[int, int] = (2, 11)
    max_deviation: float = 0.3

    def __post_init__(self) -> None:
        for name in ("noisy_episodes", "burst_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: give a probability in [0, 1]")
        if not 1 <= self.burst_ticks[0] <= self.burst_ticks[1]:
            raise ValueError(f"burst_ticks={self.burst_ticks}: give (shortest, longest) with 1 <= shortest <= longest")
        if self.max_deviation < 0:
            raise ValueError(f"max_deviation={self.max_deviation}: give at least 0")


class DemonstrationNoise:
    """Perturbs the actions of one episode after another; all randomness comes from `rng`.

    Example:
        >>> box = spaces.Box(np.array([0, -1], np.float32), np.array([0.6, 1], np.float32))
        >>> noise = DemonstrationNoise(box, np.random.default_rng(0))
        >>> noise.reset()
        >>> label = np.array([0.3, 0.0], np.float32)
        >>> executed = noise.perturb(label)
        >>> box.contains(executed)
        True
    """

    def __init__(self, action_space: spaces.Box, rng: np.random.Generator, config: NoiseConfig | None = None) -> None:
        if not action_space.is_bounded():
            raise ValueError(f"noise needs a bounded action space, got {action_space}")
        self._low, self._high = action_space.low, action_space.high
        self._middle = (self._low + self._high) / 2
        self._half_width = (self._high - self._low) / 2
        self._rng = rng
        self._config = config or NoiseConfig()
        self._held: np.ndarray = self._middle
        self._burst = 0
        self._noisy = False
        self._deviation = 0.0

    def reset(self) -> None:
        """Draws whether, and how much, the next episode is disturbed."""
        rng, config = self._rng, self._config
        self._noisy = bool(rng.random() < config.noisy_episodes)
        self._deviation = float(rng.uniform(0, config.max_deviation))
        self._burst = 0

    def perturb(self, action: np.ndarray) -> np.ndarray:
        """What to execute instead of `action`; a fresh array within the bounds."""
        if not self._noisy:
            return action.copy()
        rng, config = self._rng, self._config
        if self._burst > 0:
            self._burst -= 1  # and keep what is held
        elif rng.random() < config.burst_probability:
            self._burst = int(rng.integers(config.burst_ticks[0], config.burst_ticks[1] + 1)) - 1
            self._held = self._middle + self._half_width * rng.uniform(-1, 1, self._low.shape)
        else:
            self._held = action
        # an expert that stands still is shown standing still: some tasks end only then
        moving = min(1.0, float(np.abs(self._held / self._half_width).max()) / _FULL_NOISE_FROM)
        noise = moving * self._deviation * rng.standard_normal(self._low.shape)
        return np.clip(self._held + self._half_width * noise, self._low, self._high).astype(self._low.dtype)
