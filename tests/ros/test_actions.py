"""Action clients and servers against a scripted server: what rosbridge servers say, and what is lost with the link."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import pytest
from fake_server import FakeServer, eventually

from ros_bridge import actions
from ros_bridge.messages import MessageError, load
from ros_bridge.rclpy.action import ActionClient, ActionServer, CancelResponse, GoalResponse
from ros_bridge.rclpy.action import client as client_module
from ros_bridge.rclpy.context import Context
from ros_bridge.rclpy.exceptions import InvalidHandle
from ros_bridge.rclpy.executors import SingleThreadedExecutor
from ros_bridge.rclpy.node import Node

Fibonacci = load("test_msgs/action/Fibonacci")
LookupTransform = load("tf2_msgs/action/LookupTransform")
ACCEPTED, EXECUTING, CANCELING, SUCCEEDED, CANCELED, ABORTED = range(1, 7)


@pytest.fixture
def node(fake_server: FakeServer) -> Iterator[Node]:
    context = Context()
    context.init(["--url", fake_server.url])
    node = Node("tester", context=context)
    SingleThreadedExecutor(context=context).add_node(node)
    yield node
    node.destroy_node()
    context.try_shutdown()


@pytest.fixture
def client(node: Node) -> ActionClient:
    return ActionClient(node, Fibonacci, "fib")


def frames(server: FakeServer, operation: str) -> list[dict]:
    return [frame for _, frame in list(server.frames) if frame["op"] == operation]


def spin_until(node: Node, condition, timeout_s: float = 20.0) -> bool:
    end = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < end:
        node.executor.spin_once(timeout_sec=0.01)
    return bool(condition())


def send(server: FakeServer, client: ActionClient, order: int = 3, **options):
    """The goal's future and the id under which the server has it."""
    before = len(frames(server, "send_action_goal"))
    future = client.send_goal_async(Fibonacci.Goal(order=order), **options)
    assert eventually(lambda: len(frames(server, "send_action_goal")) > before)
    return future, frames(server, "send_action_goal")[-1]["id"]


def status(*goals: tuple[int, int]) -> dict:
    """A status message of goals `(number, status)`, of which the later are the newer."""
    infos = [
        {"goal_info": {"goal_id": {"uuid": [n] * 16}, "stamp": {"sec": 1000 + n, "nanosec": 0}}, "status": s}
        for n, s in goals
    ]
    return {"op": "publish", "topic": "/fib/_action/status", "msg": {"status_list": infos}}


def result(operation_id: str, *, status: int, values, ok: bool = True) -> dict:
    return {
        "op": "action_result",
        "action": "/fib",
        "id": operation_id,
        "values": values,
        "status": status,
        "result": ok,
    }


def accepted(server: FakeServer, node: Node, client: ActionClient):
    future, operation_id = send(server, client)
    server.send({"op": "action_feedback", "action": "/fib", "id": operation_id, "values": {"sequence": []}})
    assert spin_until(node, future.done)
    return future.result(), operation_id


# -- client --------------------------------------------------------------------------------------


