"""As `rclpy.validate_full_topic_name`."""

from __future__ import annotations

from ros_bridge.names import check, full_topic_name_error
from ros_bridge.rclpy.exceptions import InvalidServiceNameException, InvalidTopicNameException


def validate_full_topic_name(name: str, *, is_service: bool = False) -> bool:
    """True, or the exception; the name must be absolute and expanded."""
    return check(name, full_topic_name_error, InvalidServiceNameException if is_service else InvalidTopicNameException)
