"""Command messages to actions: the way back of `commands`, for whoever watches somebody else drive."""

from __future__ import annotations

from typing import Any

import numpy as np

from ros_bridge.action_config import ACKERMANN, TRAJECTORY, TWIST, TWIST_STAMPED, ActionConfig, per_entry
from ros_bridge.sensors import SensorError

_PLURAL = {"position": "positions", "velocity": "velocities", "effort": "effort"}


class CommandReader:
    """Reads the messages of one action configuration, native ones, the bridge's and a bag's alike."""

    def __init__(self, config: ActionConfig) -> None:
        self.config = config
        count = len(config.fields)
        self._scale = np.asarray(per_entry(1.0 if config.scale is None else config.scale, count), np.float32)
        self._offset = np.asarray(per_entry(0.0 if config.offset is None else config.offset, count), np.float32)

    def __call__(self, message: Any) -> np.ndarray:
        """The action `(n,)` that `message` carries, float32 in the policy's units, clipped to nothing.

        Raises `SensorError` where the message does not hold it.
        """
        values = np.asarray(self._values(message), np.float32)
        if not np.isfinite(values).all():
            raise SensorError(f"the command holds {values.tolist()}, which is no action")
        return ((values - self._offset) / self._scale).astype(np.float32)

    def _values(self, message: Any) -> list[float]:
        config = self.config
        if config.message in (TWIST, TWIST_STAMPED):
            twist = message if config.message == TWIST else message.twist
            parts = [field.split(".") for field in config.fields]
            return [getattr(getattr(twist, part), axis) for part, axis in parts]
        if config.message == ACKERMANN:
            return [getattr(message.drive, field) for field in config.fields]
        if config.message == TRAJECTORY:
            return self._first_point(message)
        if len(message.data) < len(config.fields):
            raise SensorError(f"the command has {len(message.data)} numbers; {len(config.fields)} are needed")
        return list(message.data[: len(config.fields)])

    def _first_point(self, message: Any) -> list[float]:
        names = list(message.joint_names)
        numbers = list(getattr(message.points[0], _PLURAL[self.config.quantity])) if len(message.points) else []
        if len(numbers) != len(names):
            raise SensorError(f"the trajectory's first point has {len(numbers)} values for {len(names)} joints")
        missing = [name for name in self.config.fields if name not in names]
        if missing:
            raise SensorError(f"the trajectory has no joint {missing[0]!r}; it has {', '.join(names) or 'none'}")
        return [numbers[names.index(name)] for name in self.config.fields]
