"""Callback groups on a multi-threaded executor: what runs at the same time, and a call from inside a callback."""

import contextlib
import threading
import time

import rclpy
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.node import Node
from std_srvs.srv import Trigger


class Busy:
    """Counts how many callbacks run at once."""

    def __init__(self):
        self.now = self.most = self.calls = 0
        self.lock = threading.Lock()

    def __call__(self):
        with self.lock:
            self.now += 1
            self.calls += 1
            self.most = max(self.most, self.now)
        time.sleep(0.1)
        with self.lock:
            self.now -= 1


class Caller(Node):
    def __init__(self):
        super().__init__("caller")
        self.create_service(Trigger, "answer", self.answer, callback_group=MutuallyExclusiveCallbackGroup())
        self.client = self.create_client(Trigger, "answer", callback_group=MutuallyExclusiveCallbackGroup())
        self.timer = self.create_timer(0.05, self.ask, MutuallyExclusiveCallbackGroup())
        self.got = None

    def answer(self, request, response):
        response.success, response.message = True, "from another group"
        return response

    def ask(self):
        self.timer.cancel()
        self.got = self.client.call(Trigger.Request())


def main():
    rclpy.init()
    node = Node("groups")
    exclusive, reentrant, separate = Busy(), Busy(), Busy()
    one = MutuallyExclusiveCallbackGroup()
    many = ReentrantCallbackGroup()
    timers = [node.create_timer(0.02, exclusive, one) for _ in range(3)]
    timers += [node.create_timer(0.02, reentrant, many) for _ in range(2)]
    timers += [node.create_timer(0.02, separate, MutuallyExclusiveCallbackGroup()) for _ in range(2)]
    caller = Caller()
    caller.client.wait_for_service(10.0)
    executor = MultiThreadedExecutor(num_threads=8)
    executor.add_node(node)
    executor.add_node(caller)

    def spin():
        with contextlib.suppress(ExternalShutdownException):
            executor.spin()

    thread = threading.Thread(target=spin)
    thread.start()
    end = time.monotonic() + 10.0
    while time.monotonic() < end and not (
        caller.got and exclusive.calls > 3 and reentrant.most > 1 and separate.most > 1
    ):
        time.sleep(0.02)
    for timer in timers:
        timer.cancel()
    print("exclusive, at once:", exclusive.most)
    print("reentrant, more than one:", reentrant.most > 1)
    print("two groups, at once:", separate.most)
    print("call in a callback:", caller.got)
    print("groups:", one.has_entity(timers[0]), many.has_entity(timers[0]), timers[0].callback_group is one)
    executor.shutdown()
    rclpy.shutdown()
    thread.join(5.0)
    print("ended:", not thread.is_alive())


if __name__ == "__main__":
    main()
