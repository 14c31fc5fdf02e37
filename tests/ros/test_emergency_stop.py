"""The emergency stop comes before everything: also when nobody runs the node's other callbacks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from conftest import ROBOT, default_context
from fake_server import FakeServer, eventually

from ros_bridge.policy_node import PolicyNode
from ros_bridge.rclpy.executors import SingleThreadedExecutor


@pytest.fixture
def node(fake_server: FakeServer, artifact: Path, tmp_path: Path) -> Iterator[PolicyNode]:
    robot = yaml.safe_load(ROBOT.read_text())
    robot["emergency_stop"] = {"topic": "/emergency_stop"}
    path = tmp_path / "robot.yaml"
    path.write_text(yaml.safe_dump(robot))
    with default_context(fake_server.url) as context:
        node = PolicyNode(artifact, path)
        yield node
        node.destroy_node()
        context.shutdown()


def press(server: FakeServer, is_pressed: bool, until: Callable[[], bool]) -> bool:
    """A button that repeats itself, as it should: on a busy machine the link may be lost, and a message with it."""

    def is_heard() -> bool:
        server.send({"op": "publish", "topic": "/emergency_stop", "msg": {"data": is_pressed}})
        return eventually(until, 0.2)

    return eventually(is_heard)


def call(server: FakeServer, service: str, **args: bool) -> dict:
    """What a service of the node answers; asked again, should the link have been lost."""
    before = len(server.frames)

    def answers() -> list[dict]:
        return [f for _, f in list(server.frames)[before:] if f["op"] == "service_response"]

    def is_answered() -> bool:
        server.send({"op": "call_service", "id": "1", "service": f"/policy/{service}", "args": args})
        return eventually(lambda: bool(answers()), 2.0)

    assert eventually(is_answered)
    return answers()[0]["values"]


def test_button_is_heard_while_the_executor_is_busy(node, fake_server):
    assert eventually(lambda: ("subscribe", "/emergency_stop") in fake_server.operations())
    # Nobody spins the node: its executor might as well be at work on a picture.
    assert press(fake_server, True, lambda: node.robot.is_halted)
    assert eventually(lambda: [t.reason for t in node.telemetry.ticks[-1:]] == ["emergency_stop"])
    assert press(fake_server, False, lambda: not node._emergency.is_pressed)
    assert not eventually(lambda: node.telemetry.ticks[-1].reason != "emergency_stop", 0.3)


def test_only_enable_ends_it_and_only_when_the_button_is_out(node, fake_server):
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin)
    thread.start()
    try:
        assert press(fake_server, True, lambda: node.robot.is_halted)
        assert call(fake_server, "hold", data=False)["success"]
        assert node.robot.is_halted
        refused = call(fake_server, "enable")
        assert not refused["success"]
        assert "still pressed" in refused["message"]
        assert press(fake_server, False, lambda: call(fake_server, "enable")["success"])
        assert not node.robot.is_halted
        assert eventually(lambda: node.telemetry.ticks[-1].reason != "emergency_stop")
        assert node.status()["emergency_stops"] == "1"
    finally:
        executor.shutdown()
        thread.join(5)
