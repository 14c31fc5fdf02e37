"""Callback groups, pools of threads and coroutines, against a scripted server."""

from __future__ import annotations

import threading
import time
import types
from collections.abc import Iterator

import pytest
from fake_server import FakeServer, eventually

from ros_bridge.messages import load
from ros_bridge.rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from ros_bridge.rclpy.context import Context
from ros_bridge.rclpy.executors import MultiThreadedExecutor, SingleThreadedExecutor, TimeoutObject
from ros_bridge.rclpy.node import Node
from ros_bridge.rclpy.task import Future

String = load("std_msgs/msg/String")
SetBool = load("std_srvs/srv/SetBool")
Trigger = load("std_srvs/srv/Trigger")


@pytest.fixture
def node(fake_server: FakeServer) -> Iterator[Node]:
    context = Context()
    context.init(["--url", fake_server.url])
    node = Node("tester", context=context)
    yield node
    node.destroy_node()
    context.try_shutdown()


def publication(text: str) -> dict:
    return {"op": "publish", "topic": "/t", "msg": {"data": text}}


def calls(server: FakeServer, service: str) -> list[dict]:
    return [f for _, f in server.frames if f["op"] == "call_service" and f["service"] == service]


def test_callbacks_of_one_group_keep_their_order_on_many_threads(fake_server, node):
    got = []

    def slow(message):
        time.sleep(0.005 if len(got) % 2 else 0.0)
        got.append(message.data)

    node.create_subscription(String, "/t", slow, 100)
    with MultiThreadedExecutor(4, context=node.context) as executor:
        executor.add_node(node)
        for i in range(30):
            fake_server.send(publication(str(i)))
        end = time.monotonic() + 20.0
        while len(got) < 30 and time.monotonic() < end:
            executor.spin_once(timeout_sec=0.1)
    assert got == [str(i) for i in range(30)]


def test_exception_on_the_pool_reaches_the_spinner_at_once(fake_server, node):
    def fail(message):
        raise ZeroDivisionError(message.data)

    node.create_subscription(String, "/t", fail, 10)
    executor = MultiThreadedExecutor(2, context=node.context)
    executor.add_node(node)
    fake_server.send(publication("bad"))

    def spin():
        for _ in range(50):
            executor.spin_once(timeout_sec=0.1)

    with pytest.raises(ZeroDivisionError, match="bad"):
        spin()
    executor.shutdown()


def test_call_in_a_callback_of_its_own_group_is_refused_and_of_another_served(fake_server, node):
    same = node.create_client(Trigger, "/s", callback_group=node.default_callback_group)
    other = node.create_client(Trigger, "/s", callback_group=MutuallyExclusiveCallbackGroup())
    outcome: list = []

    def ask(message):
        try:
            same.call(Trigger.Request())
        except RuntimeError as error:
            outcome.append(str(error))
        outcome.append(other.call(Trigger.Request(), timeout_sec=20.0))

    node.create_subscription(String, "/t", ask, 1)
    executor = MultiThreadedExecutor(2, context=node.context)
    executor.add_node(node)
    fake_server.send(publication("go"))
    answered = False
    end = time.monotonic() + 20.0
    while len(outcome) < 2 and time.monotonic() < end:
        executor.spin_once(timeout_sec=0.02)
        if calls(fake_server, "/s") and not answered:
            answered = True
            reply = {"op": "service_response", "service": "/s", "id": calls(fake_server, "/s")[0]["id"]}
            fake_server.send({**reply, "result": True, "values": {"success": True, "message": "m"}})
    executor.shutdown()
    assert "would wait for itself" in outcome[0]
    assert outcome[1] == Trigger.Response(success=True, message="m")


def test_suspended_coroutine_lets_other_groups_run_and_keeps_its_own_closed(fake_server, node):
    gate, got = Future(), []

    async def wait(message):
        got.append(f"{message.data} waits")
        await gate
        got.append(f"{message.data} goes on")

    node.create_subscription(String, "/t", wait, 10)
    ticks = node.create_timer(0.01, lambda: got.append("tick"), MutuallyExclusiveCallbackGroup())
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    for text in ("a", "b"):
        fake_server.send(publication(text))
    end = time.monotonic() + 20.0
    while got.count("tick") < 5 and time.monotonic() < end:
        executor.spin_once(timeout_sec=0.1)
    assert "a waits" in got
    assert "b waits" not in got
    ticks.cancel()
    gate.set_result(None)
    while "b goes on" not in got and time.monotonic() < end:
        executor.spin_once(timeout_sec=0.1)
    assert [entry for entry in got if entry != "tick"] == ["a waits", "a goes on", "b waits", "b goes on"]


@types.coroutine
def one_turn():
    yield


def test_coroutine_that_yields_nothing_is_asked_again(node):
    turns = []

    async def count():
        while len(turns) < 20:
            turns.append(None)
            await one_turn()
        return "done"

    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    task = executor.create_task(count)
    executor.spin_until_future_complete(task, timeout_sec=20.0)
    assert task.result() == "done"
    assert len(turns) == 20


def test_timeout_object_and_cancelled_future_end_a_wait(node):
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    executor.spin_once_until_future_complete(Future(), TimeoutObject(0.05))
    future = Future()
    threading.Timer(0.05, future.cancel).start()
    executor.spin_until_future_complete(future, timeout_sec=20.0)
    assert future.cancelled()


@pytest.mark.parametrize(
    ("answer", "is_there"),
    [
        ("/s has another type: requested std_srvs/srv/Empty, ROS graph [...]", True),
        ("Message type std_srvs/SetBool does not have a field mcsd_no_such_field", True),
        ("std_srvs/srv/Empty_Request has no field mcsd_no_such_field", False),
        ("Service /s does not exist", False),
    ],
)
def test_service_is_known_by_what_the_server_finds_wrong_first(fake_server, node, answer, is_there):
    client = node.create_client(SetBool, "/s")
    found = []
    thread = threading.Thread(target=lambda: found.append(client.service_is_ready()))
    thread.start()
    assert eventually(lambda: bool(calls(fake_server, "/s")))
    (frame,) = calls(fake_server, "/s")
    assert frame["type"] != SetBool.ROS_TYPE
    fake_server.send({"op": "service_response", "service": "/s", "id": frame["id"], "result": False, "values": answer})
    thread.join(5.0)
    assert found == [is_there]


def test_service_of_a_silent_server_is_not_ready(fake_server, node, monkeypatch):
    monkeypatch.setattr("ros_bridge.rclpy.client.PROBE_S", 0.1)
    client = node.create_client(Trigger, "/s")
    assert not client.wait_for_service(timeout_sec=0.2)
    fake_server.drop()
    assert eventually(lambda: not node.context.connection.connected)
    assert not client.service_is_ready()
