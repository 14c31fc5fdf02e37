"""The rclpy-shaped layer: executors, queues, timers, futures, and what it refuses. Against a scripted server."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from conftest import ROOT
from fake_server import FakeServer, eventually

from mcsd_agent.errors import UserError
from ros_bridge import rclpy
from ros_bridge.messages import load
from ros_bridge.rclpy.context import Context
from ros_bridge.rclpy.exceptions import InvalidTopicNameException, NotInitializedException
from ros_bridge.rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from ros_bridge.rclpy.node import Node
from ros_bridge.rclpy.qos import DurabilityPolicy, QoSProfile
from ros_bridge.rclpy.task import Future
from ros_bridge.server import free_port

String = load("std_msgs/msg/String")
Twist = load("geometry_msgs/msg/Twist")
Trigger = load("std_srvs/srv/Trigger")
SetBool = load("std_srvs/srv/SetBool")


@pytest.fixture
def context(fake_server: FakeServer) -> Iterator[Context]:
    context = Context()
    context.init(["--url", fake_server.url])
    yield context
    context.try_shutdown()


@pytest.fixture
def node(context: Context) -> Iterator[Node]:
    node = Node("tester", context=context)
    SingleThreadedExecutor(context=context).add_node(node)
    yield node
    node.destroy_node()


def spin(node: Node, seconds: float = 0.0, until=lambda: False) -> None:
    end = time.monotonic() + seconds
    while not until():
        left = end - time.monotonic()
        node.executor.spin_once(timeout_sec=min(max(0.0, left), 0.02))
        if left <= 0:
            return


def publication(text: str, topic: str = "/t") -> dict:
    return {"op": "publish", "topic": topic, "msg": {"data": text}}


def test_callbacks_run_on_the_thread_that_spins(fake_server, node):
    threads = []
    node.create_subscription(String, "/t", lambda m: threads.append(threading.get_ident()), 10)
    fake_server.send(publication("a"))
    spin(node, 20.0, lambda: bool(threads))
    assert threads == [threading.get_ident()]


def test_slow_callback_blocks_neither_network_nor_newer_data(fake_server, node):
    got = []
    may_end = threading.Event()

    def slow(message):
        got.append(message.data)
        may_end.wait(10.0)

    subscription = node.create_subscription(String, "/t", slow, QoSProfile(depth=1))
    publisher = node.create_publisher(String, "/out", 10)
    fake_server.send(publication("first"))
    worker = threading.Thread(target=lambda: node.executor.spin_once(timeout_sec=5.0))
    worker.start()
    assert eventually(lambda: got == ["first"])
    for i in range(20):  # while the callback sleeps
        fake_server.send(publication(str(i)))
        publisher.publish(String(data=str(i)))
    assert eventually(lambda: fake_server.operations().count(("publish", "/out")) == 20)
    assert eventually(lambda: subscription.dropped == 19)
    may_end.set()
    worker.join()
    spin(node, 20.0, lambda: len(got) == 2)
    assert got == ["first", "19"]


def test_queue_keeps_the_newest_of_its_depth_in_order(fake_server, node):
    got = []
    subscription = node.create_subscription(String, "/t", lambda m: got.append(m.data), 5)
    for i in range(8):
        fake_server.send(publication(str(i)))
    assert eventually(lambda: subscription.dropped == 3)
    spin(node, 20.0, lambda: len(got) == 5)
    assert got == ["3", "4", "5", "6", "7"]


def test_message_that_does_not_fit_its_class_is_skipped_and_counted(fake_server, node):
    got = []
    subscription = node.create_subscription(String, "/t", got.append, 10)
    fake_server.send({"op": "publish", "topic": "/t", "msg": {"data": 5}})
    fake_server.send(publication("good"))
    spin(node, 20.0, lambda: bool(got))
    assert [m.data for m in got] == ["good"]
    assert subscription.rejected == 1


def test_exception_in_a_callback_reaches_the_spinner_and_the_rest_goes_on(fake_server, node):
    got = []

    def callback(message):
        if message.data == "bad":
            raise ZeroDivisionError
        got.append(message.data)

    node.create_subscription(String, "/t", callback, 10)
    fake_server.send(publication("bad"))
    fake_server.send(publication("good"))
    with pytest.raises(ZeroDivisionError):
        spin(node, 2.0)
    spin(node, 20.0, lambda: bool(got))
    assert got == ["good"]


def test_publisher_sends_every_field_and_checks_the_class(fake_server, node):
    publisher = node.create_publisher(Twist, "cmd", 1)
    twist = Twist()
    twist.linear.x = 0.25
    publisher.publish(twist)
    assert eventually(lambda: ("publish", "/cmd") in fake_server.operations())
    message = fake_server.frames[-1][1]["msg"]
    assert message == {"linear": {"x": 0.25, "y": 0.0, "z": 0.0}, "angular": {"x": 0.0, "y": 0.0, "z": 0.0}}
    with pytest.raises(TypeError):
        publisher.publish(String())
    twist.linear.x = float("nan")
    with pytest.raises(ValueError, match=r"linear\.x is nan"):
        publisher.publish(twist)


def test_transient_local_publisher_is_latched(fake_server, node):
    node.create_publisher(String, "/l", QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    assert eventually(lambda: ("advertise", "/l") in fake_server.operations())
    assert next(f for _, f in fake_server.frames if f.get("topic") == "/l")["latch"] is True


def test_timer_keeps_its_grid_and_skips_what_it_missed(node):
    calls = []

    def callback():
        calls.append(time.monotonic())
        if len(calls) == 2:
            time.sleep(0.25)

    begin = time.monotonic()
    timer = node.create_timer(0.1, callback)
    spin(node, 20.0, lambda: len(calls) == 4)
    # Due at 0.1, 0.2 and, having slept until 0.45, once late and then on the grid again at 0.5: not three times.
    assert calls[2] - begin >= 0.45
    assert calls[3] - begin >= 0.5
    timer.cancel()
    count = len(calls)
    spin(node, 0.15)
    assert len(calls) == count
    timer.reset()
    spin(node, 20.0, lambda: len(calls) > count)


def test_service_answers_and_refuses_malformed_requests(fake_server, node):
    def callback(request, response):
        response.success, response.message = request.data, "done"
        return response

    node.create_service(SetBool, "~/set", callback)
    assert eventually(lambda: ("advertise_service", "/tester/set") in fake_server.operations())
    for request in ({"data": True}, {"data": "yes"}):
        fake_server.send({"op": "call_service", "id": "1", "service": "/tester/set", "args": request})
    spin(node, 20.0, lambda: fake_server.operations().count(("service_response", "/tester/set")) == 2)
    first, second = (f for _, f in fake_server.frames if f["op"] == "service_response")
    assert first["values"] == {"success": True, "message": "done"}
    assert first["result"] is True
    assert second["result"] is False


def test_client_future_carries_response_or_failure(fake_server, node):
    client = node.create_client(Trigger, "/s")
    good, bad = client.call_async(Trigger.Request()), client.call_async(Trigger.Request())
    assert eventually(lambda: fake_server.operations().count(("call_service", "/s")) == 2)
    ids = [frame["id"] for _, frame in fake_server.frames if frame["op"] == "call_service"]
    reply = {"op": "service_response", "service": "/s"}
    fake_server.send({**reply, "id": ids[0], "result": True, "values": {"success": True, "message": "m"}})
    fake_server.send({**reply, "id": ids[1], "result": False, "values": "no such service"})
    node.executor.spin_until_future_complete(good, 20.0)
    node.executor.spin_until_future_complete(bad, 20.0)
    assert good.result() == Trigger.Response(success=True, message="m")
    with pytest.raises(RuntimeError, match="no such service"):
        bad.result()


def test_synchronous_call_inside_a_callback_is_refused_instead_of_hanging(fake_server, node):
    client = node.create_client(Trigger, "/s")
    node.create_subscription(String, "/t", lambda m: client.call(Trigger.Request()), 1)
    fake_server.send(publication("go"))
    with pytest.raises(RuntimeError, match="use call_async"):
        spin(node, 2.0)


def test_call_without_a_link_fails_at_once(fake_server, node):
    client = node.create_client(Trigger, "/s")
    fake_server.drop()
    assert eventually(lambda: not node.context.connection.connected)
    future = client.call_async(Trigger.Request())
    assert future.done()
    with pytest.raises(RuntimeError, match="not connected"):
        future.result()


def test_future_runs_callbacks_once_and_keeps_the_first_outcome():
    future, seen = Future(), []
    future.add_done_callback(lambda f: seen.append(f.result()))
    future.set_result(1)
    future.set_result(2)
    future.add_done_callback(lambda f: seen.append(f.result()))
    assert seen == [1, 1]
    cancelled = Future()
    cancelled.cancel()
    assert cancelled.cancelled()
    assert not cancelled.done()


def test_shutdown_ends_spin_from_another_thread(context, node):
    threading.Timer(0.1, context.shutdown).start()
    with pytest.raises(ExternalShutdownException):
        node.executor.spin()
    assert not context.ok()


def test_names_are_resolved_like_in_ros(context):
    node = Node("n", context=context, namespace="robot")
    assert node.resolve_topic_name("scan") == "/robot/scan"
    assert node.resolve_topic_name("/scan") == "/scan"
    assert node.resolve_topic_name("~/status") == "/robot/n/status"
    assert node.get_fully_qualified_name() == "/robot/n"
    with pytest.raises(ValueError, match="topic name 'a b' is invalid"):
        node.resolve_topic_name("a b")
    with pytest.raises(InvalidTopicNameException, match=r"(?s)must not contain characters.*'a b'\n    \^"):
        node.create_publisher(String, "a b", 1)


def test_url_comes_from_arguments_before_the_environment(fake_server, monkeypatch):
    monkeypatch.setenv("MCSD_ROSBRIDGE_URL", fake_server.url)
    with Context() as context:
        assert context.connection.url == fake_server.url
    monkeypatch.setenv("MCSD_ROSBRIDGE_URL", "ws://nowhere:1")
    context = Context()
    context.init([f"--url={fake_server.url}"])
    context.shutdown()
    with pytest.raises(UserError, match="--url needs a value"):
        Context().init(["--url"])


def test_node_before_init_is_refused():
    with pytest.raises(NotInitializedException):
        Node("early", context=Context())


def test_unreachable_server_fails_init_within_its_bound(monkeypatch):
    monkeypatch.setattr("ros_bridge.rclpy.context.CONNECT_TIMEOUT_S", 0.5)
    context = Context()
    with pytest.raises(UserError, match="no rosbridge server at"):
        rclpy.init(args=["--url", f"ws://127.0.0.1:{free_port()}"], context=context)
    assert not context.ok()


@pytest.mark.parametrize(
    ("attempt", "reason"),
    [
        (lambda n: n.get_topic_names_and_types(), "rosapi"),
        (lambda n: n.create_subscription(String, "/t", lambda m, info: None, 1), "message info"),
        (lambda n: n.create_subscription(String, "/t", lambda m: None, 1, raw=True), "serialised"),
        (lambda n: n.create_publisher(String, "/t", 1).wait_for_all_acked(), "acknowledge"),
        (lambda n: n.create_client(Trigger, "/s").configure_introspection(None, None, None), "service events"),
        (lambda n: Context().init([], domain_id=3), "domain"),
    ],
)
def test_what_is_not_there_says_why(node, attempt, reason):
    with pytest.raises(NotImplementedError, match=reason):
        attempt(node)


def test_importing_the_bridge_loads_nothing_heavy():
    code = (
        "import sys, ros_bridge, ros_bridge.rclpy, ros_bridge.policy_node, ros_bridge.operator, ros_bridge.sim_robot;"
        "assert not {'torch', 'stable_baselines3', 'gymnasium', 'rclpy', 'twisted', 'mujoco'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
