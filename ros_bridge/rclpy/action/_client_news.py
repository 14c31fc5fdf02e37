"""What an action client does with the news of its goals, on the executor."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from ros_bridge.codec import from_json
from ros_bridge.messages import MessageError, load
from ros_bridge.rclpy.action._client_goal import CancelGoal, ClientGoal
from ros_bridge.rclpy.action._client_goal_handle import ClientGoalHandle
from ros_bridge.rclpy.action._goal_states import TERMINAL, GoalStatus
from ros_bridge.rclpy.executors import await_or_execute
from ros_bridge.rclpy.task import Future

GoalStatusArray = load("action_msgs/msg/GoalStatusArray")
_CANCELLING = (GoalStatus.STATUS_CANCELING, GoalStatus.STATUS_CANCELED)


class ClientNews:
    """`ActionClient` derives from it."""

    def __init__(self, node: Any, action_type: Any, full_name: str) -> None:
        self._node = node
        self._action_type = action_type
        self._full_name = full_name
        self._logger = node.get_logger().get_child("action_client")
        self._lock = threading.RLock()
        #: Goals without a result, in the order of sending.
        self._open: list[ClientGoal] = []
        self._known_ids: set[bytes] = set()

    def find_goal(self, goal_id: Any) -> ClientGoal:
        """What is known of a goal that has not ended; not part of rclpy's interface."""
        return next(goal for goal in self._open if goal.goal_id == goal_id)

    async def _hear_feedback(self, goal: ClientGoal, values: Any) -> None:
        with self._lock:
            self._accept(goal)
        if goal.feedback_callback is None or goal.result is not None:
            return
        try:
            feedback = from_json(self._action_type.Feedback, values)
        except MessageError as error:
            self._logger.warning(f"feedback skipped: {error}")
            return
        message = self._action_type.Impl.FeedbackMessage(goal_id=goal.goal_id, feedback=feedback)
        await await_or_execute(goal.feedback_callback, message)

    def _hear_result(self, goal: ClientGoal, frame: Mapping[str, Any]) -> None:
        values, said = frame.get("values"), frame.get("status")
        status: int = said if isinstance(said, int) and said in TERMINAL else GoalStatus.STATUS_UNKNOWN
        # Without a goal there is no result message: rosbridge says in words why, or nothing.
        is_refused = frame.get("result") is False and not (isinstance(values, Mapping) and values)
        if is_refused and not goal.is_accepted:
            self._refuse(goal, str(values)[:300] if values else "no action server answers")
        elif is_refused:
            goal.finish(GoalStatus.STATUS_ABORTED, self._action_type.Result())
        else:
            self._accept(goal)
            try:
                result = from_json(self._action_type.Result, values or {})
            except MessageError as error:
                self._logger.warning(f"result skipped: {error}")
                result = self._action_type.Result()
            goal.finish(status, result)
        self._close(goal)

    def _refuse(self, goal: ClientGoal, reason: str) -> None:
        if "rejected" in reason:
            self._hand_over(goal, is_accepted=False)
            goal.finish_empty()
        else:
            self._finish(goal.sent, RuntimeError(f"{self._full_name}: {reason}"))

    def _hear_status_error(self, goal: ClientGoal) -> None:
        goal.answer_cancel(CancelGoal.Response.ERROR_REJECTED)

    def _hear_loss(self, goal: ClientGoal, reason: str) -> None:
        if not goal.is_accepted:
            self._finish(goal.sent, RuntimeError(f"{self._full_name}: connection lost: {reason}"))
        goal.finish_empty()
        self._close(goal)

    def _hear_statuses(self, data: Any) -> None:
        try:
            statuses = {bytes(s.goal_info.goal_id.uuid): s for s in from_json(GoalStatusArray, data).status_list}
        except MessageError as error:
            self._logger.warning(f"status skipped: {error}")
            return
        # rosbridge does not say which id it gave to a goal: the newest of those that appear are ours. One that is over
        # when it appears may be an old one; was it ours, its result says so.
        unnamed = [goal for goal in self._open if not goal.server_id]
        running = {key for key, status in statuses.items() if status.status not in TERMINAL}
        new = sorted(running - self._known_ids, key=lambda key: _age(statuses[key].goal_info.stamp))
        self._known_ids = set(statuses)
        for goal, server_id in zip(reversed(unnamed), reversed(new), strict=False):
            goal.server_id = server_id
        for goal in list(self._open):
            status = statuses.get(goal.server_id)
            if status is not None:
                goal.stamp = status.goal_info.stamp
                self._accept(goal)
                goal.status = status.status
                if goal.status in _CANCELLING:
                    goal.answer_cancel(CancelGoal.Response.ERROR_NONE, is_cancelling=True)

    def _accept(self, goal: ClientGoal) -> None:
        if goal.is_accepted:
            return
        goal.is_accepted = True
        goal.status = GoalStatus.STATUS_ACCEPTED
        if goal.stamp.sec == 0:
            goal.stamp = self._node.get_clock().now().to_msg()
        self._hand_over(goal, is_accepted=True)

    def _hand_over(self, goal: ClientGoal, *, is_accepted: bool) -> None:
        response = self._action_type.Impl.SendGoalService.Response(accepted=is_accepted, stamp=goal.stamp)
        self._finish(goal.sent, ClientGoalHandle(self, goal.goal_id, response))

    def _finish(self, future: Future, outcome: Any) -> None:
        future._set_executor(self._node.executor)
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    def _close(self, goal: ClientGoal) -> None:
        if goal in self._open:
            self._open.remove(goal)


def _age(stamp: Any) -> int:
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
