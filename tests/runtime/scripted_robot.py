"""A robot whose sensors, connection and failures a test writes down; it records every command it gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mcsd_agent.runtime import Reading, VirtualClock


class ScriptedRobot:
    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.values: dict[str, Any] = {
            "position": np.float32([0.25, -0.25]),
            "action_root": np.float32([1]),
            "state_root": np.float32([1]),
            "instruction": "",
        }
        self.ages = dict.fromkeys(("position", "action_root", "state_root"), 0.0)
        self.connected = True
        self.ready = float("nan")
        self.commands: list[tuple[str, float, Any]] = []
        self.on_observe: Callable[[], None] = lambda: None
        self.on_send: Callable[[np.ndarray], Any] = lambda action: action
        self.on_stop: Callable[[], None] = lambda: None

    def observe(self) -> Reading:
        self.on_observe()
        now = self.clock()
        return Reading(self.values, {k: now - age for k, age in self.ages.items()}, self.connected, self.ready)

    def send(self, action: np.ndarray) -> np.ndarray:
        self.commands.append(("send", self.clock(), action))
        return self.on_send(action)

    def stop(self, reason: str) -> None:
        self.commands.append(("stop", self.clock(), reason))
        self.on_stop()

    @property
    def last(self) -> tuple[str, Any]:
        kind, _, what = self.commands[-1]
        return kind, what
