"""`rclpy.time`'s import path."""

from __future__ import annotations

from ros_bridge.rclpy.clock import Time

__all__ = ["Time"]
