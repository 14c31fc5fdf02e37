"""`ActionClient`, as in `rclpy.action.client`."""

from __future__ import annotations

import functools
import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from ros_bridge.actions import LOST
from ros_bridge.codec import to_json
from ros_bridge.messages import load
from ros_bridge.rclpy.action._client_goal import CancelGoal, ClientGoal
from ros_bridge.rclpy.action._client_goal_handle import ClientGoalHandle
from ros_bridge.rclpy.action._client_news import ClientNews, GoalStatusArray
from ros_bridge.rclpy.action._events import Events
from ros_bridge.rclpy.action._goal_states import resolve_action
from ros_bridge.rclpy.client import Client
from ros_bridge.rclpy.exceptions import InvalidHandle
from ros_bridge.rclpy.qos import QoSProfile, qos_profile_action_status_default, qos_profile_services_default
from ros_bridge.rclpy.task import Future

#: rosbridge does not tell of a cancellation that the server refuses: without a sign of it by then, it was.
CANCEL_ANSWER_S = 1.0
#: Status messages, and errors about goals, that may wait for the executor.
MAX_STATUSES = 10

_UUID = load("unique_identifier_msgs/msg/UUID")


class ActionClient(ClientNews):
    """Sends goals. A goal that cannot be sent now fails; none is ever sent again.

    That a server has accepted a goal is learnt from its first feedback, its result or the action's status topic.
    """

    #: The node's logger.
    logger_name: str

    def __init__(
        self,
        node: Any,
        action_type: Any,
        action_name: str,
        *,
        callback_group: Any = None,
        goal_service_qos_profile: QoSProfile = qos_profile_services_default,
        result_service_qos_profile: QoSProfile = qos_profile_services_default,
        cancel_service_qos_profile: QoSProfile = qos_profile_services_default,
        feedback_sub_qos_profile: QoSProfile = QoSProfile(depth=10),  # noqa: B008
        status_sub_qos_profile: QoSProfile = qos_profile_action_status_default,
    ) -> None:
        self.callback_group = node.default_callback_group if callback_group is None else callback_group
        self._action_name = action_name
        super().__init__(node, action_type, resolve_action(node, action_type, action_name, "client"))
        self._connection = node.context.connection
        self._depth = feedback_sub_qos_profile.bound
        self._events = Events(self._connection.budget)
        self._is_destroyed = False
        # Only asked whether it is there: every action has it, and its type is one that rosbridge can name.
        cancel_service = f"{self._full_name}/_action/cancel_goal"
        arguments = (cancel_service, cancel_service_qos_profile, self.callback_group, cancel_service)
        self._probe = Client(self._connection, node, CancelGoal, *arguments)
        node.add_entity(self)
        # Servers latch it; only who asks for that in time hears what was said before.
        self._connection.subscribe(
            f"{self._full_name}/_action/status",
            GoalStatusArray.ROS_TYPE,
            self._deliver_status,
            depth=MAX_STATUSES,
            qos={"reliability": "reliable", "durability": "transient_local", "depth": MAX_STATUSES},
        )

    # -- sending -----------------------------------------------------------------------------------

    def send_goal(self, goal: Any, **kwargs: Any) -> Any:
        """The result of the goal, once it has one. Another thread must spin the node."""
        if not isinstance(goal, self._action_type.Goal):
            raise TypeError()
        goal_handle = self._wait_for("send_goal", lambda: self.send_goal_async(goal, **kwargs))
        return self._get_result(goal_handle)

    def send_goal_async(
        self, goal: Any, feedback_callback: Callable[[Any], Any] | None = None, goal_uuid: Any = None
    ) -> Future:
        """A future of the `ClientGoalHandle`, which says whether the server took the goal.

        It carries `RuntimeError` when the goal could not be sent, or the link was lost before an answer.
        """
        if not isinstance(goal, self._action_type.Goal):
            raise TypeError()
        if self._is_destroyed:
            raise InvalidHandle(f"action client of {self._full_name} was destroyed")
        if goal_uuid is not None:
            raise NotImplementedError("goal_uuid: the rosbridge server makes the ids of goals")
        arguments, operation_id = to_json(goal), self._connection.new_goal_id(self._full_name)
        sent = ClientGoal(self._action_type, _UUID(uuid=list(uuid.uuid4().bytes)), operation_id, feedback_callback)
        self._open.append(sent)
        is_sent = False
        try:
            is_sent = self._connection.send_goal(
                self._full_name,
                self._action_type.ROS_TYPE,
                operation_id,
                arguments,
                lambda frame: self._deliver(sent, frame),
            )
        finally:
            if not is_sent:
                self._close(sent)
        if not is_sent:
            sent.sent.set_exception(self._not_sent())
        return sent.sent

    def _get_result(self, goal_handle: ClientGoalHandle) -> Any:
        return self._wait_for("get_result", lambda: self._get_result_async(goal_handle))

    def _get_result_async(self, goal_handle: ClientGoalHandle) -> Future:
        _check(goal_handle)
        goal, future = goal_handle._goal, Future()
        self._later(self._answer_result, goal, future)
        return future

    def _cancel_goal(self, goal_handle: ClientGoalHandle) -> Any:
        return self._wait_for("cancel_goal", lambda: self._cancel_goal_async(goal_handle))

    def _cancel_goal_async(self, goal_handle: ClientGoalHandle) -> Future:
        _check(goal_handle)
        goal, future = goal_handle._goal, Future()
        self._later(self._ask_to_cancel, goal, future)
        return future

    def _wait_for(self, name: str, ask: Callable[[], Future]) -> Any:
        executor = self._node.executor
        if executor is not None and executor.would_wait_for_itself(self):
            text = f"{name}() inside a callback would wait for itself; use {name}_async()"
            raise RuntimeError(f"{self._full_name}: {text}")
        answered = threading.Event()
        future = ask()
        future.on_finish(answered.set)
        answered.wait()
        return future.result()

    # -- the server --------------------------------------------------------------------------------

    def server_is_ready(self) -> bool:
        """Whether the rosbridge server knows an action server of that name; see `Client.service_is_ready`."""
        return self._probe.service_is_ready()

    def wait_for_server(self, timeout_sec: float | None = None) -> bool:
        """Whether it does before the timeout (None: wait for ever)."""
        return self._probe.wait_for_service(timeout_sec)

    def destroy(self) -> None:
        """Forget all goals; they go on without this client."""
        if self._is_destroyed:
            return
        self._is_destroyed = True
        self._connection.unsubscribe(f"{self._full_name}/_action/status", self._deliver_status)
        for goal in self._open:
            self._connection.forget_goal(goal.operation_id)
        self._open.clear()
        self._events.clear()
        self._node.remove_entity(self)

    # -- for the executor --------------------------------------------------------------------------

    def is_ready(self) -> bool:
        """Whether there is news of a goal."""
        return bool(self._events)

    def take(self) -> Callable[[], Any] | None:
        """The next callback to run, or None."""
        event = self._events.take()
        if event is None:
            return None
        function, arguments = event
        if function == self._hear_feedback:
            return functools.partial(function, *arguments)

        def handle() -> None:
            with self._lock:
                function(*arguments)

        return handle

    def _answer_result(self, goal: ClientGoal, future: Future) -> None:
        future._set_executor(self._node.executor)
        if goal.result is None:
            goal.results.append(future)
        else:
            future.set_result(goal.result)

    def _ask_to_cancel(self, goal: ClientGoal, future: Future) -> None:
        future._set_executor(self._node.executor)
        goal.cancels.append(future)
        if goal.result is not None:
            goal.answer_cancel(goal.cancel_error)
        elif not self._connection.cancel_goal(self._full_name, goal.operation_id):
            goal.cancels.remove(future)
            future.set_exception(self._not_sent())
        else:
            self._connection.call_later(CANCEL_ANSWER_S, lambda: self._later(self._stop_waiting, goal, future))

    def _stop_waiting(self, goal: ClientGoal, future: Future) -> None:
        if future in goal.cancels:
            goal.cancels.remove(future)
            future.set_result(CancelGoal.Response())  # as rclpy's servers refuse it: no error, and no goals

    # -- the connection's side (network thread) ------------------------------------------------------

    def _deliver(self, goal: ClientGoal, frame: Mapping[str, Any]) -> None:
        operation, size = frame["op"], self._connection.arriving_bytes
        if operation == "action_feedback":
            self._later(self._hear_feedback, goal, frame.get("values"), size=size, newest=self._depth)
        elif operation == LOST:
            self._later(self._hear_loss, goal, frame["reason"])
        elif operation != "action_result":
            self._later(self._hear_status_error, goal, newest=MAX_STATUSES)
        elif not self._later(self._hear_result, goal, frame, size=size):
            self._later(self._hear_loss, goal, "no room for the result")

    def _deliver_status(self, data: Any) -> None:
        self._later(self._hear_statuses, data, size=self._connection.arriving_bytes, newest=MAX_STATUSES)

    def _later(self, function: Callable[..., Any], *arguments: Any, size: int = 0, newest: int | None = None) -> bool:
        """See `Events.put`."""
        has_room = self._events.put(function, *arguments, size=size, newest=newest)
        self._node.wake()
        return has_room

    def _not_sent(self) -> RuntimeError:
        return RuntimeError(f"{self._full_name}: not connected to {self._connection.url}, or too many goals are open")


def _check(goal_handle: Any) -> None:
    if not isinstance(goal_handle, ClientGoalHandle):
        raise TypeError(f"Expected type ClientGoalHandle but received {type(goal_handle)}")
