"""A robot behind topics, as the controller sees it: `mcsd_agent.runtime.Robot`.

ROS callbacks only copy into mailboxes; the controller's thread only reads them. Neither waits for the other.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from mcsd_agent.runtime import Reading
from ros_bridge.robot_config import RobotConfig
from ros_bridge.sensors import Mailbox, SensorError, read, stamp_seconds


class SpokenText:
    """The newest instruction, and for how many more ticks the policy sees it.

    With `ticks` None it stays visible; otherwise the policy sees "" after that many ticks, and must
    remember. Before the first instruction, and after `forget`, there is none at all. Thread-safe.
    """

    def __init__(self, ticks: int | None) -> None:
        self._ticks = ticks
        self._lock = threading.Lock()
        self._text: str | None = None
        self._left = 0

    def hear(self, text: str) -> None:
        """A new instruction."""
        with self._lock:
            self._text, self._left = text, self._ticks or 0

    def forget(self) -> None:
        """As if nothing had been said."""
        with self._lock:
            self._text = None

    def visible(self) -> str | None:
        """What the policy sees now; None when nothing was ever said."""
        with self._lock:
            if self._text is None or self._ticks is None or self._left > 0:
                return self._text
            return ""

    def used(self) -> None:
        """The policy acted on what was visible: one tick less."""
        with self._lock:
            self._left = max(0, self._left - 1)


class RosRobot:
    """Mailboxes in, Twist out.

    Args:
        config: the robot.
        names: observations that the policy uses.
        twist: class of geometry_msgs/msg/Twist.
        publish: sends a Twist, or drops it.
        is_connected: whether it would be sent.
        on_reason: called on the controller's thread with "ok" or why the robot was stopped, at every tick.
    """

    def __init__(
        self,
        config: RobotConfig,
        names: Iterable[str],
        *,
        twist: Callable[[], Any],
        publish: Callable[[Any], None],
        is_connected: Callable[[], bool] = lambda: True,
        on_reason: Callable[[str], None] = lambda reason: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.spoken = SpokenText(config.instruction.spoken_ticks if config.instruction else None)
        self.rejected: Counter[str] = Counter()
        self.last_error = ""
        self._mailboxes = {name: Mailbox() for name in names if name in config.observations}
        self._twist, self._publish = twist, publish
        self._is_connected, self._on_reason = is_connected, on_reason
        self._clock = clock
        self._low = np.asarray(config.action.low, np.float32)
        self._high = np.asarray(config.action.high, np.float32)

    def receivers(self) -> dict[str, Callable[[Any], None]]:
        """The subscription callback of every observation, by name."""
        return {name: functools.partial(self._receive, name) for name in self._mailboxes}

    def observe(self) -> Reading:
        """The newest values and when they were measured."""
        values: dict[str, Any] = {}
        stamps: dict[str, float] = {}
        for name, mailbox in self._mailboxes.items():
            entry = mailbox.get()
            if entry is not None:
                values[name], stamps[name] = entry
        text = self.spoken.visible()
        if self.config.instruction is not None and text is not None:
            values[self.config.instruction.name] = text
        return Reading(values, stamps, self._is_connected())

    def send(self, action: np.ndarray) -> np.ndarray:
        """Publish the action, clipped to the robot's own bounds; returns what was published."""
        sent = np.clip(np.asarray(action, np.float32), self._low, self._high)
        self._publish(self._command(sent))
        self.spoken.used()
        self._on_reason("ok")
        return sent

    def stop(self, reason: str) -> None:
        """Publish a Twist of zeros."""
        self._on_reason(reason)
        self._publish(self._twist())

    def _receive(self, name: str, message: Any) -> None:
        arrival_s = self._clock()
        try:
            value = read(self.config.observations[name].source, message)
        except SensorError as error:
            self.rejected[name] += 1
            self.last_error = f"{name}: {error}"
            return
        self._mailboxes[name].put(value, arrival_s, stamp_seconds(message))

    def _command(self, action: np.ndarray) -> Any:
        message = self._twist()
        for field, value in zip(self.config.action.fields, action.tolist(), strict=True):
            part, axis = field.split(".")
            setattr(getattr(message, part), axis, value)
        return message