def test_goal_is_accepted_by_status_and_followed_to_its_result(fake_server, node, client):
    heard = []
    fake_server.send(status((1, EXECUTING), (2, SUCCEEDED)))  # somebody else's
    spin_until(node, lambda: len(client._known_ids) == 2)
    future, operation_id = send(fake_server, client, feedback_callback=heard.append)
    sent = frames(fake_server, "send_action_goal")[-1]
    assert sent == {
        "op": "send_action_goal",
        "id": operation_id,
        "action": "/fib",
        "action_type": "test_msgs/action/Fibonacci",
        "args": {"order": 3},
        "feedback": True,
    }
    fake_server.send(status((1, EXECUTING), (2, SUCCEEDED), (3, ACCEPTED)))
    assert spin_until(node, future.done)
    handle = future.result()
    assert handle.accepted
    assert (handle.status, handle.stamp.sec) == (ACCEPTED, 1003)
    ended = handle.get_result_async()
    fake_server.send({"op": "action_feedback", "action": "/fib", "id": operation_id, "values": {"sequence": [7]}})
    fake_server.send(status((1, CANCELED), (3, EXECUTING)))
    assert spin_until(node, lambda: handle.status == EXECUTING)
    fake_server.send(result(operation_id, status=SUCCEEDED, values={"sequence": [7, 8]}))
    assert spin_until(node, ended.done)
    assert [m.feedback.sequence.tolist() for m in heard] == [[7]]
    assert heard[0].goal_id == handle.goal_id
    assert (ended.result().status, ended.result().result.sequence.tolist()) == (SUCCEEDED, [7, 8])
    assert handle.status == SUCCEEDED
    again = handle.get_result_async()
    assert spin_until(node, again.done)
    assert again.result() == ended.result()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({"status": 6, "values": "goal rejected"}, id="rosbridge-server-rs"),
        pytest.param({"status": 0, "values": "Action goal was rejected"}, id="rosbridge_suite"),
    ],
)
def test_rejected_goal_has_no_result(fake_server, node, client, answer):
    future, operation_id = send(fake_server, client)
    fake_server.send(result(operation_id, ok=False, **answer))
    assert spin_until(node, future.done)
    handle = future.result()
    assert not handle.accepted
    ended, cancelled = handle.get_result_async(), handle.cancel_goal_async()
    assert spin_until(node, lambda: ended.done() and cancelled.done())
    assert (ended.result().status, handle.status) == (0, 0)
    assert cancelled.result().return_code == cancelled.result().ERROR_UNKNOWN_GOAL_ID
    assert not frames(fake_server, "cancel_action_goal")


@pytest.mark.parametrize("values", ["No action server available", {}, "field Fibonacci_Goal.order: wrong"])
def test_goal_that_reaches_no_action_server_raises(fake_server, node, client, values):
    future, operation_id = send(fake_server, client)
    fake_server.send(result(operation_id, status=6, values=values, ok=False))
    assert spin_until(node, future.done)
    with pytest.raises(RuntimeError, match="/fib: "):
        future.result()


def test_cancelled_and_aborted_goals_keep_their_results(fake_server, node, client):
    for ending, ok in ((CANCELED, False), (ABORTED, False), (CANCELED, True), (ABORTED, True)):
        handle, operation_id = accepted(fake_server, node, client)
        ended = handle.get_result_async()
        fake_server.send(result(operation_id, status=ending, values={"sequence": [1]}, ok=ok))
        assert spin_until(node, ended.done)
        assert (ended.result().status, ended.result().result.sequence.tolist()) == (ending, [1])


def test_cancellation_is_confirmed_refused_or_given_up(fake_server, node, client, monkeypatch):
    monkeypatch.setattr(client_module, "CANCEL_ANSWER_S", 0.1)
    handle, operation_id = accepted(fake_server, node, client)
    fake_server.send(status((5, EXECUTING)))
    assert spin_until(node, lambda: handle.status == EXECUTING)
    silent = handle.cancel_goal_async()
    assert spin_until(node, silent.done)
    assert (silent.result().return_code, silent.result().goals_canceling) == (0, [])
    refused = handle.cancel_goal_async()
    assert spin_until(node, lambda: len(frames(fake_server, "cancel_action_goal")) == 2)
    fake_server.send({"op": "status", "level": "error", "msg": "action cancellation rejected", "id": operation_id})
    assert spin_until(node, refused.done)
    assert refused.result().return_code == refused.result().ERROR_REJECTED
    confirmed = handle.cancel_goal_async()
    assert spin_until(node, lambda: len(frames(fake_server, "cancel_action_goal")) == 3)
    fake_server.send(status((5, CANCELING)))
    assert spin_until(node, confirmed.done)
    (info,) = confirmed.result().goals_canceling
    assert info.goal_id == handle.goal_id
    assert handle.status == CANCELING
    assert frames(fake_server, "cancel_action_goal")[0] == {
        "op": "cancel_action_goal",
        "id": operation_id,
        "action": "/fib",
    }


