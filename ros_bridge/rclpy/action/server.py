"""`ActionServer`, as in `rclpy.action.server`."""

from __future__ import annotations

import functools
import threading
import traceback
import uuid
from collections.abc import Callable
from enum import Enum
from typing import Any

from ros_bridge.codec import from_json, to_json
from ros_bridge.messages import MessageError, load
from ros_bridge.rclpy.action._events import Events
from ros_bridge.rclpy.action._goal_states import GoalEvent, GoalStatus, resolve_action
from ros_bridge.rclpy.action._server_goal_handle import ServerGoalHandle
from ros_bridge.rclpy.exceptions import RCLError
from ros_bridge.rclpy.executors import await_or_execute
from ros_bridge.rclpy.qos import QoSProfile, qos_profile_action_status_default, qos_profile_services_default

#: Goals that may wait for the executor; further ones are aborted at once.
MAX_WAITING = 16
#: A result that a silent server cannot be given now is tried again after so long.
RETRY_S = 0.1
RESULT_TIMEOUT_S = 900

_GoalInfo = load("action_msgs/msg/GoalInfo")
_UUID = load("unique_identifier_msgs/msg/UUID")


class GoalResponse(Enum):
    """What a goal callback returns."""

    REJECT = 1
    ACCEPT = 2


class CancelResponse(Enum):
    """What a cancel callback returns."""

    REJECT = 1
    ACCEPT = 2


def default_handle_accepted_callback(goal_handle: ServerGoalHandle) -> None:
    """Execute the goal."""
    goal_handle.execute()


def default_goal_callback(goal_request: Any) -> GoalResponse:
    """Accept all goals."""
    return GoalResponse.ACCEPT


def default_cancel_callback(cancel_request: Any) -> CancelResponse:
    """No cancellations."""
    return CancelResponse.REJECT


