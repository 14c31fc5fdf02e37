"""`Service`, as in `rclpy.service`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ros_bridge.backlog import Backlog
from ros_bridge.codec import from_json, to_json
from ros_bridge.connection import Connection
from ros_bridge.messages import MessageError
from ros_bridge.rclpy.executors import await_or_execute
from ros_bridge.rclpy.qos import QoSProfile

LOGGER = logging.getLogger("ros_bridge")

#: Requests that may wait for the executor; further ones are answered with a failure at once.
MAX_WAITING = 16


class Service:
    """Made by `Node.create_service`."""

    #: The node's logger.
    logger_name: str

    def __init__(
        self,
        connection: Connection,
        srv_type: Any,
        srv_name: str,
        callback: Callable[[Any, Any], Any],
        callback_group: Any,
        qos_profile: QoSProfile,
        full_name: str,
        wake: Callable[[], None],
    ) -> None:
        self.srv_type = srv_type
        self.srv_name = srv_name
        self.callback = callback
        self.callback_group = callback_group
        self.qos_profile = qos_profile
        self._full_name = full_name
        self._connection = connection
        self._wake = wake
        self._queue = Backlog(connection.budget, MAX_WAITING)
        self._is_destroyed = False
        connection.advertise_service(full_name, srv_type.ROS_TYPE, self._deliver)

    @property
    def service_name(self) -> str:
        """Full name, expanded and remapped."""
        return self._full_name

    def send_response(self, response: Any, header: Any) -> None:
        """Answer the request whose id is `header`."""
        if not isinstance(response, self.srv_type.Response):
            raise TypeError(f"service {self._full_name}: the callback must return the response, not {type(response)}")
        self._connection.respond(self._full_name, header, to_json(response))

    def configure_introspection(
        self, clock: Any, service_event_qos_profile: QoSProfile, introspection_state: Any
    ) -> None:
        """Not here."""
        raise NotImplementedError("configure_introspection: service events are made by rcl, which is the server's")

    def is_ready(self) -> bool:
        """Whether a request waits."""
        return bool(self._queue)

    def take(self) -> Callable[[], Any] | None:
        """The next callback to run, or None. For the executor."""
        try:
            request = self._queue.take()
        except IndexError:
            return None

        async def answer() -> None:
            await self._answer(request)

        return answer

    def destroy(self) -> None:
        """Use `Node.destroy_service`."""
        if not self._is_destroyed:
            self._is_destroyed = True
            self._connection.unadvertise_service(self._full_name)
            self._queue.clear()

    def _deliver(self, request: dict[str, Any]) -> None:
        if len(self._queue) >= MAX_WAITING or not self._queue.put(request, self._connection.arriving_bytes):
            self._connection.respond(self._full_name, request["id"], {}, ok=False)
            return
        self._wake()

    async def _answer(self, request: dict[str, Any]) -> None:
        try:
            message = from_json(self.srv_type.Request, request["args"])
        except MessageError as error:
            LOGGER.warning("%s: request refused: %s", self._full_name, error)
            self._connection.respond(self._full_name, request["id"], {}, ok=False)
            return
        response = await await_or_execute(self.callback, message, self.srv_type.Response())
        self.send_response(response, request["id"])
