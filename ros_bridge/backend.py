"""One node source, two backends.

A node that takes its ROS names from here runs on native rclpy where the process has imported `rclpy`
before this module, and over rosbridge otherwise:

    from ros_bridge.backend import Node, load, rclpy

    class Listener(Node):
        def __init__(self):
            super().__init__("listener")
            self.create_subscription(load("std_msgs/msg/String"), "chatter", print, 10)
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mcsd_agent.errors import UserError

#: Whether this process runs on native rclpy. Decided once, at import.
NATIVE = "rclpy" in sys.modules

if TYPE_CHECKING:
    from ros_bridge import rclpy
    from ros_bridge.rclpy.clock import Clock
    from ros_bridge.rclpy.clock_type import ClockType
    from ros_bridge.rclpy.duration import Duration
    from ros_bridge.rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
    from ros_bridge.rclpy.node import Node
    from ros_bridge.rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
    from ros_bridge.rclpy.task import Future
else:
    _PACKAGE = "rclpy" if NATIVE else "ros_bridge.rclpy"
    rclpy = importlib.import_module(_PACKAGE)
    Node = importlib.import_module(f"{_PACKAGE}.node").Node
    Clock = importlib.import_module(f"{_PACKAGE}.clock").Clock
    ClockType = importlib.import_module(f"{_PACKAGE}.clock_type").ClockType
    Duration = importlib.import_module(f"{_PACKAGE}.duration").Duration
    ExternalShutdownException = importlib.import_module(f"{_PACKAGE}.executors").ExternalShutdownException
    SingleThreadedExecutor = importlib.import_module(f"{_PACKAGE}.executors").SingleThreadedExecutor
    QoSProfile = importlib.import_module(f"{_PACKAGE}.qos").QoSProfile
    ReliabilityPolicy = importlib.import_module(f"{_PACKAGE}.qos").ReliabilityPolicy
    DurabilityPolicy = importlib.import_module(f"{_PACKAGE}.qos").DurabilityPolicy
    Future = importlib.import_module(f"{_PACKAGE}.task").Future

__all__ = [
    "NATIVE",
    "Clock",
    "ClockType",
    "DurabilityPolicy",
    "Duration",
    "ExternalShutdownException",
    "Future",
    "Node",
    "QoSProfile",
    "ReliabilityPolicy",
    "SingleThreadedExecutor",
    "action_module",
    "load",
    "rclpy",
]


def load(ros_type: str) -> Any:
    """The class of `package/msg/Name` or `package/srv/Name`, native or ours; `UserError` if there is none."""
    if not NATIVE:
        from ros_bridge import messages

        return messages.load(ros_type)
    package, kind, name = ros_type.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.{kind}"), name)
    except (ImportError, AttributeError):
        raise UserError(f"ROS type {ros_type!r} is not installed here; install the package {package!r}") from None


def action_module() -> Any:
    """`rclpy.action` of the backend in use; imported when it is needed."""
    return importlib.import_module("rclpy.action" if NATIVE else "ros_bridge.rclpy.action")


def is_connected(node: Node) -> bool:
    """Whether what the node publishes leaves this process. Native nodes have no link that could be lost."""
    return True if NATIVE else node.context.connection.connected


def link_counters(node: Node) -> Mapping[str, int]:
    """What the link sent, dropped and refused, by cause; empty for native nodes."""
    return {} if NATIVE else node.context.connection.counts()