def test_no_goal_outlives_the_link_and_none_is_sent_twice(fake_server, node, client):
    handle, _ = accepted(fake_server, node, client)
    ended = handle.get_result_async()
    unanswered, _ = send(fake_server, client)
    sent = frames(fake_server, "send_action_goal")
    fake_server.drop()
    assert spin_until(node, lambda: ended.done() and unanswered.done())
    assert (ended.result().status, ended.result().result, handle.status) == (0, Fibonacci.Result(), 0)
    with pytest.raises(RuntimeError, match="connection lost"):
        unanswered.result()
    with pytest.raises(RuntimeError, match="not connected"):
        client.send_goal_async(Fibonacci.Goal()).result()
    too_late = handle.cancel_goal_async()
    assert spin_until(node, too_late.done)
    assert too_late.result().return_code == too_late.result().ERROR_UNKNOWN_GOAL_ID
    fake_server.listen()
    assert eventually(lambda: node.context.connection.connected)
    future, operation_id = send(fake_server, client, order=9)
    assert frames(fake_server, "send_action_goal")[len(sent) :] == [frames(fake_server, "send_action_goal")[-1]]
    assert operation_id not in [frame["id"] for frame in sent]
    fake_server.send(result(operation_id, status=SUCCEEDED, values={"sequence": []}))
    assert spin_until(node, future.done)


def test_frames_that_make_no_sense_reach_no_callback(fake_server, node, client):
    heard = []
    future, operation_id = send(fake_server, client, feedback_callback=heard.append)
    feedback = {"op": "action_feedback", "action": "/fib", "id": operation_id}
    for frame in (
        {**feedback, "values": 3},
        {**feedback, "values": {"sequence": ["x"]}},
        feedback,
        {**feedback, "id": "unknown"},
        {**feedback, "id": {"a": 1}},
        {"op": "action_result"},
        {"op": "send_action_goal", "id": {}, "action": "/fib"},
        {"op": "cancel_action_goal", "id": "x", "action": ["/fib"]},
        {"op": "status", "level": "error", "msg": "m", "id": []},
        {**status(), "msg": {"status_list": [{"goal_info": {"goal_id": {"uuid": [1]}}}]}},
        {**status(), "msg": {"status_list": 4}},
        result(operation_id, status={"no": 1}, values=["x"]),
    ):
        fake_server.send(frame)
    assert spin_until(node, lambda: future.done() and future.result()._goal.result is not None)
    assert future.result().accepted
    assert future.result().status == 0
    assert heard == []


def test_slow_executor_gets_the_newest_feedback_and_the_result(fake_server, node):
    heard = []
    client = ActionClient(node, Fibonacci, "fib")
    future, operation_id = send(fake_server, client, feedback_callback=lambda m: heard.append(m.feedback.sequence[0]))
    for i in range(50):
        fake_server.send({"op": "action_feedback", "action": "/fib", "id": operation_id, "values": {"sequence": [i]}})
    fake_server.send(result(operation_id, status=SUCCEEDED, values={"sequence": []}))
    received = node.context.connection.counters
    assert eventually(lambda: received["received"] >= 51)
    assert spin_until(node, lambda: future.done() and future.result().status == SUCCEEDED)
    assert heard == list(range(40, 50))
    assert node.context.connection.budget.used == 0


def test_client_refuses_what_cannot_be_sent(fake_server, node, client, monkeypatch):
    with pytest.raises(TypeError, match="not an action type"):
        ActionClient(node, load("std_msgs/msg/String"), "fib")
    with pytest.raises(NotImplementedError, match="goal_uuid"):
        client.send_goal_async(Fibonacci.Goal(), goal_uuid=load("unique_identifier_msgs/msg/UUID")())
    monkeypatch.setattr(actions, "MAX_OPEN_GOALS", 1)
    send(fake_server, client)
    with pytest.raises(RuntimeError, match="too many goals"):
        client.send_goal_async(Fibonacci.Goal()).result()
    client.destroy()
    with pytest.raises(InvalidHandle):
        client.send_goal_async(Fibonacci.Goal())
    assert not list(node.waitables)
    assert eventually(lambda: ("unsubscribe", "/fib/_action/status") in fake_server.operations())


def test_blocking_calls_inside_a_callback_are_refused(fake_server, node, client):
    errors = []

    def call() -> None:
        try:
            client.send_goal(Fibonacci.Goal())
        except RuntimeError as error:
            errors.append(str(error))

    node.create_timer(0.001, call)
    assert spin_until(node, lambda: errors)
    assert "send_goal_async" in errors[0]


