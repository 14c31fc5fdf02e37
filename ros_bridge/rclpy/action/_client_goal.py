"""One goal that was sent: what is known of it, and who waits for what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ros_bridge.messages import load
from ros_bridge.rclpy.action._goal_states import TERMINAL, GoalStatus
from ros_bridge.rclpy.task import Future

CancelGoal = load("action_msgs/srv/CancelGoal")
GoalInfo = load("action_msgs/msg/GoalInfo")


class ClientGoal:
    """`ActionClient` changes it, one thread at a time.

    `server_id` is the goal's id where others see it, as far as the action's status topic has told it.
    """

    def __init__(
        self, action_type: Any, goal_id: Any, operation_id: str, feedback_callback: Callable[[Any], Any] | None
    ) -> None:
        self.goal_id = goal_id
        self.operation_id = operation_id
        self.feedback_callback = feedback_callback
        self.server_id = b""
        self.stamp = load("builtin_interfaces/msg/Time")()
        self.status: int = GoalStatus.STATUS_UNKNOWN
        self.is_accepted = False
        self.sent = Future()
        self.result: Any = None
        self.results: list[Future] = []
        self.cancels: list[Future] = []
        self._action_type = action_type

    def finish(self, status: int, result: Any) -> None:
        """The result is here; whoever waits for a cancellation learns whether it came of that."""
        self.status = status
        self.result = self._action_type.Impl.GetResultService.Response(status=status, result=result)
        waiting, self.results = self.results, []
        for future in waiting:
            future.set_result(self.result)
        if status == GoalStatus.STATUS_CANCELED:
            self.answer_cancel(CancelGoal.Response.ERROR_NONE, is_cancelling=True)
        else:
            self.answer_cancel(self.cancel_error)

    def finish_empty(self) -> None:
        """There is no goal any more: as the answer about a goal that nobody knows."""
        self.finish(GoalStatus.STATUS_UNKNOWN, self._action_type.Result())

    def answer_cancel(self, return_code: int, *, is_cancelling: bool = False) -> None:
        """Answer those who asked to cancel."""
        goals = [GoalInfo(goal_id=self.goal_id, stamp=self.stamp)] if is_cancelling else []
        waiting, self.cancels = self.cancels, []
        for future in waiting:
            future.set_result(CancelGoal.Response(return_code=return_code, goals_canceling=goals))

    @property
    def cancel_error(self) -> int:
        """Why a goal that is over cannot be cancelled."""
        is_known = self.status in TERMINAL
        return int(CancelGoal.Response.ERROR_GOAL_TERMINATED if is_known else CancelGoal.Response.ERROR_UNKNOWN_GOAL_ID)
