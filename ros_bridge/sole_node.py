"""Whether a policy node may have its name: two of one name would drive, and only one of them could be held."""

from __future__ import annotations

from typing import Any

from mcsd_agent.errors import UserError
from ros_bridge.names import node_name_error
from ros_bridge.ros_process import spin_for

#: A policy node reports every second. A server has discovered it long ago; natively FastDDS may take three seconds,
#: the period in which it says again who is there.
_LISTEN_S, _LISTEN_NATIVE_S = 1.5, 4.5


def check_node_name(name: str) -> None:
    """`UserError` for what ROS does not take as a node's name."""
    error = node_name_error(name)
    if error is not None:
        raise UserError(f"--node {name!r}: {error[0]}; give one word, for example --node policy2")


def require_sole(rclpy: Any, name: str) -> None:
    """Listen to `/name/status`; `UserError` when somebody reports there."""
    from ros_bridge.backend import NATIVE, QoSProfile, load

    heard: list[Any] = []
    topic = f"/{name}/status"
    node = rclpy.create_node(f"{name}_newcomer", enable_rosout=False, start_parameter_services=False)
    try:
        node.create_subscription(load("diagnostic_msgs/msg/DiagnosticArray"), topic, heard.append, QoSProfile(depth=1))
        spin_for(rclpy, node, _LISTEN_NATIVE_S if NATIVE else _LISTEN_S, lambda: bool(heard))
    finally:
        rclpy.get_global_executor().remove_node(node)
        node.destroy_node()
    if heard:
        raise UserError(
            f"node {name!r} is running already: somebody reports on {topic}, and two of one name cannot both be held;"
            " stop the other one, or give this one another name with --node NAME"
        )
