"""`ClockType`, as in `rclpy.clock_type`."""

from __future__ import annotations

from enum import IntEnum


class ClockType(IntEnum):
    """What a clock counts."""

    UNINITIALIZED = 0
    ROS_TIME = 1
    SYSTEM_TIME = 2
    STEADY_TIME = 3
