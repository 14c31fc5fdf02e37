"""`Client`, as in `rclpy.client`."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from ros_bridge.codec import from_json, to_json
from ros_bridge.connection import Connection
from ros_bridge.rclpy.task import Future


class Client:
    """Made by `Node.create_client`. A request that cannot be sent, or whose link is lost, fails: it is never kept."""

    def __init__(self, connection: Connection, srv_type: Any, srv_name: str, node: Any) -> None:
        self.srv_type = srv_type
        self.srv_name = srv_name
        self._connection = connection
        self._node = node
        self._responses: deque[tuple[Future, bool, Any]] = deque()
        self._is_destroyed = False

    @property
    def service_name(self) -> str:
        """Full name."""
        return self.srv_name

    def call_async(self, request: Any) -> Future:
        """A future of the response; it carries `RuntimeError` when the server reports failure or the link is lost."""
        if not isinstance(request, self.srv_type.Request):
            raise TypeError(f"Expected {self.srv_type.Request}, got {type(request)}")
        if self._is_destroyed:
            raise RuntimeError(f"client of {self.srv_name} was destroyed")
        future = Future(executor=self._node.executor)

        def done(ok: bool, values: Any) -> None:
            self._responses.append((future, ok, values))
            self._node.wake()

        if not self._connection.call(self.srv_name, self.srv_type.ROS_TYPE, to_json(request), done):
            future.set_exception(RuntimeError(f"{self.srv_name}: not connected to {self._connection.url}"))
        return future

    def call(self, request: Any, timeout_sec: float | None = None) -> Any:
        """The response, or None after `timeout_sec`. Another thread must spin the node."""
        if self._node.executor is not None and self._node.executor.is_spinning_here:
            raise RuntimeError(f"{self.srv_name}: call() inside a callback would wait for itself; use call_async()")
        answered = threading.Event()
        future = self.call_async(request)
        # On whichever thread finishes it: the executor might be this one's.
        future.add_done_callback(lambda _: answered.set())
        return future.result() if answered.wait(timeout_sec) else None

    def service_is_ready(self) -> bool:
        """Not known here."""
        raise NotImplementedError("service_is_ready: rosbridge cannot list services (rosapi is optional); call and see")

    def wait_for_service(self, timeout_sec: float | None = None) -> bool:
        """Not known here."""
        raise NotImplementedError("wait_for_service: rosbridge cannot list services (rosapi is optional); call and see")

    def is_ready(self) -> bool:
        """Whether a response waits."""
        return bool(self._responses)

    def take(self) -> Callable[[], Any] | None:
        """The next response to hand over, or None. For the executor."""
        try:
            future, ok, values = self._responses.popleft()
        except IndexError:
            return None
        return lambda: self._finish(future, ok, values)

    def destroy(self) -> None:
        """Use `Node.destroy_client`."""
        self._is_destroyed = True
        self._responses.clear()

    def _finish(self, future: Future, ok: bool, values: Any) -> None:
        if not ok:
            future.set_exception(RuntimeError(f"{self.srv_name}: {values or 'the service reported failure'}"))
            return
        try:
            future.set_result(from_json(self.srv_type.Response, values or {}))
        except ValueError as error:
            future.set_exception(RuntimeError(f"{self.srv_name}: {error}"))
