"""What a node says about itself: `~/status`, a diagnostic_msgs/msg/DiagnosticArray with one entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ros_bridge.backend import Node, QoSProfile, load

OK, WARN, ERROR, STALE = b"\x00", b"\x01", b"\x02", b"\x03"


class StatusPublisher:
    """Publishes on `~/status` of `node`, about `subject`, such as the robot's name."""

    def __init__(self, node: Node, subject: str) -> None:
        self._node, self._subject = node, subject
        self._array, self._entry, self._pair = (
            load(f"diagnostic_msgs/msg/{name}") for name in ("DiagnosticArray", "DiagnosticStatus", "KeyValue")
        )
        self._publisher: Any = node.create_publisher(self._array, "~/status", QoSProfile(depth=10))

    def publish(self, level: bytes, message: str, values: Mapping[str, str]) -> None:
        """One status: how bad it is, what is to be said first, and values by key."""
        entry = self._entry(
            level=level,
            name=f"{self._node.get_name()}: {self._subject}",
            message=message,
            hardware_id=self._subject,
            values=[self._pair(key=key, value=value) for key, value in values.items()],
        )
        array = self._array(status=[entry])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)
