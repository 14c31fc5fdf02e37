"""As `rclpy.wait_for_message`."""

from __future__ import annotations

import threading
from typing import Any

from ros_bridge.rclpy.callback_groups import ReentrantCallbackGroup
from ros_bridge.rclpy.node import Node
from ros_bridge.rclpy.qos import QoSProfile, profile
from ros_bridge.rclpy.subscription import Subscription


def wait_for_message(
    msg_type: Any, node: Node, topic: str, *, qos_profile: QoSProfile | int = 1, time_to_wait: float = -1
) -> tuple[bool, Any]:
    """`(True, message)`, or `(False, None)` after `time_to_wait` seconds (negative: wait for ever) or at shutdown.

    The node need not be spun.
    """
    arrived = threading.Event()
    node.context.on_shutdown(arrived.set)
    got: list[Any] = []
    # Not one of the node's own: no executor may take its message.
    subscription = Subscription(
        node.context.connection,
        msg_type,
        topic,
        got.append,
        ReentrantCallbackGroup(),
        profile(qos_profile),
        node.resolve_topic_name(topic),
        arrived.set,
    )
    try:
        arrived.wait(None if time_to_wait < 0 else time_to_wait)
        callback = subscription.take()
        if callback is not None:
            callback()
    finally:
        subscription.destroy()
    return (True, got[0]) if got else (False, None)
