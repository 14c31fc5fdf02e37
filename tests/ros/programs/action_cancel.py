"""Goals that are cancelled while they run, goals that wait their turn, and the states of a goal handle."""

import threading

import rclpy
from action_msgs.msg import GoalStatus
from action_msgs.srv import CancelGoal
from rclpy.action import ActionClient, ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import RCLError
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from test_msgs.action import Fibonacci


class QueueingServer(Node):
    def __init__(self):
        super().__init__("queueing_server", namespace="/robot")
        self.lock = threading.Lock()
        self.waiting, self.current, self.said = [], None, []
        self.going_on = threading.Event()
        self._action_server = ActionServer(
            self,
            Fibonacci,
            "~/count",
            execute_callback=self.execute_callback,
            goal_callback=self.goal_callback,
            handle_accepted_callback=self.handle_accepted_callback,
            cancel_callback=self.cancel_callback,
            callback_group=ReentrantCallbackGroup(),
        )

    def goal_callback(self, goal_request):
        self.said.append(f"asked {goal_request.order}")
        return GoalResponse.ACCEPT

    async def cancel_callback(self, goal_handle):
        self.said.append(f"cancel {goal_handle.request.order}")
        return CancelResponse.ACCEPT

    def handle_accepted_callback(self, goal_handle):
        with self.lock:
            if self.current is not None:
                self.waiting.append(goal_handle)
                self.said.append(f"waits {goal_handle.request.order} {goal_handle.status}")
                return
            self.current = goal_handle
        goal_handle.execute()

    def execute_callback(self, goal_handle):
        order = goal_handle.request.order
        try:
            goal_handle.canceled() if not goal_handle.is_cancel_requested else None
        except RCLError as error:
            self.said.append(str(error).split(",")[0])
        while order > 0 and not goal_handle.is_cancel_requested and not self.going_on.is_set():
            self.going_on.wait(0.01)
        if goal_handle.is_cancel_requested:
            goal_handle.canceled()
        else:
            goal_handle.succeed()
        for wrong in (goal_handle.succeed, goal_handle.abort, goal_handle.execute):
            try:
                wrong()
            except RCLError as error:
                self.said.append(str(error).split(",")[0])
        self.said.append(f"ended {order} {goal_handle.status} {goal_handle.is_active}")
        with self.lock:
            self.current = self.waiting.pop(0) if self.waiting else None
        if self.current is not None:
            self.current.execute()
        return Fibonacci.Result(sequence=[order])


def main():
    rclpy.init()
    server, node = QueueingServer(), Node("client_node", namespace="/robot")
    client = ActionClient(node, Fibonacci, "queueing_server/count", callback_group=ReentrantCallbackGroup())
    executor = MultiThreadedExecutor(num_threads=4)
    executor.add_node(server)
    executor.add_node(node)
    thread = threading.Thread(target=spin, args=(executor,))
    thread.start()
    print("there:", client.wait_for_server(timeout_sec=10.0))

    first = wait(client.send_goal_async(Fibonacci.Goal(order=1)))
    second = wait(client.send_goal_async(Fibonacci.Goal(order=2)))
    print("accepted:", first.accepted, second.accepted, first == second, first != second)
    cancelled = first.cancel_goal()
    print("cancelling:", cancelled.return_code, [info.goal_id == first.goal_id for info in cancelled.goals_canceling])
    result = first.get_result()
    print("cancelled:", result.status == GoalStatus.STATUS_CANCELED, result.result)
    server.going_on.set()
    print("next:", second.get_result())
    again = wait(first.cancel_goal_async())
    print("again:", again.return_code == CancelGoal.Response.ERROR_GOAL_TERMINATED, again.goals_canceling)
    print("synchronous:", client.send_goal(Fibonacci.Goal(order=0)))
    try:
        client._cancel_goal_async("goal")
    except TypeError as error:
        print("TypeError:", error)
    for line in server.said:
        print("said:", line)
    executor.shutdown()
    thread.join()
    rclpy.shutdown()


def spin(executor):
    try:
        executor.spin()
    except Exception as error:
        print(type(error))


def wait(future):
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    done.wait(10.0)
    return future.result()


if __name__ == "__main__":
    main()