class ActionServer:
    """Offers an action. The rosbridge server has accepted a goal, or its cancellation, before this side hears of it:

    a goal that the goal callback rejects ends aborted, and a cancellation that is rejected is known to this side only.
    When the link is lost, goals that wait are dropped, and those that run are asked to cancel: nobody else could.
    """

    #: The node's logger.
    logger_name: str

    def __init__(
        self,
        node: Any,
        action_type: Any,
        action_name: str,
        execute_callback: Callable[[ServerGoalHandle], Any],
        *,
        callback_group: Any = None,
        goal_callback: Callable[[Any], Any] | None = default_goal_callback,
        handle_accepted_callback: Callable[[ServerGoalHandle], Any] | None = default_handle_accepted_callback,
        cancel_callback: Callable[[Any], Any] | None = default_cancel_callback,
        goal_service_qos_profile: QoSProfile = qos_profile_services_default,
        result_service_qos_profile: QoSProfile = qos_profile_services_default,
        cancel_service_qos_profile: QoSProfile = qos_profile_services_default,
        feedback_pub_qos_profile: QoSProfile = QoSProfile(depth=10),  # noqa: B008
        status_pub_qos_profile: QoSProfile = qos_profile_action_status_default,
        result_timeout: float = RESULT_TIMEOUT_S,
    ) -> None:
        self.callback_group = node.default_callback_group if callback_group is None else callback_group
        self.register_handle_accepted_callback(handle_accepted_callback)
        self.register_goal_callback(goal_callback)
        self.register_cancel_callback(cancel_callback)
        self.register_execute_callback(execute_callback)
        self._node = node
        self._action_type = action_type
        self._full_name = resolve_action(node, action_type, action_name, "server")
        self._logger = node.get_logger().get_child("action_server")
        if result_timeout != RESULT_TIMEOUT_S:
            self._logger.warning(f"{action_name}: result_timeout is ignored: the rosbridge server keeps the results")
        self._connection = node.context.connection
        self._events = Events(self._connection.budget)
        #: For what follows: no result may go to a server that came back, under an id that it gave to another goal.
        self._lock = threading.Lock()
        #: By the rosbridge server's id: goals whose result it waits for.
        self._open: dict[str, ServerGoalHandle] = {}
        self._losses = 0  # of the link, or of the action
        self._is_destroyed = False
        node.add_entity(self)
        self._connection.advertise_action(self._full_name, action_type.ROS_TYPE, self)

    @property
    def action_type(self) -> Any:
        """The action's class."""
        return self._action_type

    # -- callbacks -------------------------------------------------------------------------------

    def register_handle_accepted_callback(self, handle_accepted_callback: Callable[[Any], Any] | None) -> None:
        """What to do with an accepted goal; None: execute it."""
        self._handle_accepted_callback = handle_accepted_callback or default_handle_accepted_callback

    def register_goal_callback(self, goal_callback: Callable[[Any], Any] | None) -> None:
        """What decides about a goal; None: accept it."""
        self._goal_callback = goal_callback or default_goal_callback

    def register_cancel_callback(self, cancel_callback: Callable[[Any], Any] | None) -> None:
        """What decides about a cancellation; None: refuse it."""
        self._cancel_callback = cancel_callback or default_cancel_callback

    def register_execute_callback(self, execute_callback: Callable[[ServerGoalHandle], Any]) -> None:
        """What executes a goal and returns its result."""
        if not callable(execute_callback):
            raise TypeError("Failed to register goal execution callback: not callable")
        self._execute_callback = execute_callback

    # -- for goal handles --------------------------------------------------------------------------

    def notify_execute(self, goal_handle: ServerGoalHandle, execute_callback: Callable[[Any], Any] | None) -> None:
        """Let the executor execute a goal."""
        callback = self._execute_callback if execute_callback is None else execute_callback
        self._node.executor.create_task(self._execute_goal, callback, goal_handle)

    def send_feedback(self, goal_handle: ServerGoalHandle, feedback: Any) -> None:
        """Send it unless the goal is no longer known to the rosbridge server; not part of rclpy's interface."""
        values = to_json(feedback)
        with self._lock:
            operation_id = self._operation_id(goal_handle)
            if operation_id is not None:
                self._connection.send_feedback(self._full_name, operation_id, values)

    def destroy(self) -> None:
        """Withdraw the action; the rosbridge server aborts the goals that are open."""
        if self._is_destroyed:
            return
        self._is_destroyed = True
        self._connection.unadvertise_action(self._full_name)
        self._events.clear()
        with self._lock:
            self._losses += 1
            ended, self._open = self._open, {}
        for goal_handle in ended.values():
            goal_handle.destroy()
        self._node.remove_entity(self)

    # -- for the executor --------------------------------------------------------------------------

    def is_ready(self) -> bool:
        """Whether a goal or a cancellation waits."""
        return bool(self._events)

    def take(self) -> Callable[[], Any] | None:
        """The next callback to run, or None."""
        event = self._events.take()
        if event is None:
            return None
        function, arguments = event
        return functools.partial(function, *arguments)

    async def _receive_goal(self, operation_id: str, goal: Any, losses: int) -> None:
        try:
            request = from_json(self._action_type.Goal, goal)
        except MessageError as error:
            self._logger.warning(f"goal refused: {error}")
            self._refuse(operation_id, losses)
            return
        try:
            response = await await_or_execute(self._goal_callback, request)
        except Exception:
            self._refuse(operation_id, losses)
            raise
        if not isinstance(response, GoalResponse):
            self._logger.warning("Goal request callback did not return a GoalResponse type. Rejecting goal.")
        if response != GoalResponse.ACCEPT:
            self._refuse(operation_id, losses)
            return
        goal_info = _GoalInfo(goal_id=_UUID(uuid=list(uuid.uuid4().bytes)))
        goal_info.stamp = self._node.get_clock().now().to_msg()
        goal_handle = ServerGoalHandle(self, goal_info, request)
        with self._lock:
            if losses != self._losses:
                return
            self._open[operation_id] = goal_handle
        await await_or_execute(self._handle_accepted_callback, goal_handle)

    def _refuse(self, operation_id: str, losses: int) -> None:
        """End a goal that was not accepted here."""
        self._answer(operation_id, losses, to_json(self._action_type.Result()), GoalStatus.STATUS_ABORTED)

    def _answer(self, operation_id: str, losses: int, result: Any, status: int) -> None:
        """Send a result; later, if the server is silent now, but never after a loss of the link."""
        with self._lock:
            if losses != self._losses:
                return
            is_sent = self._connection.send_result(self._full_name, operation_id, result, status)
        if not is_sent:
            retry = functools.partial(self._answer, operation_id, losses, result, status)
            self._connection.call_later(RETRY_S, retry)

    async def _receive_cancel(self, operation_id: str) -> None:
        goal_handle = self._open.get(operation_id)
        if goal_handle is None or not goal_handle.is_active or goal_handle.is_cancel_requested:
            return
        response = await await_or_execute(self._cancel_callback, goal_handle)
        if response == CancelResponse.ACCEPT:
            self._request_cancel(goal_handle)

    def _request_cancel(self, goal_handle: ServerGoalHandle) -> None:
        try:
            goal_handle._update_state(GoalEvent.CANCEL_GOAL)
        except RCLError as error:  # it has just ended
            self._logger.debug(f"Failed to cancel goal in cancel callback: {error}")

    async def _execute_goal(self, execute_callback: Callable[[Any], Any], goal_handle: ServerGoalHandle) -> None:
        goal_uuid = goal_handle.goal_id.uuid
        try:
            result = await await_or_execute(execute_callback, goal_handle)
        except Exception as error:
            result = self._action_type.Result()
            self._logger.error(f"Error raised in execute callback: {error}")
            traceback.print_exc()
        if goal_handle.is_active:
            self._logger.warning(f"Goal state not set, assuming aborted. Goal ID: {goal_uuid}")
            goal_handle.abort()
        status = goal_handle.status
        try:
            response = self._action_type.Impl.GetResultService.Response(status=status, result=result)
            self._finish(goal_handle, to_json(response.result), status)
        except ValueError:  # the result is of another type, not finite or too large
            self._finish(goal_handle, to_json(self._action_type.Result()), GoalStatus.STATUS_ABORTED)
            raise

    def _finish(self, goal_handle: ServerGoalHandle, result: Any, status: int) -> None:
        with self._lock:
            operation_id, losses = self._operation_id(goal_handle), self._losses
        if operation_id is None:  # the link was lost meanwhile
            return
        self._answer(operation_id, losses, result, status)
        with self._lock:
            if self._open.get(operation_id) is goal_handle:
                del self._open[operation_id]

    def _operation_id(self, goal_handle: ServerGoalHandle) -> str | None:
        return next((key for key, known in self._open.items() if known is goal_handle), None)

    # -- the connection's side (network thread) ------------------------------------------------------

    def goal_received(self, operation_id: str, goal: Any) -> None:
        """See `actions.ActionProvider`."""
        arguments, size = (operation_id, goal, self._losses), self._connection.arriving_bytes
        has_room = self._events.count(self._receive_goal) < MAX_WAITING
        if not has_room or not self._events.put(self._receive_goal, *arguments, size=size):
            self._refuse(operation_id, self._losses)
        self._node.wake()

    def cancel_received(self, operation_id: str) -> None:
        """See `actions.ActionProvider`."""
        self._events.put(self._receive_cancel, operation_id, newest=MAX_WAITING)
        self._node.wake()

    def link_lost(self) -> None:
        """See `actions.ActionProvider`."""
        with self._lock:
            self._losses += 1
            self._events.clear()
            lost, self._open = self._open, {}
        for goal_handle in lost.values():
            self._logger.warning("link lost while a goal runs: it is asked to cancel, and nobody gets its result")
            self._request_cancel(goal_handle)
