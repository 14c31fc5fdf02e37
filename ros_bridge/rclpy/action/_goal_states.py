"""rcl's state machine of a goal, and what client and server have in common."""

from __future__ import annotations

from enum import Enum
from typing import Any

from ros_bridge.messages import load
from ros_bridge.names import full_topic_name_error
from ros_bridge.rclpy.exceptions import RCLError

GoalStatus = load("action_msgs/msg/GoalStatus")

#: States in which a goal is over.
TERMINAL = frozenset({GoalStatus.STATUS_SUCCEEDED, GoalStatus.STATUS_CANCELED, GoalStatus.STATUS_ABORTED})


class GoalEvent(Enum):
    """What can happen to a goal."""

    EXECUTE = 0
    CANCEL_GOAL = 1
    SUCCEED = 2
    ABORT = 3
    CANCELED = 4


_NEXT = {
    (GoalStatus.STATUS_ACCEPTED, GoalEvent.EXECUTE): GoalStatus.STATUS_EXECUTING,
    (GoalStatus.STATUS_ACCEPTED, GoalEvent.CANCEL_GOAL): GoalStatus.STATUS_CANCELING,
    (GoalStatus.STATUS_EXECUTING, GoalEvent.CANCEL_GOAL): GoalStatus.STATUS_CANCELING,
    (GoalStatus.STATUS_EXECUTING, GoalEvent.SUCCEED): GoalStatus.STATUS_SUCCEEDED,
    (GoalStatus.STATUS_EXECUTING, GoalEvent.ABORT): GoalStatus.STATUS_ABORTED,
    (GoalStatus.STATUS_CANCELING, GoalEvent.SUCCEED): GoalStatus.STATUS_SUCCEEDED,
    (GoalStatus.STATUS_CANCELING, GoalEvent.ABORT): GoalStatus.STATUS_ABORTED,
    (GoalStatus.STATUS_CANCELING, GoalEvent.CANCELED): GoalStatus.STATUS_CANCELED,
}
_NAMES = {
    GoalStatus.STATUS_UNKNOWN: "UNKNOWN",
    GoalStatus.STATUS_ACCEPTED: "ACCEPTED",
    GoalStatus.STATUS_EXECUTING: "EXECUTING",
    GoalStatus.STATUS_CANCELING: "CANCELING",
    GoalStatus.STATUS_SUCCEEDED: "SUCCEEDED",
    GoalStatus.STATUS_CANCELED: "CANCELED",
    GoalStatus.STATUS_ABORTED: "ABORTED",
}


def next_status(status: int, event: GoalEvent) -> int:
    """The status after `event`; `RCLError` in rcl's words where it makes no sense."""
    try:
        return int(_NEXT[status, event])
    except KeyError:
        raise RCLError(
            "Failed to update goal state: goal_handle attempted invalid transition from state "
            f"{_NAMES[status]} with event {event.name}"
        ) from None


def resolve_action(node: Any, action_type: Any, action_name: str, role: str) -> str:
    """The action's absolute name; not remapped, as in rclpy. Raises `TypeError` and rclpy's `ValueError`."""
    if not hasattr(action_type, "Impl"):
        raise TypeError(f"{action_type} is not an action type")
    try:
        full_name = str(node.resolve_topic_name(action_name, only_expand=True))
        error = full_topic_name_error(f"{full_name}/_action/status")
        reason = "" if error is None else error[0]
    except ValueError as invalid:
        reason = str(invalid)
    if reason:
        raise ValueError(f"Failed to create action {role} due to invalid topic name '{action_name}' : {reason}")
    return full_name
