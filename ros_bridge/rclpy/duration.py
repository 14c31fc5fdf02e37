"""`Duration`, as in `rclpy.duration`."""

from __future__ import annotations

import functools
from typing import Any

from ros_bridge.messages import load
from ros_bridge.rclpy.constants import S_TO_NS


@functools.total_ordering
class Duration:
    """A signed span of nanoseconds."""

    def __init__(self, *, seconds: float = 0, nanoseconds: int = 0) -> None:
        total = int(seconds * S_TO_NS) + int(nanoseconds)
        if not -(2**63) <= total < 2**63:
            raise OverflowError("Total nanoseconds value is too large to store in C duration.")
        self._nanoseconds = total

    @property
    def nanoseconds(self) -> int:
        """The whole span."""
        return self._nanoseconds

    def to_msg(self) -> Any:
        """`builtin_interfaces/msg/Duration`."""
        seconds, rest = divmod(self._nanoseconds, S_TO_NS)
        return load("builtin_interfaces/msg/Duration")(sec=seconds, nanosec=rest)

    @classmethod
    def from_msg(cls, msg: Any) -> Duration:
        """From `builtin_interfaces/msg/Duration`."""
        if not isinstance(msg, load("builtin_interfaces/msg/Duration")):
            raise TypeError("Must pass a builtin_interfaces.msg.Duration object")
        return cls(seconds=msg.sec, nanoseconds=msg.nanosec)

    def get_c_duration(self) -> Any:
        """Not here."""
        raise NotImplementedError("get_c_duration: there is no rcl on this side of rosbridge")

    def __eq__(self, other: object) -> bool:
        return self._nanoseconds == other._nanoseconds if isinstance(other, Duration) else NotImplemented

    def __lt__(self, other: object) -> bool:
        return self._nanoseconds < other._nanoseconds if isinstance(other, Duration) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Duration(nanoseconds={self._nanoseconds})"

    def __str__(self) -> str:
        return "Infinite" if self == Infinite else f"{self._nanoseconds} nanoseconds"


Infinite = Duration(nanoseconds=2**63 - 1)
