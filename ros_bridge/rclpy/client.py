"""`Client`, as in `rclpy.client`."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ros_bridge.codec import from_json, to_json
from ros_bridge.connection import Connection
from ros_bridge.rclpy.exceptions import InvalidHandle
from ros_bridge.rclpy.qos import QoSProfile
from ros_bridge.rclpy.task import Future

#: A field that no request has: the server names it in its refusal, if it knows the service.
_PROBE = "mcsd_no_such_field"
#: How long an answer to a probe may take.
PROBE_S = 1.0


class Client:
    """Made by `Node.create_client`. A request that cannot be sent, or whose link is lost, fails: it is never kept."""

    #: The node's logger.
    logger_name: str

    def __init__(
        self,
        connection: Connection,
        node: Any,
        srv_type: Any,
        srv_name: str,
        qos_profile: QoSProfile,
        callback_group: Any,
        full_name: str,
    ) -> None:
        self.srv_type = srv_type
        self.srv_name = srv_name
        self.qos_profile = qos_profile
        self.callback_group = callback_group
        self._full_name = full_name
        self._connection = connection
        self._node = node
        self._responses: deque[tuple[Future, bool, Any]] = deque()
        self._pending: list[Future] = []
        self._is_destroyed = False

    @property
    def context(self) -> Any:
        """The node's context."""
        return self._node.context

    @property
    def service_name(self) -> str:
        """Full name, expanded and remapped."""
        return self._full_name

    def call_async(self, request: Any) -> Future:
        """A future of the response; it carries `RuntimeError` when the server reports failure or the link is lost."""
        if not isinstance(request, self.srv_type.Request):
            raise TypeError(f"Expected {self.srv_type.Request}, got {type(request)}")
        if self._is_destroyed:
            raise InvalidHandle(f"client of {self._full_name} was destroyed")
        future = Future()
        self._pending.append(future)
        future.on_finish(lambda: self.remove_pending_request(future))

        def done(ok: bool, values: Any) -> None:
            self._responses.append((future, ok, values))
            self._node.wake()

        if not self._connection.call(self._full_name, self.srv_type.ROS_TYPE, to_json(request), done):
            future.set_exception(RuntimeError(f"{self._full_name}: not connected to {self._connection.url}"))
        return future

    def call(self, request: Any, timeout_sec: float | None = None) -> Any:
        """The response, or None after `timeout_sec`. Another thread must spin the node."""
        executor = self._node.executor
        if executor is not None and executor.would_wait_for_itself(self):
            raise RuntimeError(f"{self._full_name}: call() inside a callback would wait for itself; use call_async()")
        answered = threading.Event()
        future = self.call_async(request)
        future.on_finish(answered.set)
        if not answered.wait(timeout_sec):
            self.remove_pending_request(future)
            return None
        return future.result()

    def remove_pending_request(self, future: Future) -> None:
        """Forget a request: what is answered later goes nowhere."""
        if future in self._pending:
            self._pending.remove(future)

    def service_is_ready(self) -> bool:
        """Whether the server knows the service.

        It is asked by a call that no server can pass on: with another type and a field that no request has.
        What it finds wrong first tells whether the service is there. Not from the network thread.
        """
        decoy = "std_srvs/srv/Trigger" if self.srv_type.ROS_TYPE == "std_srvs/srv/Empty" else "std_srvs/srv/Empty"
        answered = threading.Event()
        answers: list[str] = []

        def done(ok: bool, values: Any) -> None:
            answers.append(str(values))
            answered.set()

        if not self._connection.call(self._full_name, decoy, {_PROBE: 0}, done) or not answered.wait(PROBE_S):
            return False
        # rosbridge-server-rs checks the type first, rosbridge_suite takes the service's own and checks the fields.
        return "has another type" in answers[0] or "does not have a field" in answers[0]

    def wait_for_service(self, timeout_sec: float | None = None) -> bool:
        """Whether the service is there before the timeout (None: wait for ever)."""
        deadline = None if timeout_sec is None else time.monotonic() + timeout_sec
        while self.context.ok():
            if self.service_is_ready():
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(0.05 if deadline is None else min(0.05, max(0.0, deadline - time.monotonic())))
        return False

    def configure_introspection(
        self, clock: Any, service_event_qos_profile: QoSProfile, introspection_state: Any
    ) -> None:
        """Not here."""
        raise NotImplementedError("configure_introspection: service events are made by rcl, which is the server's")

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
        if future not in self._pending:
            return
        future._set_executor(self._node.executor)
        if not ok:
            future.set_exception(RuntimeError(f"{self._full_name}: {values or 'the service reported failure'}"))
            return
        try:
            future.set_result(from_json(self.srv_type.Response, values or {}))
        except ValueError as error:
            future.set_exception(RuntimeError(f"{self._full_name}: {error}"))
