"""Actions, as in `rclpy.action`, over rosbridge's action operations. See docs/ros.md for what those cannot say."""

from __future__ import annotations

from ros_bridge.rclpy.action.client import ActionClient
from ros_bridge.rclpy.action.graph import (
    get_action_client_names_and_types_by_node,
    get_action_names_and_types,
    get_action_server_names_and_types_by_node,
)
from ros_bridge.rclpy.action.server import ActionServer, CancelResponse, GoalResponse

__all__ = [
    "ActionClient",
    "ActionServer",
    "CancelResponse",
    "GoalResponse",
    "get_action_client_names_and_types_by_node",
    "get_action_names_and_types",
    "get_action_server_names_and_types_by_node",
]
