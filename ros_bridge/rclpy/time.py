"""`Time`, as in `rclpy.time`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ros_bridge.messages import load
from ros_bridge.rclpy.clock_type import ClockType
from ros_bridge.rclpy.constants import S_TO_NS
from ros_bridge.rclpy.duration import Duration


class Time:
    """A point in time of one clock."""

    def __init__(
        self, *, seconds: float = 0, nanoseconds: int = 0, clock_type: ClockType = ClockType.SYSTEM_TIME
    ) -> None:
        if not isinstance(clock_type, ClockType):
            raise TypeError("Clock type must be a ClockType enum")
        if seconds < 0:
            raise ValueError("Seconds value must not be negative")
        if nanoseconds < 0:
            raise ValueError("Nanoseconds value must not be negative")
        total = int(seconds * S_TO_NS) + int(nanoseconds)
        if total >= 2**63:
            raise OverflowError("Total nanoseconds value is too large to store in C time point.")
        self._nanoseconds, self._clock_type = total, clock_type

    @property
    def nanoseconds(self) -> int:
        """Since the clock's epoch."""
        return self._nanoseconds

    @property
    def clock_type(self) -> ClockType:
        """The clock's type; times of different types are not compared."""
        return self._clock_type

    def seconds_nanoseconds(self) -> tuple[int, int]:
        """Whole seconds, and the rest in nanoseconds."""
        return divmod(self._nanoseconds, S_TO_NS)

    def to_msg(self) -> Any:
        """`builtin_interfaces/msg/Time`."""
        seconds, rest = self.seconds_nanoseconds()
        return load("builtin_interfaces/msg/Time")(sec=seconds, nanosec=rest)

    @classmethod
    def from_msg(cls, msg: Any, clock_type: ClockType = ClockType.ROS_TIME) -> Time:
        """From `builtin_interfaces/msg/Time`."""
        if not isinstance(msg, load("builtin_interfaces/msg/Time")):
            raise TypeError("Must pass a builtin_interfaces.msg.Time object")
        return cls(seconds=msg.sec, nanoseconds=msg.nanosec, clock_type=clock_type)

    def __add__(self, other: object) -> Time:
        if not isinstance(other, Duration):
            return NotImplemented
        try:
            return Time(nanoseconds=self._nanoseconds + other.nanoseconds, clock_type=self._clock_type)
        except OverflowError:
            raise OverflowError("Addition leads to overflow in C storage.") from None

    __radd__ = __add__

    def __sub__(self, other: object) -> Any:
        if isinstance(other, Time):
            if other._clock_type != self._clock_type:
                raise TypeError("Can't subtract times with different clock types")
            return Duration(nanoseconds=self._nanoseconds - other._nanoseconds)
        if isinstance(other, Duration):
            try:
                return Time(nanoseconds=self._nanoseconds - other.nanoseconds, clock_type=self._clock_type)
            except ValueError:
                raise ValueError("Subtraction leads to negative time.") from None
        return NotImplemented

    def _compare(self, other: object, operation: Callable[[int, int], bool]) -> bool:
        if not isinstance(other, Time):
            return NotImplemented
        if other._clock_type != self._clock_type:
            raise TypeError("Can't compare times with different clock types")
        return operation(self._nanoseconds, other._nanoseconds)

    def __eq__(self, other: object) -> bool:
        return self._compare(other, int.__eq__)

    def __lt__(self, other: object) -> bool:
        return self._compare(other, int.__lt__)

    def __le__(self, other: object) -> bool:
        return self._compare(other, int.__le__)

    def __gt__(self, other: object) -> bool:
        return self._compare(other, int.__gt__)

    def __ge__(self, other: object) -> bool:
        return self._compare(other, int.__ge__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Time(nanoseconds={self._nanoseconds}, clock_type={self._clock_type.name})"
