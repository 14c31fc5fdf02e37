"""Goals as a ROS action, `~/execute_instruction` of type mcsd_interfaces/action/ExecuteInstruction.

The type is this project's own. It is offered where the type is installed: on native rclpy in this process, over
rosbridge in the server's ROS. Elsewhere `goal_topics` does the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mcsd_agent.errors import UserError
from ros_bridge.backend import Future, Node, action_module, load
from ros_bridge.goal_topics import GoalTopics
from ros_bridge.instruction_goals import Goal, InstructionGoals
from ros_bridge.own_types import EXECUTE_INSTRUCTION

GOAL_PERIOD_S = 0.1


def offer_goals(node: Node, goals: InstructionGoals) -> None:
    """Goals on topics, and as an action where the type is installed."""

    def tick() -> None:
        goals.tick()
        if goals.active is None:
            timer.cancel()

    timer = node.create_timer(GOAL_PERIOD_S, tick)
    timer.cancel()
    GoalTopics(node, goals, timer.reset)
    try:
        InstructionAction(node, goals, timer.reset)
    except UserError as error:
        node.get_logger().info(f"no action ~/execute_instruction, only the topic ~/goal: {error}")


class InstructionAction:
    """The action server on `node`; `wake` is called when a goal begins.

    Raises `UserError` where the type is not installed.
    """

    def __init__(self, node: Node, goals: InstructionGoals, wake: Callable[[], None]) -> None:
        self._goals, self._wake = goals, wake
        self._type = load(EXECUTE_INSTRUCTION)
        action = action_module()
        self._accept, self._reject = action.GoalResponse.ACCEPT, action.GoalResponse.REJECT
        self._server = action.ActionServer(
            node,
            self._type,
            "~/execute_instruction",
            self._execute,
            goal_callback=self._judge,
            cancel_callback=lambda handle: action.CancelResponse.ACCEPT,
        )

    def _judge(self, request: Any) -> Any:
        try:
            Goal(request.instruction, request.timeout_s, feedback=lambda p, c: None, ended=lambda o: None)
        except UserError:
            return self._reject
        return self._accept

    async def _execute(self, handle: Any) -> Any:
        done: Any = Future()

        def feedback(progress: float, confidence: float) -> None:
            handle.publish_feedback(self._type.Feedback(progress=progress, confidence=confidence))

        self._goals.begin(
            Goal(
                handle.request.instruction,
                handle.request.timeout_s,
                feedback=feedback,
                ended=done.set_result,
                cancel_asked=lambda: handle.is_cancel_requested,
            )
        )
        self._wake()
        outcome = await done
        finish = {"succeeded": handle.succeed, "canceled": handle.canceled, "aborted": handle.abort}
        finish[outcome.state]()
        return self._type.Result(success=outcome.success, message=outcome.message)
