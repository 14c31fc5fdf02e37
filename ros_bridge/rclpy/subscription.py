"""`Subscription`, as in `rclpy.subscription`: a queue of at most `depth` messages, newest kept."""

from __future__ import annotations

import inspect
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from ros_bridge.codec import from_json
from ros_bridge.connection import Connection
from ros_bridge.messages import MessageError
from ros_bridge.rclpy.qos import QoSProfile

LOGGER = logging.getLogger("ros_bridge")


class Subscription:
    """Made by `Node.create_subscription`.

    `dropped` counts what the callback was too slow for, `rejected` what did not fit the message class;
    neither is part of rclpy's interface.
    """

    def __init__(
        self,
        connection: Connection,
        msg_type: Any,
        topic: str,
        callback: Callable[[Any], None],
        qos_profile: QoSProfile,
        wake: Callable[[], None],
    ) -> None:
        if inspect.iscoroutinefunction(callback):
            raise NotImplementedError("coroutine callbacks are not here yet; use a plain function")
        if _positional(callback) > 1:
            raise NotImplementedError("callback(msg, info): rosbridge carries no message info; take one argument")
        self.msg_type = msg_type
        self.topic_name = topic
        self.callback = callback
        self.qos_profile = qos_profile
        self.dropped = self.rejected = 0
        self._connection = connection
        self._wake = wake
        self._queue: deque[Any] = deque(maxlen=qos_profile.bound)
        self._is_destroyed = False
        connection.subscribe(topic, msg_type.ROS_TYPE, self._deliver, depth=qos_profile.bound)

    def is_ready(self) -> bool:
        """Whether a message waits."""
        return bool(self._queue)

    def take(self) -> Callable[[], Any] | None:
        """The next callback to run, or None. For the executor."""
        try:
            data = self._queue.popleft()
        except IndexError:
            return None
        return lambda: self._run(data)

    def destroy(self) -> None:
        """Use `Node.destroy_subscription`."""
        if not self._is_destroyed:
            self._is_destroyed = True
            self._connection.unsubscribe(self.topic_name, self._deliver)
            self._queue.clear()

    def _deliver(self, data: dict[str, Any]) -> None:
        if len(self._queue) == self._queue.maxlen:
            self.dropped += 1
        self._queue.append(data)
        self._wake()

    def _run(self, data: Any) -> None:
        try:
            message = from_json(self.msg_type, data)
        except MessageError as error:
            self.rejected += 1
            if self.rejected == 1:
                LOGGER.warning("%s: message skipped: %s", self.topic_name, error)
            return
        self.callback(message)


def _positional(callback: Callable[..., Any]) -> int:
    """How many arguments must be given; 1 where the signature is not known (builtins)."""
    try:
        parameters = inspect.signature(callback).parameters.values()
    except (TypeError, ValueError):
        return 1
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds and p.default is inspect.Parameter.empty for p in parameters)
