"""Goals without an action type, for every ROS: two topics of std_msgs/msg/String that hold JSON, and a service.

    ~/goal         in:  {"id": "any", "instruction": "go to the red ball", "timeout_s": 60}
    ~/goal_status  out: {"id", "instruction", "state", "progress", "confidence", "success", "message"}
    ~/cancel       std_srvs/srv/Trigger, of the goal that is active

`state` is active, succeeded, aborted, canceled, or refused. While a goal is active a status comes ten times a second;
the last one says how it ended. A goal that comes again with the id of the one before is the same goal.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from mcsd_agent.errors import UserError
from ros_bridge.backend import Node, QoSProfile, load
from ros_bridge.instruction_goals import NO_CONFIDENCE, Goal, InstructionGoals, Outcome


class GoalTopics:
    """The protocol above on `node`; `wake` is called when a goal begins."""

    def __init__(self, node: Node, goals: InstructionGoals, wake: Callable[[], None]) -> None:
        self._goals, self._wake = goals, wake
        self._string = load("std_msgs/msg/String")
        self._statuses = node.create_publisher(self._string, "~/goal_status", QoSProfile(depth=10))
        self._last: tuple[str, dict[str, Any]] | None = None
        node.create_subscription(self._string, "~/goal", self._hear, QoSProfile(depth=10))
        node.create_service(load("std_srvs/srv/Trigger"), "~/cancel", self._cancel)

    def _hear(self, message: Any) -> None:
        name = ""
        try:
            wanted = json.loads(message.data)
            if not isinstance(wanted, dict):
                raise UserError("a goal is a JSON object")
            name = _name(wanted.get("id", ""))
            unknown = sorted(set(wanted) - {"id", "instruction", "timeout_s"})
            if unknown or not name:
                raise UserError(f"a goal has no {unknown[0]!r}" if unknown else "a goal needs an id")
            if self._last is not None and self._last[0] == name:
                self._send(self._last[1])  # said again, because the answer was lost
                return
            goal = self._goal(name, _words(wanted.get("instruction", "")), _seconds(wanted.get("timeout_s", 0.0)))
        except RecursionError:
            self._say(name, "", "refused", message="a goal is a flat JSON object")
            return
        except ValueError as error:  # JSON's, and `UserError`
            self._say(name, "", "refused", message=str(error))
            return
        self._goals.begin(goal)
        self._say(name, goal.instruction, "active")
        self._wake()

    def _goal(self, name: str, instruction: str, timeout_s: float) -> Goal:
        def feedback(progress: float, confidence: float) -> None:
            self._say(name, instruction, "active", progress, confidence)

        def ended(outcome: Outcome) -> None:
            self._say(name, instruction, outcome.state, float(outcome.success), message=outcome.message)

        return Goal(instruction, timeout_s, feedback=feedback, ended=ended)

    def _cancel(self, request: Any, response: Any) -> Any:
        response.success = self._goals.active is not None
        response.message = "canceled" if response.success else "no goal is active"
        self._goals.cancel()
        return response

    def _say(
        self,
        name: str,
        instruction: str,
        state: str,
        progress: float = 0.0,
        confidence: float = NO_CONFIDENCE,
        message: str = "",
    ) -> None:
        status = {"id": name, "instruction": instruction, "state": state, "progress": round(progress, 4)}
        status |= {"confidence": round(confidence, 4), "success": state == "succeeded", "message": message}
        if name:
            self._last = (name, status)
        self._send(status)

    def _send(self, status: dict[str, Any]) -> None:
        self._statuses.publish(self._string(data=json.dumps(status)))


def _name(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise UserError(f"id is {json.dumps(value):.80}; it must be a string")
    return str(value)


def _words(value: Any) -> str:
    if not isinstance(value, str):
        raise UserError(f"instruction is {json.dumps(value):.80}; it must be a string such as 'go to the red ball'")
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can name half a character
        raise UserError("instruction is no text that can be written; say for example 'go to the red ball'") from None
    return value


def _seconds(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):  # also a whole number of hundreds of digits
        raise UserError(f"timeout_s is {json.dumps(value):.80}; it must be 0 or more seconds") from None