# -- server --------------------------------------------------------------------------------------


def goal(operation_id: str, order: int = 3) -> dict:
    return {
        "op": "send_action_goal",
        "action": "/fib",
        "action_type": "test_msgs/action/Fibonacci",
        "args": {"order": order},
        "feedback": True,
        "id": operation_id,
    }


def results(server: FakeServer) -> list[tuple[str, int, list[int]]]:
    return [(f["id"], f["status"], f["values"]["sequence"]) for f in frames(server, "action_result")]


def test_server_executes_and_answers(fake_server, node):
    def execute(handle):
        handle.publish_feedback(Fibonacci.Feedback(sequence=[handle.request.order]))
        if handle.request.order > 0:
            handle.succeed()
        return Fibonacci.Result(sequence=[1])

    ActionServer(node, Fibonacci, "fib", execute)
    assert eventually(lambda: frames(fake_server, "advertise_action"))
    assert frames(fake_server, "advertise_action")[0]["type"] == "test_msgs/action/Fibonacci"
    fake_server.send(goal("a", 4))
    fake_server.send(goal("b", 0))
    assert spin_until(node, lambda: len(results(fake_server)) == 2)
    assert results(fake_server) == [("a", SUCCEEDED, [1]), ("b", ABORTED, [1])]
    assert [(f["id"], f["values"]) for f in frames(fake_server, "action_feedback")] == [
        ("a", {"sequence": [4]}),
        ("b", {"sequence": [0]}),
    ]


def test_what_is_not_accepted_ends_aborted_and_is_never_executed(fake_server, node):
    executed = []
    answers = {1: GoalResponse.REJECT, 2: "yes", 3: GoalResponse.ACCEPT}

    def decide(request):
        if request.order == 4:
            raise ValueError("cannot decide")
        return answers[request.order]

    def execute(handle):
        executed.append(handle.request.order)
        handle.succeed()
        return Fibonacci.Result()

    ActionServer(node, Fibonacci, "fib", execute, goal_callback=decide)
    for operation_id, order in (("a", 1), ("b", 2), ("c", 3)):
        fake_server.send(goal(operation_id, order))
    fake_server.send({**goal("d"), "args": {"order": "many"}})
    assert spin_until(node, lambda: len(results(fake_server)) == 4)
    assert {key: status for key, status, _ in results(fake_server)} == {
        "a": ABORTED,
        "b": ABORTED,
        "c": SUCCEEDED,
        "d": ABORTED,
    }
    fake_server.send(goal("e", 4))
    with pytest.raises(ValueError, match="cannot decide"):
        spin_until(node, lambda: False, 1.0)
    assert eventually(lambda: ("e", ABORTED, []) in results(fake_server))
    assert executed == [3]


def test_goals_beyond_the_bound_are_aborted_at_once(fake_server, node):
    ActionServer(node, Fibonacci, "fib", lambda handle: Fibonacci.Result())
    for i in range(20):
        fake_server.send(goal(str(i)))
    assert eventually(lambda: len(results(fake_server)) == 4)
    assert [r[0] for r in results(fake_server)] == ["16", "17", "18", "19"]


@pytest.mark.parametrize("response", CancelResponse)
def test_cancel_callback_decides_for_the_handle(fake_server, node, response):
    handles = []
    ActionServer(
        node,
        Fibonacci,
        "fib",
        lambda handle: Fibonacci.Result(),
        handle_accepted_callback=handles.append,
        cancel_callback=lambda handle: response,
    )
    fake_server.send(goal("a"))
    fake_server.send({"op": "cancel_action_goal", "action": "/fib", "id": "a"})
    assert spin_until(node, lambda: handles)
    spin_until(node, lambda: handles[0].is_cancel_requested, 0.3)
    assert handles[0].is_cancel_requested == (response is CancelResponse.ACCEPT)
    assert handles[0].is_active


