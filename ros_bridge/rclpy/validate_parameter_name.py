"""As `rclpy.validate_parameter_name`."""

from __future__ import annotations

from ros_bridge.rclpy.exceptions import InvalidParameterException


def validate_parameter_name(name: str) -> bool:
    """True, or `InvalidParameterException` for an empty name."""
    if not name:
        raise InvalidParameterException(name)
    return True
