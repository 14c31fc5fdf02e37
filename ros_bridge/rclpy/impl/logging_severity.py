"""`rclpy.impl.logging_severity`'s import path."""

from __future__ import annotations

from ros_bridge.rclpy.logging import LoggingSeverity

__all__ = ["LoggingSeverity"]
