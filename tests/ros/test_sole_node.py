"""Of two policy nodes of one name only the one that can be held drives."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import ROBOT, Start, default_context
from fake_server import FakeServer, eventually
from robot_session import INSTRUCTION, RobotSession

from mcsd_agent.cli import main
from mcsd_agent.errors import UserError
from ros_bridge.connection import Connection
from ros_bridge.operator import Operator
from ros_bridge.policy_node import PolicyNode
from ros_bridge.rclpy.context import Context
from ros_bridge.server import RosbridgeServer


@pytest.mark.parametrize("native", [False, True], ids=["bridge", "native"])
def test_run_refuses_a_name_under_which_somebody_drives_and_takes_another(
    own_server: RosbridgeServer, start: Start, artifact: Path, tmp_path: Path, native: bool
):
    options = ["--native"] if native else ["--url", own_server.url]
    command = ["-m", "mcsd_agent", "run", artifact, "--robot", ROBOT, *options]
    env = own_server.node_environment()
    with RobotSession(own_server, start, artifact, tmp_path, *(["--native"] if native else [])) as session:
        assert start(*command, env=env).wait(60) == 2
        assert session.policy.poll() is None
        start(*command, "--node", "policy2", env=env)
        with Operator(own_server.url, policy="/policy2/") as operator:
            operator.wait_ready(60.0)
            operator.hold(True)
            assert operator.wait(lambda: operator.policy_status().reason == "held", 20.0)
        assert session.operator.policy_status().reason != "held"


def test_refusal_names_the_node_and_the_remedy(fake_server, artifact, capfd):
    pair = {"key": "reason", "value": "ok"}
    message = {"header": {}, "status": [{"level": 0, "name": "policy: nav", "message": "ok", "values": [pair]}]}
    ended = threading.Event()

    def report() -> None:
        while not ended.wait(0.2):
            fake_server.send({"op": "publish", "topic": "/policy/status", "msg": message})

    thread = threading.Thread(target=report)
    thread.start()
    try:
        assert main(["run", str(artifact), "--robot", str(ROBOT), "--url", fake_server.url, "--seconds", "1"]) == 2
    finally:
        ended.set()
        thread.join()
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert line.startswith("error: node 'policy' is running already")
    assert "/policy/status" in line
    assert "--node NAME" in line
    assert ("advertise", "/cmd_vel") not in fake_server.operations()


@pytest.mark.parametrize("name", ["robot1/policy", "1st", ""])
def test_run_refuses_what_is_no_name(artifact, capfd, fake_server, name):
    assert main(["run", str(artifact), "--robot", str(ROBOT), "--url", fake_server.url, "--node", name]) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert line.startswith(f"error: --node {name!r}: ")
    assert not fake_server.connections


def test_node_whose_service_another_client_offers_never_drives(
    own_server: RosbridgeServer, start: Start, artifact: Path, tmp_path: Path
):
    other = Connection(own_server.url)
    other.wait_connected()
    try:
        other.advertise_service("/policy/hold", "std_srvs/srv/SetBool", lambda request: None)
        with RobotSession(own_server, start, artifact, tmp_path) as session:
            operator = session.operator
            operator.set_task(3, instruction=INSTRUCTION)
            operator.instruct(INSTRUCTION)
            ticks = len(session.ticks())
            assert eventually(lambda: len(session.ticks()) > ticks + 15)
            assert {t["reason"] for t in session.ticks()} <= {"robot_error", "missing:instruction", "late"}
            assert operator.policy_status().reason == "robot_error"
            detail = operator.policy_status().values["detail"]
            assert "/policy/hold" in detail
            assert "advertised by another client" in detail
            assert all(c["linear"] == c["angular"] == 0.0 for c in session.log("command"))
    finally:
        other.close()


@pytest.fixture
def context(fake_server: FakeServer) -> Iterator[Context]:
    with default_context(fake_server.url) as context:
        yield context
        context.shutdown()


@pytest.fixture
def node(context: Context, artifact: Path, tmp_path: Path) -> Iterator[PolicyNode]:
    robot = yaml.safe_load(ROBOT.read_text())
    robot["emergency_stop"], robot["heartbeat"] = {"topic": "/stop"}, {"topic": "/beat", "max_silence_s": 1.0}
    path = tmp_path / "robot.yaml"
    path.write_text(yaml.safe_dump(robot))
    node = PolicyNode(artifact, path)
    yield node
    node.destroy_node()


def reason(node: PolicyNode) -> str:
    return node.telemetry.ticks[-1].reason if node.telemetry.ticks else ""


@pytest.mark.parametrize(
    "refused",
    [
        *(f"advertise_service:/policy/{name}" for name in ("hold", "reset", "enable")),
        "subscribe:/stop",
        "subscribe:/beat",
    ],
)
def test_each_that_may_not_be_missing_stops_the_node_until_a_new_link_has_them_all(node, fake_server, refused):
    operation, name = refused.split(":")
    assert eventually(lambda: (operation, name) in fake_server.operations())
    assert eventually(lambda: reason(node) == "heartbeat")
    fake_server.send({"op": "status", "level": "error", "id": refused, "msg": "not for you"})
    assert eventually(lambda: reason(node) == "robot_error")
    assert f"{name}: not for you" in node.telemetry.ticks[-1].detail
    fake_server.drop()
    fake_server.listen()
    assert eventually(lambda: reason(node) == "heartbeat")


def test_what_was_refused_is_asked_for_again_until_the_server_grants_it(node, fake_server):
    assert eventually(lambda: reason(node) == "heartbeat")
    refused = {"op": "status", "level": "error", "id": "advertise_service:/policy/hold", "msg": "held by a dead link"}

    def asked() -> int:
        return fake_server.operations().count(("advertise_service", "/policy/hold"))

    first = asked()
    fake_server.send(refused)
    assert eventually(lambda: reason(node) == "robot_error")
    assert eventually(lambda: asked() == first + 1)
    fake_server.send(refused)
    assert eventually(lambda: asked() == first + 2)
    assert eventually(lambda: reason(node) == "heartbeat")
    assert asked() == first + 2


@pytest.mark.parametrize(
    ("level", "about"), [("warning", "advertise_service:/policy/hold"), ("error", "subscribe:/scan"), ("error", "x")]
)
def test_what_is_only_said_or_about_something_else_stops_nothing(node, fake_server, level, about):
    assert eventually(lambda: reason(node) == "heartbeat")
    said = node.context.connection.counts().get("status_errors", 0) + 1
    fake_server.send({"op": "status", "level": level, "id": about, "msg": "not for you"})
    # A second one, which is heard, shows that the first was.
    fake_server.send({"op": "status", "level": "error", "msg": "said"})
    assert eventually(lambda: node.context.connection.counts().get("status_errors", 0) >= said)
    count = len(node.telemetry.ticks)
    assert eventually(lambda: len(node.telemetry.ticks) > count + 2)
    assert "robot_error" not in {t.reason for t in node.telemetry.ticks}


@pytest.mark.parametrize("policy", ["robot1/policy", "/robot1/policy", "/robot1/policy/"])
def test_operator_takes_a_node_with_or_without_slashes(fake_server, policy):
    with Operator(fake_server.url, policy=policy):
        assert eventually(lambda: ("subscribe", "/robot1/policy/status") in fake_server.operations())
    assert not [name for _, name in fake_server.operations() if "//" in name]


@pytest.mark.parametrize("policy", ["", "/", "a b", "a//b", "1st"])
def test_operator_refuses_what_is_no_node(fake_server, policy):
    with pytest.raises(UserError, match="no valid name") as error:
        Operator(fake_server.url, policy=policy)
    assert repr(policy) in str(error.value)
    assert not fake_server.connections
