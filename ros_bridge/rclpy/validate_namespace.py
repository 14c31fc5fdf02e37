"""As `rclpy.validate_namespace`."""

from __future__ import annotations

from ros_bridge.names import check, namespace_error
from ros_bridge.rclpy.exceptions import InvalidNamespaceException


def validate_namespace(namespace: str) -> bool:
    """True, or `InvalidNamespaceException`; the name must be absolute."""
    return check(namespace, namespace_error, InvalidNamespaceException)
