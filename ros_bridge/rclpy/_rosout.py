"""What a node's logger says, to `/rosout`."""

from __future__ import annotations

import time
from types import FrameType

from ros_bridge.codec import to_json
from ros_bridge.connection import Connection
from ros_bridge.messages import load
from ros_bridge.rclpy.logging import add_sink, remove_sink

TOPIC = "/rosout"
#: rclpy's depth for this topic.
DEPTH = 1000


class Rosout:
    """Publishes for the logger `name` and its children until `destroy`."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection, self._name = connection, name
        self._log_type = load("rcl_interfaces/msg/Log")
        connection.advertise(TOPIC, self._log_type.ROS_TYPE, depth=DEPTH)
        add_sink(name, self._publish)

    def destroy(self) -> None:
        """Publish no more."""
        remove_sink(self._name, self._publish)
        self._connection.unadvertise(TOPIC)

    def _publish(self, severity: int, name: str, text: str, frame: FrameType) -> None:
        message = self._log_type(level=int(severity), name=name, msg=text)
        message.stamp.sec, message.stamp.nanosec = divmod(time.time_ns(), 1_000_000_000)
        message.file, message.function = frame.f_code.co_filename, frame.f_code.co_name
        message.line = frame.f_lineno
        # A line said during an outage is on stderr; it is not sent later.
        if self._connection.connected:
            self._connection.publish(TOPIC, to_json(message))
