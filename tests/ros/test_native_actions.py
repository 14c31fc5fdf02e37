"""Actions between the bridge and genuine rclpy, through a real rosbridge server, which is also killed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Start

from ros_bridge.messages import load
from ros_bridge.rclpy.action import ActionClient, ActionServer, CancelResponse, GoalResponse
from ros_bridge.rclpy.callback_groups import ReentrantCallbackGroup
from ros_bridge.rclpy.context import Context
from ros_bridge.rclpy.executors import MultiThreadedExecutor
from ros_bridge.rclpy.node import Node
from ros_bridge.server import RosbridgeServer

Fibonacci = load("test_msgs/action/Fibonacci")
SCRIPT = Path(__file__).with_name("native_actions.py")
SUCCEEDED, CANCELED, ABORTED = 4, 5, 6


@pytest.fixture
def spun(request: pytest.FixtureRequest) -> Iterator[Node]:
    """A node on the server that the test uses, spun by four threads."""
    name = "own_server" if "own_server" in request.fixturenames else "shared_server"
    context = Context()
    context.init(["--url", request.getfixturevalue(name).url])
    node = Node("bridge_actions", context=context)
    executor = MultiThreadedExecutor(4, context=context)
    executor.add_node(node)
    ending = threading.Event()

    def spin() -> None:
        while not ending.is_set():
            executor.spin_once(timeout_sec=0.05)

    thread = threading.Thread(target=spin)
    thread.start()
    yield node
    ending.set()
    thread.join()
    executor.shutdown()
    node.destroy_node()
    context.shutdown()


def wait(future, timeout_s: float = 20.0):
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    assert done.wait(timeout_s)
    return future.result()


def wait_until(condition, timeout_s: float = 20.0) -> bool:
    end = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return bool(condition())


def test_bridge_client_observes_a_native_server(shared_server: RosbridgeServer, spun: Node, start: Start):
    start(SCRIPT, "serve", env=shared_server.node_environment())
    client = ActionClient(spun, Fibonacci, "native_fib", callback_group=ReentrantCallbackGroup())
    assert client.wait_for_server(20.0)
    assert not wait(client.send_goal_async(Fibonacci.Goal(order=60))).accepted

    heard: list = []
    handle = wait(client.send_goal_async(Fibonacci.Goal(order=5), heard.append))
    result = handle.get_result()
    assert (handle.accepted, result.status, result.result.sequence.tolist()) == (True, SUCCEEDED, [5])
    # The server subscribes for each goal: what is said before that is discovered is lost.
    steps = [message.feedback.sequence[0] for message in heard]
    assert steps == list(range(5))[-len(steps) :]
    assert len(steps) >= 3
    assert wait_until(lambda: handle.status == SUCCEEDED)

    result = client.send_goal(Fibonacci.Goal(order=7))
    assert (result.status, result.result.sequence.tolist()) == (ABORTED, [7])

    handle = wait(client.send_goal_async(Fibonacci.Goal(order=50)))
    (info,) = handle.cancel_goal().goals_canceling
    assert info.goal_id == handle.goal_id
    result = handle.get_result()
    assert (result.status, result.result.sequence.tolist()) == (CANCELED, [-1])

    handle = wait(client.send_goal_async(Fibonacci.Goal(order=13)))
    assert handle.cancel_goal().goals_canceling == []
    assert handle.get_result().status == SUCCEEDED


def test_native_client_observes_a_bridge_server(shared_server: RosbridgeServer, spun: Node, start: Start):
    def execute(handle):
        for step in range(handle.request.order):
            if handle.is_cancel_requested:
                handle.canceled()
                return Fibonacci.Result(sequence=[-1])
            handle.publish_feedback(Fibonacci.Feedback(sequence=[step]))
            time.sleep(0.02)
        handle.abort() if handle.request.order == 7 else handle.succeed()
        return Fibonacci.Result(sequence=[handle.request.order])

    ActionServer(
        spun,
        Fibonacci,
        "bridge_fib",
        execute,
        goal_callback=lambda goal: GoalResponse.REJECT if goal.order > 100 else GoalResponse.ACCEPT,
        cancel_callback=lambda handle: CancelResponse.ACCEPT,
        callback_group=ReentrantCallbackGroup(),
    )
    process = start(SCRIPT, "ask", "3", "7", "-100", "101", env=shared_server.node_environment())
    assert process.stdout is not None
    said = [json.loads(process.stdout.readline()) for _ in range(4)]
    common = {"accepted": True, "cancelled": None}
    assert said[0] == {**common, "order": 3, "status": SUCCEEDED, "result": [3], "feedback": [[0], [1], [2]]}
    assert said[1] == {**common, "order": 7, "status": ABORTED, "result": [7], "feedback": [[i] for i in range(7)]}
    assert {**said[2], "feedback": []} == {
        "order": -100,
        "accepted": True,
        "cancelled": 1,
        "status": CANCELED,
        "result": [-1],
        "feedback": [],
    }
    # rosbridge accepts on this side's behalf: what the goal callback rejects ends aborted.
    assert said[3] == {**common, "order": 101, "status": ABORTED, "result": [], "feedback": []}


def test_killed_server_ends_goals_and_offers_the_action_again(own_server: RosbridgeServer, spun: Node):
    executed, cancelled = [], []

    def execute(handle):
        executed.append(handle.request.order)
        while not handle.is_cancel_requested and handle.request.order != 2:
            time.sleep(0.005)
        if handle.is_cancel_requested:
            handle.canceled()
            cancelled.append(handle.request.order)
        else:
            handle.succeed()
        return Fibonacci.Result(sequence=[handle.request.order])

    ActionServer(spun, Fibonacci, "fib", execute, callback_group=ReentrantCallbackGroup())
    client = ActionClient(spun, Fibonacci, "fib", callback_group=ReentrantCallbackGroup())
    assert client.wait_for_server(10.0)
    handle = wait(client.send_goal_async(Fibonacci.Goal(order=1)))
    assert wait_until(lambda: executed == [1])
    ended = handle.get_result_async()
    own_server.kill()
    result = wait(ended)
    assert (result.status, result.result, handle.status) == (0, Fibonacci.Result(), 0)
    assert wait_until(lambda: cancelled == [1])  # nobody could cancel it any more
    with pytest.raises(RuntimeError, match="not connected"):
        client.send_goal(Fibonacci.Goal(order=3))
    own_server.start()
    assert client.wait_for_server(10.0)
    result = client.send_goal(Fibonacci.Goal(order=2))
    assert (result.status, result.result.sequence.tolist()) == (SUCCEEDED, [2])
    assert executed == [1, 2]
