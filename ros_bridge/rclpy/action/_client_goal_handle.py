"""`ClientGoalHandle`, as in `rclpy.action.client`: a goal that a server has answered."""

from __future__ import annotations

from typing import Any

from ros_bridge.rclpy.task import Future


class ClientGoalHandle:
    """What `ActionClient.send_goal_async` gives. Its `goal_id` is this side's own: rosbridge makes another for ROS."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, action_client: Any, goal_id: Any, goal_response: Any) -> None:
        self._action_client = action_client
        self._goal_id = goal_id
        self._goal_response = goal_response
        self._goal = action_client.find_goal(goal_id)

    def __eq__(self, other: Any) -> bool:
        return bool(self._goal_id == other.goal_id)

    def __ne__(self, other: Any) -> bool:
        return bool(self._goal_id != other.goal_id)

    def __repr__(self) -> str:
        return f"ClientGoalHandle <id={self.goal_id.uuid}, accepted={self.accepted}, status={self.status}>"

    @property
    def goal_id(self) -> Any:
        """`unique_identifier_msgs/msg/UUID`."""
        return self._goal_id

    @property
    def stamp(self) -> Any:
        """When it was accepted."""
        return self._goal_response.stamp

    @property
    def accepted(self) -> bool:
        """Whether the server took it."""
        return bool(self._goal_response.accepted)

    @property
    def status(self) -> int:
        """One of `GoalStatus.STATUS_...`, as last heard; unknown after the link was lost."""
        return int(self._goal.status)

    def cancel_goal(self) -> Any:
        """Ask to cancel and wait for the answer. Another thread must spin the node."""
        return self._action_client._cancel_goal(self)

    def cancel_goal_async(self) -> Future:
        """Ask to cancel; a future of the `CancelGoal.Response`."""
        return self._action_client._cancel_goal_async(self)

    def get_result(self) -> Any:
        """Wait for the result. Another thread must spin the node."""
        return self._action_client._get_result(self)

    def get_result_async(self) -> Future:
        """A future of the result with its `status`; unknown when the link is lost before."""
        return self._action_client._get_result_async(self)
