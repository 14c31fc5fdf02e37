"""What the demo leaves to look at: a video and a page of trajectories."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from envs.nav_render import draw

_CELL = 360


class Recorder:
    """Collects the states of one order: frames for the video, the path for the picture."""

    def __init__(self, video: Any) -> None:
        self.video = video
        self.pictures: list[np.ndarray] = []
        self._trail: list[tuple[float, float]] = []
        self._last: dict[str, Any] = {}
        self._tick: int | None = None

    def begin(self) -> None:
        """Another order."""
        self._trail, self._last, self._tick = [], {}, None

    def add(self, state: dict[str, Any]) -> None:
        """One state; a tick that was seen already is left out."""
        if not state or state["tick"] == self._tick:
            return
        self._tick, self._last = state["tick"], state
        self._trail.append((state["pose"]["x"], state["pose"]["y"]))
        self.video.add(draw(state, state.get("ranges"), state.get("labels"), self._trail, size=480))

    def end(self) -> None:
        """The order is over: keep its picture."""
        if self._last:
            self.pictures.append(draw(self._last, trail=self._trail, size=_CELL))

    def save(self, path: Path) -> None:
        """All pictures on one page."""
        if not self.pictures:
            return
        columns = min(4, len(self.pictures))
        rows = math.ceil(len(self.pictures) / columns)
        height, width = self.pictures[0].shape[:2]
        page = np.full((rows * height, columns * width, 3), 255, np.uint8)
        for i, picture in enumerate(self.pictures):
            y, x = (i // columns) * height, (i % columns) * width
            page[y : y + height, x : x + width] = picture
        cv2.imwrite(str(path), cv2.cvtColor(page, cv2.COLOR_RGB2BGR))
