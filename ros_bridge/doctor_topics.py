"""What arrives on the topics of a robot: how often, how old, and whether it is what the robot's YAML says."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ros_bridge.robot_config import ObservationConfig
from ros_bridge.sensors import SensorError, reader, stamp_seconds


class TopicWatch:
    """Counts the messages of one observation; `hear` is its subscription's callback. Times in seconds."""

    def __init__(
        self,
        name: str,
        config: ObservationConfig,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.name, self.config = name, config
        self._read = reader(config)
        self._clock, self._wall = clock, wall
        self._lock = threading.Lock()
        self._arrivals: list[float] = []
        self._offsets: list[float] = []  # how much later, by this machine's clock, than the stamp says
        self.rejected = 0
        self.error = ""
        self.not_finite = False

    def hear(self, message: Any) -> None:
        """One message arrived."""
        now, wall = self._clock(), self._wall()
        try:
            value = self._read(message)
        except SensorError as error:
            self.rejected += 1
            self.error = str(error)
            return
        stamp = stamp_seconds(message)
        with self._lock:
            self._arrivals.append(now)
            if stamp > 0:
                self._offsets.append(wall - stamp)
        self.not_finite |= not bool(np.isfinite(value).all())

    @property
    def count(self) -> int:
        """Messages that could be read."""
        return len(self._arrivals)

    def rate_hz(self) -> float:
        """From the first message to the last; 0 before there are two."""
        with self._lock:
            span = self._arrivals[-1] - self._arrivals[0] if len(self._arrivals) > 1 else 0.0
            return (len(self._arrivals) - 1) / span if span > 0 else 0.0

    def oldest_s(self) -> float:
        """How old the newest value was when the next one came, at worst: the gap, and how long it had been on its way
        beyond the quickest. So the clocks of the two machines need not agree.
        """
        with self._lock:
            late = [o - min(self._offsets) for o in self._offsets] or [0.0] * len(self._arrivals)
            gaps = [b - a for a, b in zip(self._arrivals, self._arrivals[1:], strict=False)]
            return max((gap + before for gap, before in zip(gaps, late, strict=False)), default=0.0)

    def clock_offset_s(self) -> float | None:
        """By how much this machine's clock is ahead of the stamps, delays included; None for unstamped messages."""
        with self._lock:
            return statistics.median(self._offsets) if self._offsets else None
