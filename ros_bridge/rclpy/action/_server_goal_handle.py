"""`ServerGoalHandle`, as in `rclpy.action.server`: one accepted goal."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ros_bridge.rclpy.action._goal_states import TERMINAL, GoalEvent, GoalStatus, next_status


class ServerGoalHandle:
    """Made by `ActionServer`. Its `goal_id` is this side's own: rosbridge does not tell the client's."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, action_server: Any, goal_info: Any, goal_request: Any) -> None:
        self._action_server = action_server
        self._goal_info = goal_info
        self._goal_request = goal_request
        self._status: int = GoalStatus.STATUS_ACCEPTED
        self._is_destroyed = False
        self._lock = threading.Lock()

    def __eq__(self, other: Any) -> bool:
        return bool(self.goal_id == other.goal_id)

    def __ne__(self, other: Any) -> bool:
        return bool(self.goal_id != other.goal_id)

    @property
    def request(self) -> Any:
        """The goal message."""
        return self._goal_request

    @property
    def goal_id(self) -> Any:
        """`unique_identifier_msgs/msg/UUID`."""
        return self._goal_info.goal_id

    @property
    def is_active(self) -> bool:
        """Whether it has not ended."""
        return not self._is_destroyed and self._status not in TERMINAL

    @property
    def is_cancel_requested(self) -> bool:
        """Whether the execution should end with `canceled()`: somebody asked for it, or the link was lost."""
        return bool(self.status == GoalStatus.STATUS_CANCELING)

    @property
    def status(self) -> int:
        """One of `GoalStatus.STATUS_...`."""
        return GoalStatus.STATUS_UNKNOWN if self._is_destroyed else self._status

    def execute(self, execute_callback: Callable[[ServerGoalHandle], Any] | None = None) -> None:
        """Let the executor run `execute_callback`, or the server's."""
        # A goal that is to be cancelled is executed all the same: the callback ends it.
        if not self.is_cancel_requested:
            self._update_state(GoalEvent.EXECUTE)
        self._action_server.notify_execute(self, execute_callback)

    def publish_feedback(self, feedback: Any) -> None:
        """Send a feedback message to the client."""
        if not isinstance(feedback, self._action_server.action_type.Feedback):
            raise TypeError()
        if self.is_active:
            self._action_server.send_feedback(self, feedback)

    def succeed(self) -> None:
        """The goal was reached."""
        self._update_state(GoalEvent.SUCCEED)

    def abort(self) -> None:
        """The goal was given up."""
        self._update_state(GoalEvent.ABORT)

    def canceled(self) -> None:
        """The goal was given up as asked."""
        self._update_state(GoalEvent.CANCELED)

    def destroy(self) -> None:
        """Forget it: its status is unknown from now on."""
        self._is_destroyed = True

    def _update_state(self, event: GoalEvent) -> None:
        with self._lock:
            if not self._is_destroyed:
                self._status = next_status(self._status, event)
