"""A robot behind topics, as the controller sees it: `mcsd_agent.runtime.Robot`.

ROS callbacks only copy into mailboxes; the controller's thread only reads them. Neither waits for the other.
"""

from __future__ import annotations

import functools
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from mcsd_agent.runtime import Reading
from ros_bridge.commands import CommandMaker
from ros_bridge.robot_config import RobotConfig
from ros_bridge.sensors import Mailbox, SensorError, reader, stamp_seconds


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
    """Mailboxes in, commands out.

    Args:
        config: the robot.
        names: observations that the policy uses.
        commands: makes the messages of `config.action`.
        publish: sends one, or drops it.
        is_connected: whether it would be sent.
        on_reason: called on the controller's thread with "ok" or why the robot was stopped, at every tick.
        check: raises what forbids to drive; called there too, before every look at the sensors.
    """

    def __init__(
        self,
        config: RobotConfig,
        names: Iterable[str],
        *,
        commands: CommandMaker,
        publish: Callable[[Any], None],
        is_connected: Callable[[], bool] = lambda: True,
        on_reason: Callable[[str], None] = lambda reason: None,
        check: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.spoken = SpokenText(config.instruction.spoken_ticks if config.instruction else None)
        self.rejected: Counter[str] = Counter()
        self.last_error = ""
        self._names = tuple(name for name in names if name in config.observations)
        hold = config.action.hold_from
        wanted = dict.fromkeys([*self._names, *([hold] if hold else [])])
        self._mailboxes = {name: Mailbox() for name in wanted}
        self._readers = {name: reader(config.observations[name]) for name in wanted}
        self._commands, self._publish = commands, publish
        self._is_connected, self._on_reason, self._check = is_connected, on_reason, check
        self._clock = clock
        self._ready_s = math.nan
        self._sending = threading.Lock()
        self._halted = False
        self._held: np.ndarray | None = None
        self._sent: np.ndarray | None = None
        self._hold_index: list[int] = []
        if hold is not None:
            joints = config.observations[hold].joints
            assert joints is not None
            self._hold_index = [joints.names.index(name) for name in config.action.fields]

    def receivers(self) -> dict[str, Callable[[Any], None]]:
        """The subscription callback of every observation, by name."""
        return {name: functools.partial(self._receive, name) for name in self._mailboxes}

    def newest(self, name: str) -> tuple[np.ndarray, float] | None:
        """The newest value of an observation and when it was measured; None when nothing has come yet."""
        return self._mailboxes[name].get()

    def observe(self) -> Reading:
        """The newest values and when they were measured. Raises what `check` raises."""
        self._check()
        values: dict[str, Any] = {}
        stamps: dict[str, float] = {}
        for name in self._names:
            entry = self._mailboxes[name].get()
            if entry is not None:
                values[name], stamps[name] = entry
        text = self.spoken.visible()
        if self.config.instruction is not None and text is not None:
            values[self.config.instruction.name] = text
        return Reading(values, stamps, self._is_connected(), self._ready_s)

    def send(self, action: np.ndarray) -> np.ndarray:
        """Publish the action, clipped to the robot's own bounds; returns the action that was published.

        While halted it publishes a stop instead, and returns zeros. Raises `SensorError` where `max_step` is asked for
        and the position is not known.
        """
        with self._sending:
            if self._halted:
                self._publish_stop()
                return np.zeros(len(self.config.action.fields), np.float32)
            position = self._position()
            if self.config.action.max_step is not None and position is None:
                name = self.config.action.hold_from
                raise SensorError(f"{name} is missing or too old; max_step needs to know where the robot is")
            values = self._commands.values(action, position)
            self._publish(self._commands.message(values))
            self._held, self._sent = None, values
        self.spoken.used()
        self._on_reason("ok")
        return self._commands.action_of(values)

    def stop(self, reason: str) -> None:
        """Publish what stops the robot, if it is known."""
        self._on_reason(reason)
        with self._sending:
            self._publish_stop()

    def halt(self) -> None:
        """Stop now and send nothing but stops until `release`. Any thread; no action that is on its way comes after."""
        with self._sending:
            self._halted = True
            self._publish_stop()

    def release(self) -> None:
        """Actions are sent again."""
        with self._sending:
            self._halted = False

    @property
    def is_halted(self) -> bool:
        """Between `halt` and `release`."""
        return self._halted

    def _publish_stop(self) -> None:
        if self.config.action.holds and self._held is None:
            # Where it is when the stop begins: following every measurement, an arm would sink by its own weight.
            position = self._position()
            self._held = self._sent if position is None else position
        message = self._commands.stop_message(self._held)
        if message is not None:
            self._publish(message)

    def _position(self) -> np.ndarray | None:
        """Where the robot is by the observation that a stop holds; None when that is not known, or too old."""
        name = self.config.action.hold_from
        entry = None if name is None else self._mailboxes[name].get()
        if name is None or entry is None:
            return None
        value, at = entry
        is_fresh = self._clock() - at <= self.config.observations[name].max_age_s
        return value[self._hold_index] if is_fresh and np.isfinite(value).all() else None

    def _receive(self, name: str, message: Any) -> None:
        arrival_s = self._clock()
        try:
            value = self._readers[name](message)
        except SensorError as error:
            self.rejected[name] += 1
            self.last_error = f"{name}: {error}"
            return
        self._mailboxes[name].put(value, arrival_s, stamp_seconds(message))
        if name in self._names:
            self._ready_s = self._clock()
