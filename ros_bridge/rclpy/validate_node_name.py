"""As `rclpy.validate_node_name`."""

from __future__ import annotations

from ros_bridge.names import check, node_name_error
from ros_bridge.rclpy.exceptions import InvalidNodeNameException


def validate_node_name(node_name: str) -> bool:
    """True, or `InvalidNodeNameException`."""
    return check(node_name, node_name_error, InvalidNodeNameException)