def test_result_of_another_type_or_not_finite_aborts_and_raises(fake_server, node):
    infinite = load("geometry_msgs/msg/TransformStamped")()
    infinite.transform.translation.x = math.inf
    for wrong in ("text", LookupTransform.Result(transform=infinite)):

        def execute(handle, wrong=wrong):
            handle.succeed()
            return wrong

        server = ActionServer(node, LookupTransform, "fib", execute)
        before = len(frames(fake_server, "action_result"))
        fake_server.send({**goal("a"), "args": {}})
        with pytest.raises(MessageError):
            spin_until(node, lambda: False, 2.0)
        assert eventually(lambda n=before: len(frames(fake_server, "action_result")) > n)
        assert frames(fake_server, "action_result")[-1]["status"] == ABORTED
        server.destroy()


def test_link_loss_cancels_goals_and_offers_the_action_again(fake_server, node):
    handles, executed = [], []

    def execute(handle):
        executed.append(handle.request.order)
        handle.canceled() if handle.is_cancel_requested else handle.succeed()
        return Fibonacci.Result(sequence=[handle.request.order])

    node.create_publisher(load("std_msgs/msg/String"), "/first", 10)
    ActionServer(node, Fibonacci, "fib", execute, handle_accepted_callback=handles.append)
    node.create_publisher(load("std_msgs/msg/String"), "/last", 10)
    fake_server.send(goal("a", 1))
    assert spin_until(node, lambda: handles)
    counters = node.context.connection.counters
    before = counters["received"]
    fake_server.send(goal("b", 2))  # waits for the executor when the link goes
    assert eventually(lambda: counters["received"] > before)
    fake_server.drop()
    assert eventually(lambda: handles[0].is_cancel_requested)
    mark = len(fake_server.frames)
    fake_server.listen()
    assert eventually(
        lambda: fake_server.connections == 2 and ("advertise", "/last") in fake_server.operations()[mark:]
    )
    again = [frame.get("topic") or frame.get("action") for _, frame in fake_server.frames[mark:]]
    names = [name for name in again if name in ("/first", "/fib", "/last")]
    assert names == ["/first", "/fib", "/last"]
    fake_server.send(goal("a", 7))  # the server that came back counts from the beginning
    assert spin_until(node, lambda: len(handles) == 2)
    for handle in handles:
        handle.execute()
    assert spin_until(node, lambda: results(fake_server))
    assert executed == [1, 7]
    assert results(fake_server) == [("a", SUCCEEDED, [7])]
    assert handles[0].status == CANCELED


def test_result_survives_a_silence_of_the_server(fake_server, node):
    def execute(handle):
        handle.succeed()
        return Fibonacci.Result(sequence=[5])

    handles = []
    ActionServer(node, Fibonacci, "fib", execute, handle_accepted_callback=handles.append)
    fake_server.send(goal("a"))
    assert spin_until(node, lambda: handles)
    connection = node.context.connection
    fake_server.freeze(0.7)
    assert eventually(lambda: not connection.connected)
    handles[0].execute()
    spin_until(node, lambda: not handles[0].is_active)
    assert eventually(lambda: results(fake_server) == [("a", SUCCEEDED, [5])])
    assert fake_server.connections == 1


def test_destroyed_server_withdraws_and_forgets(fake_server, node):
    handles = []
    server = ActionServer(
        node, Fibonacci, "fib", lambda handle: Fibonacci.Result(), handle_accepted_callback=handles.append
    )
    fake_server.send(goal("a"))
    assert spin_until(node, lambda: handles)
    server.destroy()
    assert eventually(lambda: frames(fake_server, "unadvertise_action"))
    assert (handles[0].status, handles[0].is_active) == (0, False)
    handles[0].succeed()  # of a goal that is gone: nothing happens, as natively
    handles[0].publish_feedback(Fibonacci.Feedback())
    assert not frames(fake_server, "action_feedback")
    assert not list(node.waitables)


def test_action_names_are_expanded_but_not_remapped(fake_server):
    context = Context()
    arguments = ["--url", fake_server.url, "--ros-args", "-r", "fib:=other", "-r", "__ns:=/robot"]
    context.init(arguments)
    node = Node("tester", context=context)
    ActionServer(node, Fibonacci, "fib", print)
    ActionServer(node, Fibonacci, "~/own", print)
    assert eventually(lambda: len(frames(fake_server, "advertise_action")) == 2)
    assert [f["action"] for f in frames(fake_server, "advertise_action")] == ["/robot/fib", "/robot/tester/own"]
    node.destroy_node()
    context.shutdown()
