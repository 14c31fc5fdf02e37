"""The minimal action server and client: feedback, results, goals that fail, and a coroutine that executes."""

import rclpy
from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient, ActionServer
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future
from test_msgs.action import Fibonacci


class MinimalActionServer(Node):
    def __init__(self):
        super().__init__("minimal_action_server")
        self._action_server = ActionServer(self, Fibonacci, "fibonacci", self.execute_callback)
        self.said = []
        self.heard = None  # feedback that the client has

    async def execute_callback(self, goal_handle):
        self.said.append(f"executing {goal_handle.request.order}, {goal_handle.status}, {goal_handle.is_active}")
        feedback_msg = Fibonacci.Feedback()
        feedback_msg.sequence = [0, 1]
        for _ in range(1, goal_handle.request.order):
            last = feedback_msg.sequence[-2:].tolist()
            feedback_msg.sequence = [*feedback_msg.sequence.tolist(), sum(last)]
            goal_handle.publish_feedback(feedback_msg)
            await self.pause(0.02)
        for _ in range(250):  # on a busy machine the result may overtake the last feedback
            if self.heard is None or len(self.heard) >= goal_handle.request.order - 1:
                break
            await self.pause(0.02)
        result = Fibonacci.Result(sequence=feedback_msg.sequence)
        if goal_handle.request.order == 2:
            raise ValueError("two is too few")
        if goal_handle.request.order == 3:
            goal_handle.abort()
        elif goal_handle.request.order > 0:
            goal_handle.succeed()
        self.said.append(f"ended {goal_handle.status}, {goal_handle.is_active}")
        return result

    async def pause(self, seconds):
        over = Future()
        timer = self.create_timer(seconds, lambda: over.set_result(None))
        await over
        self.destroy_timer(timer)


def ask(executor, server, client, order):
    server.heard = heard = []
    again = []
    future = client.send_goal_async(Fibonacci.Goal(order=order), feedback_callback=heard.append)
    executor.spin_until_future_complete(future, timeout_sec=10.0)
    goal_handle = future.result()
    print("accepted:", order, goal_handle.accepted, goal_handle.stamp.sec > 0, len(goal_handle.goal_id.uuid))
    result_future = goal_handle.get_result_async()
    executor.spin_until_future_complete(result_future, timeout_sec=10.0)
    result = result_future.result()
    print("result:", result.result, result.status)
    print("feedback:", [message.feedback.sequence.tolist() for message in heard])
    print("of this goal:", all(message.goal_id == goal_handle.goal_id for message in heard))
    goal_handle.get_result_async().add_done_callback(lambda f: again.append(f.result().status))
    for _ in range(100):
        if again and goal_handle.status == result.status:
            break
        executor.spin_once(timeout_sec=0.05)
    print("status:", goal_handle.status, again, goal_handle.status == GoalStatus.STATUS_SUCCEEDED)
    late = goal_handle.cancel_goal_async()
    executor.spin_until_future_complete(late, timeout_sec=10.0)
    print("too late:", late.result())


def main():
    rclpy.init()
    server, node = MinimalActionServer(), Node("minimal_action_client")
    client = ActionClient(node, Fibonacci, "fibonacci")
    executor = SingleThreadedExecutor()
    executor.add_node(server)
    executor.add_node(node)
    print("there:", client.wait_for_server(timeout_sec=10.0), client.server_is_ready())

    for order in (5, 3, 2, 0):
        ask(executor, server, client, order)
    server.heard = None
    print("said:", server.said)

    async def ask_and_wait():
        goal_handle = await client.send_goal_async(Fibonacci.Goal(order=4))
        result = await goal_handle.get_result_async()
        return result.status, result.result.sequence.tolist()

    task = executor.create_task(ask_and_wait)
    executor.spin_until_future_complete(task, timeout_sec=10.0)
    print("awaited:", task.result())

    for wrong in (lambda: client.send_goal_async("goal"), lambda: client.send_goal("goal")):
        try:
            wrong()
        except TypeError:
            print("TypeError")
    for name in ("two words", "9th", "", "a//b"):
        for kind in (ActionClient, ActionServer):
            try:
                kind(node, Fibonacci, name, *([print] if kind is ActionServer else []))
            except ValueError:
                print("ValueError", name)
    nobody = ActionClient(node, Fibonacci, "~/nobody")
    print("nobody:", nobody.wait_for_server(timeout_sec=0.3), nobody.server_is_ready())
    print("waitables:", sum(isinstance(w, (ActionClient, ActionServer)) for w in node.waitables))
    nobody.destroy()
    client.destroy()
    server._action_server.destroy()
    server.destroy_node()
    node.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main()
