"""Executors: several nodes, tasks, coroutines that await a service, futures with timeouts, exceptions."""

import time

import rclpy
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future
from std_msgs.msg import Int32
from std_srvs.srv import SetBool, Trigger


class Chain(Node):
    def __init__(self):
        super().__init__("chain")
        self.client = self.create_client(Trigger, "inner", callback_group=ReentrantCallbackGroup())
        self.create_service(Trigger, "outer", self.outer)
        self.create_service(SetBool, "failing", self.failing)

    async def outer(self, request, response):
        inner = await self.client.call_async(Trigger.Request())
        response.success, response.message = inner.success, f"outer({inner.message})"
        return response

    def failing(self, request, response):
        raise ZeroDivisionError("in a service")


class Inner(Node):
    def __init__(self):
        super().__init__("inner_node")
        self.create_service(Trigger, "inner", self.inner)

    async def inner(self, request, response):
        response.success, response.message = True, "inner"
        return response


def main():
    rclpy.init()
    chain, inner, asker = Chain(), Inner(), Node("asker")
    executor = SingleThreadedExecutor()
    print("added:", [executor.add_node(n) for n in (chain, inner, asker, asker)], len(executor.get_nodes()))
    outer = asker.create_client(Trigger, "outer")
    failing = asker.create_client(SetBool, "failing")
    for client in (chain.client, outer, failing):
        client.wait_for_service(10.0)

    future = outer.call_async(Trigger.Request())
    executor.spin_until_future_complete(future, timeout_sec=10.0)
    print("chained:", future.result())

    order = []

    async def work(name, gate):
        order.append(f"{name} begins")
        value = await gate
        order.append(f"{name} got {value}")
        return value * 2

    gate = Future()
    task = executor.create_task(work, "task", gate)
    plain = executor.create_task(lambda a, b: a + b, 1, b=2)
    for _ in range(6):
        executor.spin_once(timeout_sec=0.02)
    print("waiting:", sorted(order), task.done(), plain.result())
    gate.set_result(21)
    executor.spin_until_future_complete(task, timeout_sec=5.0)
    print("finished:", sorted(order), task.result())

    begin = time.monotonic()
    never = Future()
    executor.spin_until_future_complete(never, timeout_sec=0.2)
    print("timeout:", never.done(), never.result(), 0.15 < time.monotonic() - begin < 5.0)
    never.cancel()
    executor.spin_until_future_complete(never)
    print("cancelled:", never.cancelled(), never.done())

    failing.call_async(SetBool.Request())
    try:
        end = time.monotonic() + 10.0
        while time.monotonic() < end:
            executor.spin_once(timeout_sec=0.1)
        print("no exception")
    except ZeroDivisionError as error:
        print("raised:", error)

    async def hear(message):
        order.append(message.data)

    del order[:]
    asker.create_subscription(Int32, "numbers", hear, 10)
    publisher = chain.create_publisher(Int32, "numbers", 10)
    end = time.monotonic() + 10.0
    while not order and time.monotonic() < end:
        publisher.publish(Int32(data=7))
        executor.spin_once(timeout_sec=0.1)
    print("coroutine subscription:", order[0])
    executor.remove_node(inner)
    print("left:", sorted(n.get_name() for n in executor.get_nodes()))
    with SingleThreadedExecutor() as other:
        other.add_node(inner)
        print("moved:", inner.executor is other, len(executor.get_nodes()))
    failed = Future()
    failed.set_exception(ValueError("no"))
    try:
        failed.result()
    except ValueError as error:
        print("exception:", error, type(failed.exception()).__name__)
    rclpy.shutdown()


if __name__ == "__main__":
    main()
