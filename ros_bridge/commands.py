"""Actions to command messages, and the message that stops the robot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ros_bridge.action_config import ACKERMANN, TRAJECTORY, TWIST, TWIST_STAMPED, ActionConfig, per_entry

Load = Callable[[str], Any]
_PLURAL = {"position": "positions", "velocity": "velocities", "effort": "effort"}


class CommandMaker:
    """Makes the messages of one action configuration.

    Args:
        config: what is sent.
        load: gives the class of a ROS type on the backend in use, see `backend.load`.
        stamp: the time now as builtin_interfaces/msg/Time, for messages that carry it.
    """

    def __init__(self, config: ActionConfig, load: Load, stamp: Callable[[], Any] | None = None) -> None:
        self.config = config
        count = len(config.fields)
        self._low, self._high = np.asarray(config.low, np.float32), np.asarray(config.high, np.float32)
        self._scale = np.asarray(per_entry(1.0 if config.scale is None else config.scale, count), np.float32)
        self._offset = np.asarray(per_entry(0.0 if config.offset is None else config.offset, count), np.float32)
        self._max_step = None
        if config.max_step is not None:
            self._max_step = np.asarray(per_entry(config.max_step, count), np.float32)
        self.message_class = load(config.message)
        self._stamp = stamp
        if config.message == TRAJECTORY:
            self._point = load("trajectory_msgs/msg/JointTrajectoryPoint")
            self._duration = load("builtin_interfaces/msg/Duration")

    def values(self, action: np.ndarray, position: np.ndarray | None) -> np.ndarray:
        """The robot's values for `action`, within its bounds and, with `max_step`, near `position`; float32."""
        values = np.clip(np.asarray(action, np.float32) * self._scale + self._offset, self._low, self._high)
        if self._max_step is not None and position is not None:
            values = np.clip(values, position - self._max_step, position + self._max_step)
        return values

    def action_of(self, values: np.ndarray) -> np.ndarray:
        """The action that `values` were made of."""
        return ((values - self._offset) / self._scale).astype(np.float32)

    def message(self, values: np.ndarray) -> Any:
        """The command that carries `values`."""
        config, numbers = self.config, [float(v) for v in values]
        message = self.message_class()
        if config.message in (TWIST, TWIST_STAMPED):
            twist = message if config.message == TWIST else message.twist
            for field, number in zip(config.fields, numbers, strict=True):
                part, axis = field.split(".")
                setattr(getattr(twist, part), axis, number)
        elif config.message == ACKERMANN:
            for field, number in zip(config.fields, numbers, strict=True):
                setattr(message.drive, field, number)
        elif config.message == TRAJECTORY:
            self._fill_trajectory(message, numbers)
        else:
            message.data = numbers
        if config.message in (TWIST_STAMPED, ACKERMANN):
            message.header.frame_id = config.frame_id
        # A trajectory's stamp is the time to begin at: zero, which it has, is now. A guard says so again.
        if self._stamp is not None and (config.message in (TWIST_STAMPED, ACKERMANN) or config.time_topic is not None):
            message.header.stamp = self._stamp()
        return message

    def stop_message(self, position: np.ndarray | None) -> Any | None:
        """What stops the robot: zeros, or `position` where it holds. None while that is not known."""
        if not self.config.holds:
            return self.message(np.zeros(len(self.config.fields), np.float32))
        return None if position is None else self.message(position)

    def _fill_trajectory(self, message: Any, numbers: list[float]) -> None:
        seconds = self.config.time_from_start_s
        point = self._point()
        setattr(point, _PLURAL[self.config.quantity], numbers)
        whole = int(seconds)
        point.time_from_start = self._duration(sec=whole, nanosec=round((seconds - whole) * 1e9))
        message.joint_names = list(self.config.fields)
        message.points = [point]
