"""`rclpy.clock_type`'s import path."""

from __future__ import annotations

from ros_bridge.rclpy.clock import ClockType

__all__ = ["ClockType"]
