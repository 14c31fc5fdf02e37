"""A native action server `native_fib`, or a native client of `bridge_fib` that prints what it observes as JSON lines.

The server rejects orders above 50, refuses to cancel order 13, aborts order 7 and takes 20 ms a step.
"""

from __future__ import annotations

import json
import sys
import time

import rclpy
from rclpy.action import ActionClient, ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from test_msgs.action import Fibonacci


def execute(goal_handle):
    order = goal_handle.request.order
    for step in range(order):
        if goal_handle.is_cancel_requested:
            goal_handle.canceled()
            return Fibonacci.Result(sequence=[-1])
        goal_handle.publish_feedback(Fibonacci.Feedback(sequence=[step]))
        time.sleep(0.02)
    goal_handle.abort() if order == 7 else goal_handle.succeed()
    return Fibonacci.Result(sequence=[order])


def serve() -> None:
    node = Node("native_actions")
    ActionServer(
        node,
        Fibonacci,
        "native_fib",
        execute,
        goal_callback=lambda goal: GoalResponse.REJECT if goal.order > 50 else GoalResponse.ACCEPT,
        cancel_callback=lambda handle: CancelResponse.REJECT if handle.request.order == 13 else CancelResponse.ACCEPT,
        callback_group=ReentrantCallbackGroup(),
    )
    executor = MultiThreadedExecutor(4)
    executor.add_node(node)
    executor.spin()


def ask() -> None:
    node = Node("native_asker")
    client = ActionClient(node, Fibonacci, "bridge_fib")
    client.wait_for_server(20.0)

    def wait(future):
        rclpy.spin_until_future_complete(node, future, timeout_sec=10.0)
        return future.result()

    for order in map(int, sys.argv[2:]):
        heard = []
        handle = wait(client.send_goal_async(Fibonacci.Goal(order=abs(order)), feedback_callback=heard.append))
        cancelled = None
        if order < 0:  # cancelled after its first feedback
            while not heard:
                rclpy.spin_once(node, timeout_sec=0.1)
            cancelled = len(wait(handle.cancel_goal_async()).goals_canceling)
        result = wait(handle.get_result_async())
        said = {
            "order": order,
            "accepted": handle.accepted,
            "cancelled": cancelled,
            "status": result.status,
            "result": result.result.sequence.tolist(),
            "feedback": [message.feedback.sequence.tolist() for message in heard],
        }
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    rclpy.init()
    serve() if sys.argv[1] == "serve" else ask()
