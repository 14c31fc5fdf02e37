"""As `rclpy.validate_topic_name`."""

from __future__ import annotations

from ros_bridge.names import check, topic_name_error
from ros_bridge.rclpy.exceptions import InvalidServiceNameException, InvalidTopicNameException

TOPIC_SEPARATOR_STRING = "/"


def validate_topic_name(name: str, *, is_service: bool = False) -> bool:
    """True, or the exception; the name may be relative, private or hold substitutions."""
    return check(name, topic_name_error, InvalidServiceNameException if is_service else InvalidTopicNameException)
