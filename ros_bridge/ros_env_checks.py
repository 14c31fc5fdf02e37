"""Whether a policy may drive on what a robot's sensors say: the checks of the controller, for `RosEnv`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from mcsd_agent.runtime.robot import Reading
from mcsd_agent.runtime.watchdogs import AgeWatch, FrozenWatch
from ros_bridge.robot_config import RobotConfig

if TYPE_CHECKING:
    from ros_bridge.robot_link import RobotLink


class ReadingChecks:
    """Answers with a reason of `mcsd_agent.runtime.controller`, or with None."""

    def __init__(self, config: RobotConfig) -> None:
        self._config = config
        self._ages = AgeWatch({name: o.max_age_s for name, o in config.observations.items()})
        self.begin(still=True)

    def begin(self, *, still: bool) -> None:
        """Watch anew; while the robot stands `still`, not for frozen sensors, nor for a stop that has passed."""
        self._still = still
        limits = {n: o.max_frozen_s for n, o in self._config.observations.items() if o.max_frozen_s is not None}
        self._frozen = FrozenWatch({} if still else limits)

    @property
    def oldest_s(self) -> float:
        """Age of the oldest observation of the reading that was checked last; NaN when there was none."""
        return self._ages.oldest_s

    def fault(self, reading: Reading, link: RobotLink) -> str | None:
        """Why nobody may drive on this reading, or None."""
        now = time.monotonic()
        reason = "emergency_stop" if self.is_stopped(link) else link.beats.check(now)
        if reason is None:
            reason = "disconnected" if not reading.connected else self._ages.check(reading, now)
        if reason is not None:
            return reason
        for name in self._config.observations:
            if not np.isfinite(reading.values[name]).all():
                return f"nan_observation:{name}"
        return self._frozen.check(reading.values, now)

    def is_stopped(self, link: RobotLink) -> bool:
        """Whether the emergency stop is pressed, or has been since the episode began, however short."""
        return link.emergency or (not self._still and link.robot.is_halted)

    def explain(self, reason: str, link: RobotLink, waited_s: float) -> str:
        """One line about a reason that did not pass in time, and what to do about it."""
        name = reason.partition(":")[2]
        robot, waited = f"robot {self._config.name!r}", f"after {waited_s:g} s"
        if reason == "emergency_stop" and self._config.emergency_stop is not None:
            topic = self._config.emergency_stop.topic
            return f"{robot}: the emergency stop is pressed {waited}; release it: the newest message on {topic} is true"
        words = self._config.instruction
        if words is not None and name == words.name:
            return (
                f"{robot}: nobody has said anything on {words.topic} {waited}; give instructions=[...], or use instruct"
            )
        if name in self._config.observations:
            topic = self._config.observations[name].topic
            wrong = f" ({link.robot.last_error})" if link.robot.last_error else ""
            return f"{robot}: no usable message on {topic} {waited}: {reason}{wrong}; start that sensor"
        return f"{robot} cannot be driven {waited}: {reason}"
