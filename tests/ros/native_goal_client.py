"""An action client on native rclpy: a goal that runs out of time, one that is cancelled, one that makes no sense."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import rclpy
from action_msgs.msg import GoalStatus
from mcsd_interfaces.action import ExecuteInstruction
from rclpy.action import ActionClient
from rclpy.node import Node

NAMES = {GoalStatus.STATUS_ABORTED: "aborted", GoalStatus.STATUS_CANCELED: "canceled"}


class Client(Node):
    def __init__(self) -> None:
        super().__init__("goal_client")
        self.client = ActionClient(self, ExecuteInstruction, "/policy/execute_instruction")
        self.feedback: list[tuple[float, float]] = []

    def send(self, text: str, timeout_s: float):
        self.feedback.clear()
        goal = ExecuteInstruction.Goal(instruction=text, timeout_s=timeout_s)
        future = self.client.send_goal_async(goal, feedback_callback=self.hear)
        rclpy.spin_until_future_complete(self, future, timeout_sec=10.0)
        return future.result()

    def hear(self, message) -> None:
        self.feedback.append((message.feedback.progress, message.feedback.confidence))

    def end(self, handle, while_running: Callable[[], None] = lambda: None) -> dict:
        future = handle.get_result_async()
        while_running()
        rclpy.spin_until_future_complete(self, future, timeout_sec=10.0)
        answer = future.result()
        return {
            "status": NAMES.get(answer.status, answer.status),
            "success": answer.result.success,
            "message": answer.result.message,
            "feedback": list(self.feedback),
        }

    def spin_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            rclpy.spin_once(self, timeout_sec=0.05)


rclpy.init()
node = Client()
assert node.client.wait_for_server(20.0), "no action server"
node.spin_for(0.5)
result = {"timed_out": node.end(node.send("go to the red ball", 0.8))}
handle = node.send("  ", 1.0)
# Over rosbridge the server accepts every goal; one that is refused is aborted at once.
result["refused"] = not handle.accepted or node.end(handle)["status"] == "aborted"
handle = node.send("go to the ball", 60.0)


def cancel() -> None:
    node.spin_for(0.5)
    rclpy.spin_until_future_complete(node, handle.cancel_goal_async(), timeout_sec=10.0)


result["canceled"] = node.end(handle, cancel)
old = node.send("go to the ball", 60.0)
new = node.send("go to the red ball", 0.5)
result["preempted"], result["preempting"] = node.end(old), node.end(new)
print(json.dumps(result), flush=True)
sys.stdout.flush()
rclpy.shutdown()
