"""`rclpy.impl.rcutils_logger`'s import path."""

from __future__ import annotations

from ros_bridge.rclpy.logging import RcutilsLogger

__all__ = ["RcutilsLogger"]
