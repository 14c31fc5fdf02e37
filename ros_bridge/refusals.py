"""What a policy node may not drive without: its services, its emergency stop, its heartbeat.

A rosbridge server may refuse them, above all services that another client offers. Native rclpy refuses nothing.
"""

from __future__ import annotations

from ros_bridge.backend import NATIVE, Node


class RefusedError(Exception):
    """The server refused something that the node may not drive without."""


class Needed:
    """Services and subscriptions of `node`, by their absolute names."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._declared: list[tuple[str, str]] = []
        self._is_logged = False

    def service(self, name: str) -> None:
        """The node offers `name`, and must be heard to."""
        self._declared.append(("advertise_service", self._node.resolve_service_name(name)))

    def topic(self, name: str) -> None:
        """The node hears `name`, which is absolute, and must."""
        self._declared.append(("subscribe", name))

    def check(self) -> None:
        """`RefusedError` while one of them is refused on the open link. Any thread."""
        if NATIVE:
            return
        for operation, name in self._declared:
            reason = self._node.context.connection.refusal(operation, name)
            if reason:
                text = f"the server refused {operation} {name}: {reason}"
                if not self._is_logged:
                    self._is_logged = True
                    self._node.get_logger().error(f"{text}; this node stays stopped until that is put right")
                raise RefusedError(text)
