"""`Service`, as in `rclpy.service`."""

from __future__ import annotations

import inspect
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from ros_bridge.codec import from_json, to_json
from ros_bridge.connection import Connection
from ros_bridge.messages import MessageError

LOGGER = logging.getLogger("ros_bridge")

#: Requests that may wait for the executor; further ones are answered with a failure at once.
MAX_WAITING = 16


class Service:
    """Made by `Node.create_service`."""

    def __init__(
        self,
        connection: Connection,
        srv_type: Any,
        srv_name: str,
        callback: Callable[[Any, Any], Any],
        wake: Callable[[], None],
    ) -> None:
        if inspect.iscoroutinefunction(callback):
            raise NotImplementedError("coroutine callbacks are not here yet; use a plain function")
        self.srv_type = srv_type
        self.srv_name = srv_name
        self.callback = callback
        self._connection = connection
        self._wake = wake
        self._queue: deque[dict[str, Any]] = deque()
        self._is_destroyed = False
        connection.advertise_service(srv_name, srv_type.ROS_TYPE, self._deliver)

    @property
    def service_name(self) -> str:
        """Full name."""
        return self.srv_name

    def is_ready(self) -> bool:
        """Whether a request waits."""
        return bool(self._queue)

    def take(self) -> Callable[[], Any] | None:
        """The next callback to run, or None. For the executor."""
        try:
            request = self._queue.popleft()
        except IndexError:
            return None
        return lambda: self._run(request)

    def destroy(self) -> None:
        """Use `Node.destroy_service`."""
        if not self._is_destroyed:
            self._is_destroyed = True
            self._connection.unadvertise_service(self.srv_name)
            self._queue.clear()

    def _deliver(self, request: dict[str, Any]) -> None:
        if len(self._queue) >= MAX_WAITING:
            self._connection.respond(self.srv_name, request["id"], {}, ok=False)
            return
        self._queue.append(request)
        self._wake()

    def _run(self, request: dict[str, Any]) -> None:
        try:
            message = from_json(self.srv_type.Request, request["args"])
        except MessageError as error:
            LOGGER.warning("%s: request refused: %s", self.srv_name, error)
            self._connection.respond(self.srv_name, request["id"], {}, ok=False)
            return
        response = self.callback(message, self.srv_type.Response())
        if not isinstance(response, self.srv_type.Response):
            raise TypeError(f"service {self.srv_name}: the callback must return the response, not {type(response)}")
        self._connection.respond(self.srv_name, request["id"], to_json(response))
