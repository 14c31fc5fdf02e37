"""The emergency stop button: a std_msgs/msg/Bool, heard on a node and a thread of its own.

What the policy node's executor has to do, pictures to decode above all, is never before it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

from ros_bridge.backend import (
    NATIVE,
    DurabilityPolicy,
    ExternalShutdownException,
    Node,
    QoSProfile,
    ReliabilityPolicy,
    SingleThreadedExecutor,
    load,
    rclpy,
)

#: Natively a subscription meets only publishers that promise as much: the first meets all, the others lose nothing
#: of those that are reliable, and hear what was said before they came. Over rosbridge the server sees to it.
_OFFERS = (
    (ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE),
    (ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE),
    (ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL),
)


class EmergencyStop:
    """Calls `pressed()` on its own thread for every true that arrives, until `close`.

    Args:
        owner: the policy's node, whose name and context it shares.
        topic: absolute.
    """

    def __init__(self, owner: Node, topic: str, pressed: Callable[[], None]) -> None:
        #: Whether the newest message was true.
        self.is_pressed = False
        self._pressed = pressed
        self._node = rclpy.create_node(
            f"{owner.get_name()}_emergency_stop",
            context=owner.context,
            namespace=owner.get_namespace(),
            use_global_arguments=False,
            enable_rosout=False,
            start_parameter_services=False,
        )
        for reliability, durability in _OFFERS if NATIVE else _OFFERS[:1]:
            qos = QoSProfile(depth=10, reliability=reliability, durability=durability)
            self._node.create_subscription(load("std_msgs/msg/Bool"), topic, self._hear, qos)
        self._executor = SingleThreadedExecutor(context=owner.context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, name=self._node.get_name(), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hear no more."""
        self._executor.shutdown()
        self._thread.join(timeout=1.0)
        self._node.destroy_node()

    def _hear(self, message: Any) -> None:
        self.is_pressed = bool(message.data)
        if self.is_pressed:
            self._pressed()

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()
