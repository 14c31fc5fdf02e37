"""`Publisher`, as in `rclpy.publisher`."""

from __future__ import annotations

from typing import Any

from ros_bridge.codec import to_json
from ros_bridge.connection import Connection
from ros_bridge.rclpy.duration import Duration
from ros_bridge.rclpy.exceptions import InvalidHandle
from ros_bridge.rclpy.qos import QoSProfile


class Publisher:
    """Made by `Node.create_publisher`. Messages published before subscribers have found it are lost, as in DDS."""

    #: The node's logger.
    logger_name: str

    def __init__(
        self, connection: Connection, msg_type: Any, topic: str, qos_profile: QoSProfile, full_name: str
    ) -> None:
        self.msg_type = msg_type
        self.topic = topic
        self.qos_profile = qos_profile
        self._connection = connection
        self._is_destroyed = False
        self._full_name = full_name
        connection.advertise(full_name, msg_type.ROS_TYPE, latch=qos_profile.latch, depth=qos_profile.bound)

    @property
    def topic_name(self) -> str:
        """Full name, expanded and remapped."""
        return self._full_name

    def publish(self, msg: Any) -> None:
        """Send now. While the link is down the message is dropped and counted, never kept for later.

        Raises `TypeError` for a message of another class and `ValueError` for NaN or infinity.
        """
        if isinstance(msg, bytes):
            raise NotImplementedError("publish(bytes): rosbridge carries JSON, not serialised messages")
        if not isinstance(msg, self.msg_type):
            raise TypeError(f"Expected {self.msg_type}, got {type(msg)}")
        if self._is_destroyed:
            raise InvalidHandle(f"publisher of {self.topic_name} was destroyed")
        self._connection.publish(self._full_name, to_json(msg), latch=self.qos_profile.latch)

    def get_subscription_count(self) -> int:
        """Not known here."""
        raise NotImplementedError("get_subscription_count: rosbridge cannot tell who subscribes")

    def assert_liveliness(self) -> None:
        """Not here."""
        raise NotImplementedError("assert_liveliness: the rosbridge server's publisher lives as long as the link")

    def wait_for_all_acked(self, timeout: Duration = Duration(seconds=-1)) -> bool:  # noqa: B008
        """Not known here."""
        raise NotImplementedError("wait_for_all_acked: rosbridge does not acknowledge messages")

    def destroy(self) -> None:
        """Use `Node.destroy_publisher`."""
        if not self._is_destroyed:
            self._is_destroyed = True
            self._connection.unadvertise(self._full_name)
