"""`rclpy.duration`'s import path."""

from __future__ import annotations

from ros_bridge.rclpy.clock import Duration

__all__ = ["Duration"]
