"""`Subscription`, as in `rclpy.subscription`: a queue of at most `depth` messages, newest kept."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from enum import Enum
from typing import Any

from ros_bridge.backlog import Backlog
from ros_bridge.codec import from_json, is_bulky
from ros_bridge.connection import Connection
from ros_bridge.messages import MessageError
from ros_bridge.rclpy.qos import QoSProfile

LOGGER = logging.getLogger("ros_bridge")


class Subscription:
    """Made by `Node.create_subscription`.

    `dropped` counts what the callback was too slow for, `rejected` what did not fit the message class;
    neither is part of rclpy's interface.
    """

    class CallbackType(Enum):
        """What the callback takes; here always the message only."""

        MessageOnly = 0
        WithMessageInfo = 1

    #: The node's logger.
    logger_name: str

    def __init__(
        self,
        connection: Connection,
        msg_type: Any,
        topic: str,
        callback: Callable[..., Any],
        callback_group: Any,
        qos_profile: QoSProfile,
        full_name: str,
        wake: Callable[[], None],
    ) -> None:
        self.msg_type = msg_type
        self.topic = topic
        self.callback = callback
        self.callback_group = callback_group
        self.raw = False
        self.qos_profile = qos_profile
        self.rejected = 0
        self._connection = connection
        self._wake = wake
        self._queue = Backlog(connection.budget, qos_profile.bound)
        self._is_destroyed = False
        self._full_name = full_name
        compression = "cbor" if is_bulky(msg_type.ROS_TYPE) else "none"
        connection.subscribe(
            full_name, msg_type.ROS_TYPE, self._deliver, depth=qos_profile.bound, compression=compression
        )

    @property
    def dropped(self) -> int:
        """How many messages came too fast for the callback."""
        return self._queue.dropped

    @property
    def topic_name(self) -> str:
        """Full name, expanded and remapped."""
        return self._full_name

    @property
    def callback(self) -> Callable[..., Any]:
        """What is called with each message."""
        return self._callback

    @callback.setter
    def callback(self, value: Callable[..., Any]) -> None:
        if not _takes(value, 1):
            if _takes(value, 2):
                raise NotImplementedError("callback(msg, info): rosbridge carries no message info; take one argument")
            raise RuntimeError(
                "Subscription.__init__(): callback should be either be callable with one argument"
                "(to get only the message) or two (to get message and message info)"
            )
        self._callback = value

    def get_publisher_count(self) -> int:
        """Not known here."""
        raise NotImplementedError("get_publisher_count: rosbridge cannot tell who publishes")

    def is_ready(self) -> bool:
        """Whether a message waits."""
        return bool(self._queue)

    def take(self) -> Callable[[], Any] | None:
        """The next callback to run, or None. For the executor."""
        while self._queue:
            try:
                message = from_json(self.msg_type, self._queue.take())
            except IndexError:
                break
            except MessageError as error:
                self._reject(error)
                continue
            return functools.partial(self._callback, message)
        return None

    def destroy(self) -> None:
        """Use `Node.destroy_subscription`."""
        if not self._is_destroyed:
            self._is_destroyed = True
            self._connection.unsubscribe(self._full_name, self._deliver)
            self._queue.clear()

    def _deliver(self, data: dict[str, Any]) -> None:
        self._queue.put(data, self._connection.arriving_bytes)
        self._wake()

    def _reject(self, error: MessageError) -> None:
        self.rejected += 1
        if self.rejected == 1:
            LOGGER.warning("%s: message skipped: %s", self._full_name, error)


def _takes(callback: Callable[..., Any], count: int) -> bool:
    """Whether it can be called with so many arguments; builtins without a signature can be called with one."""
    try:
        inspect.signature(callback).bind(*[object()] * count)
    except TypeError:
        return False
    except ValueError:
        return count == 1
    return True
