"""As `rclpy.expand_topic_name`."""

from __future__ import annotations

from ros_bridge.names import expand


def expand_topic_name(topic_name: str, node_name: str, node_namespace: str) -> str:
    """The absolute form of `topic_name` in that node; `ValueError` when it has none."""
    return expand(topic_name, node_name, node_namespace)
