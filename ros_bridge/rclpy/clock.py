"""`Time`, `Duration` and `Clock`: system time, or steady time. Simulated time is not here yet."""

from __future__ import annotations

import time as _time
from enum import IntEnum
from typing import Any

from ros_bridge.messages import load


class ClockType(IntEnum):
    """What a clock counts."""

    ROS_TIME = 1
    SYSTEM_TIME = 2
    STEADY_TIME = 3


class Duration:
    """A signed span of nanoseconds."""

    def __init__(self, *, seconds: float = 0, nanoseconds: int = 0) -> None:
        self.nanoseconds = int(seconds * 1_000_000_000) + int(nanoseconds)

    def to_msg(self) -> Any:
        """`builtin_interfaces/msg/Duration`."""
        seconds, rest = divmod(self.nanoseconds, 1_000_000_000)
        return load("builtin_interfaces/msg/Duration")(sec=seconds, nanosec=rest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Duration) and other.nanoseconds == self.nanoseconds

    def __hash__(self) -> int:
        return hash(self.nanoseconds)

    def __repr__(self) -> str:
        return f"Duration(nanoseconds={self.nanoseconds})"


class Time:
    """A point in time of one clock."""

    def __init__(
        self, *, seconds: float = 0, nanoseconds: int = 0, clock_type: ClockType = ClockType.SYSTEM_TIME
    ) -> None:
        self.nanoseconds = int(seconds * 1_000_000_000) + int(nanoseconds)
        if self.nanoseconds < 0:
            raise ValueError("Seconds value must not be negative")
        self.clock_type = clock_type

    @classmethod
    def from_msg(cls, msg: Any, clock_type: ClockType = ClockType.ROS_TIME) -> Time:
        """From `builtin_interfaces/msg/Time`."""
        return cls(nanoseconds=msg.sec * 1_000_000_000 + msg.nanosec, clock_type=clock_type)

    def to_msg(self) -> Any:
        """`builtin_interfaces/msg/Time`."""
        seconds, rest = divmod(self.nanoseconds, 1_000_000_000)
        return load("builtin_interfaces/msg/Time")(sec=seconds, nanosec=rest)

    def seconds_nanoseconds(self) -> tuple[int, int]:
        """Whole seconds, and the rest in nanoseconds."""
        return divmod(self.nanoseconds, 1_000_000_000)

    def __sub__(self, other: object) -> Any:
        if isinstance(other, Time):
            if other.clock_type != self.clock_type:
                raise TypeError("Can't subtract times with different clock types")
            return Duration(nanoseconds=self.nanoseconds - other.nanoseconds)
        if isinstance(other, Duration):
            return Time(nanoseconds=self.nanoseconds - other.nanoseconds, clock_type=self.clock_type)
        return NotImplemented

    def __add__(self, other: object) -> Any:
        if isinstance(other, Duration):
            return Time(nanoseconds=self.nanoseconds + other.nanoseconds, clock_type=self.clock_type)
        return NotImplemented

    def __repr__(self) -> str:
        return f"Time(nanoseconds={self.nanoseconds}, clock_type={self.clock_type.name})"


class Clock:
    """Tells the time of one `ClockType`."""

    def __init__(self, *, clock_type: ClockType = ClockType.SYSTEM_TIME) -> None:
        self.clock_type = clock_type

    def now(self) -> Time:
        """The time now. ROS time is system time here."""
        steady = self.clock_type == ClockType.STEADY_TIME
        return Time(nanoseconds=_time.monotonic_ns() if steady else _time.time_ns(), clock_type=self.clock_type)
