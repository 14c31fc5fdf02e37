"""Actions of ROS 2 Jazzy whose texts the `rosbags` type store lacks, and the messages ROS makes of any action."""

from __future__ import annotations

from typing import Any

from rosbags.interfaces import Nodetype

_FIBONACCI = "int32 order\n---\nint32[] sequence\n---\nint32[] sequence\n"

#: Definition by name, without comments.
ACTIONS = {
    "action_tutorials_interfaces/action/Fibonacci": (
        "int32 order\n---\nint32[] sequence\n---\nint32[] partial_sequence\n"
    ),
    "example_interfaces/action/Fibonacci": _FIBONACCI,
    "test_msgs/action/Fibonacci": _FIBONACCI,
    "tf2_msgs/action/LookupTransform": (
        "string target_frame\n"
        "string source_frame\n"
        "builtin_interfaces/Time source_time\n"
        "builtin_interfaces/Duration timeout\n"
        "builtin_interfaces/Time target_time\n"
        "string fixed_frame\n"
        "bool advanced\n"
        "---\n"
        "geometry_msgs/TransformStamped transform\n"
        "tf2_msgs/TF2Error error\n"
        "---\n"
    ),
}

#: The services and the message that carry an action's goal, result and feedback: rclpy's `Name.Impl`.
SERVICE_PARTS = {"SendGoalService": "SendGoal", "GetResultService": "GetResult"}
FEEDBACK_MESSAGE = "FeedbackMessage"


def carriers(action: str) -> dict[str, tuple[list[Any], list[Any]]]:
    """The definitions of those services' requests and responses, and of the feedback message, by name."""
    goal_id = ("goal_id", (Nodetype.NAME, "unique_identifier_msgs/msg/UUID"))
    fields: dict[str, list[Any]] = {
        "SendGoal_Request": [goal_id, ("goal", (Nodetype.NAME, f"{action}_Goal"))],
        "SendGoal_Response": [
            ("accepted", (Nodetype.BASE, ("bool", 0))),
            ("stamp", (Nodetype.NAME, "builtin_interfaces/msg/Time")),
        ],
        "GetResult_Request": [goal_id],
        "GetResult_Response": [
            ("status", (Nodetype.BASE, ("int8", 0))),
            ("result", (Nodetype.NAME, f"{action}_Result")),
        ],
        FEEDBACK_MESSAGE: [goal_id, ("feedback", (Nodetype.NAME, f"{action}_Feedback"))],
    }
    return {f"{action}_{name}": ([], members) for name, members in fields.items()}
