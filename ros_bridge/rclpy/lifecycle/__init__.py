"""Lifecycle nodes, as in `rclpy.lifecycle`."""

from __future__ import annotations

from ros_bridge.rclpy.lifecycle._state_machine import TransitionCallbackReturn
from ros_bridge.rclpy.lifecycle.managed_entity import ManagedEntity, SimpleManagedEntity
from ros_bridge.rclpy.lifecycle.node import LifecycleNode, LifecycleNodeMixin, LifecycleState
from ros_bridge.rclpy.lifecycle.publisher import LifecyclePublisher

Node = LifecycleNode
NodeMixin = LifecycleNodeMixin
State = LifecycleState
Publisher = LifecyclePublisher

__all__ = [
    "LifecycleNode",
    "LifecycleNodeMixin",
    "LifecyclePublisher",
    "LifecycleState",
    "ManagedEntity",
    "SimpleManagedEntity",
    "TransitionCallbackReturn",
]
