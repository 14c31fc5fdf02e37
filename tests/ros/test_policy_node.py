"""The policy node drives a simulated robot on genuine rclpy: the same source, over the bridge and natively."""

from __future__ import annotations

import json
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import ROBOT, Start
from counting_policy import FIRST, STEP, TURN, counting_artifact
from fake_server import eventually
from robot_session import INSTRUCTION, RobotSession

from mcsd_agent.cli import main
from mcsd_agent.runtime.telemetry_read import read_log
from ros_bridge.connection import Connection
from ros_bridge.server import RosbridgeServer, free_port

#: Ticks since a reset after which the policy takes its instruction to be carried out.
DONE_AFTER = 20


@pytest.fixture(params=["bridge", "native"])
def session(
    request: pytest.FixtureRequest, own_server: RosbridgeServer, start: Start, tmp_path: Path
) -> Iterator[RobotSession]:
    artifact = tmp_path / "counting.mcsd"
    artifact.write_bytes(counting_artifact(done_after=DONE_AFTER))
    options = ["--native"] if request.param == "native" else []
    with RobotSession(own_server, start, artifact, tmp_path, *options) as session:
        yield session


def test_policy_node_drives_reports_and_obeys(session, own_server, capfd):
    operator = session.operator
    # Nothing was said: it stands still and says why.
    assert operator.wait(lambda: operator.policy_status().reason == "missing:instruction", 20.0)
    assert operator.sim_state().data["speed"] < 0.01
    session.drive()

    commands = [c for c in session.log("command") if c["angular"] > 0]
    assert all(c["angular"] == pytest.approx(TURN) for c in commands)

    # Unknown words are reported, and it holds until it is told something that it knows.
    status = operator.instruct("go to the purple ball")
    assert status.values["unknown_words"] == "purple"
    assert "purple" in operator.sim_state().error or operator.wait(lambda: "purple" in operator.sim_state().error, 20.0)
    assert operator.wait(lambda: operator.policy_status().reason == "not_understood", 20.0)
    assert "purple" in operator.policy_status().values["not_understood"]
    operator.instruct(INSTRUCTION)
    assert operator.wait(session.is_driving, 20.0)

    # Held, it stands still and keeps its memory; then it goes on counting.
    operator.hold(True)
    assert operator.wait(lambda: operator.policy_status().reason == "held", 20.0)
    assert operator.wait(lambda: abs(operator.sim_state().data["turn_rate"]) < 0.01, 20.0)
    held_at = [c["linear"] for c in session.log("command") if c["angular"] > 0][-1]
    operator.hold(False)
    assert operator.wait(session.is_driving, 20.0)
    after = [c["linear"] for c in session.log("command") if c["angular"] > 0][-1]
    assert held_at < after < held_at + 50 * STEP

    # Reset, it forgets: it waits for words, and counts from the beginning.
    operator.reset_memory()
    assert operator.wait(lambda: operator.policy_status().reason == "missing:instruction", 20.0)
    mark = time.monotonic()
    operator.instruct(INSTRUCTION)
    assert operator.wait(session.is_driving, 20.0)
    again = [c for c in session.log("command") if c["t"] > mark and c["angular"] > 0]
    assert FIRST - 1e-6 <= again[0]["linear"] < held_at

    # A goal ends by itself when the policy has been sure for five ticks; then the robot stands still.
    operator.reset_memory()
    assert main(["instruct", INSTRUCTION, "--wait", "60", "--json", "--url", own_server.url]) == 0
    end = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert (end["state"], end["success"]) == ("succeeded", True)
    assert operator.wait(lambda: operator.policy_status().reason == "missing:instruction", 20.0)
    assert operator.wait(lambda: abs(operator.sim_state().data["turn_rate"]) < 0.01, 20.0)

    # Ended by SIGTERM, it tells the robot to stop before it goes.
    session.policy.send_signal(signal.SIGTERM)
    assert session.policy.wait(10) == 0
    assert eventually(lambda: session.log("command")[-1]["angular"] == 0.0)
    assert session.log("command")[-1]["linear"] == 0.0
    ticks = session.ticks()
    # What the robot got is what the policy sent, in that order and nothing twice.
    sent = iter([round(t["action_sent"][0], 6) for t in ticks if t["reason"] == "ok"])
    assert all(round(c["linear"], 6) in sent for c in session.log("command") if c["angular"] > 0)
    usual = {"missing:instruction", "not_understood", "ok", "held", "late", "disconnected"}  # on a busy machine
    assert {t["reason"] for t in ticks} <= usual | {
        f"{kind}:{name}" for kind in ("missing", "stale") for name in ("ranges", "labels", "wheel_velocities")
    }
    assert max(t["oldest_s"] for t in ticks if t["reason"] == "ok") <= 0.3
    # The goal was the last to be driven: it took the ticks that the policy takes to be sure, and those to be believed.
    begin = max(i for i, t in enumerate(ticks) if t["reason"] == "ok" and abs(t["action_sent"][0] - FIRST) < 1e-6)
    estimates = [t["success"] for t in ticks[begin:] if t["success"] is not None]
    assert len(estimates) >= DONE_AFTER + 5
    assert estimates[0] < 0.5
    assert min(estimates[-5:]) >= 0.8


def test_robot_whose_process_dies_is_told_to_stop_until_it_returns(
    own_server: RosbridgeServer, start: Start, artifact: Path, tmp_path: Path
):
    with RobotSession(own_server, start, artifact, tmp_path) as session:
        session.drive()
        session.robot.kill()
        assert session.operator.wait(lambda: session.operator.policy_status().reason.startswith("stale:"), 20.0)
        start("-m", "ros_bridge.sim_robot", "--robot", ROBOT, env=own_server.node_environment())
        assert session.operator.wait(session.is_driving, 20.0)


#: The README's.
PROGRAM = """
import sys
import ros_bridge.rclpy as rclpy
from ros_bridge.policy_node import PolicyNode

rclpy.init(args=["--url", sys.argv[3]])
node = PolicyNode(sys.argv[1], sys.argv[2])
try:
    rclpy.spin(node)
finally:
    node.destroy_node()
"""


@pytest.mark.parametrize(
    ("program", "signals", "code"),
    [
        (None, [signal.SIGHUP] * 2, 0),  # a terminal that goes away sends one, and its shell another
        (PROGRAM, [signal.SIGTERM] * 2, 1),
    ],
    ids=["run", "program"],
)
def test_the_last_command_of_a_process_that_is_told_to_end_is_a_stop(
    own_server: RosbridgeServer, start: Start, artifact: Path, tmp_path: Path, program, signals, code
):
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # what is started inherits it
    try:
        session = RobotSession(own_server, start, artifact, tmp_path, program=program)
    finally:
        signal.signal(signal.SIGHUP, before)
    with session:
        session.drive()
        for number in signals:
            session.policy.send_signal(number)
            time.sleep(0.02)
        assert session.policy.wait(10) == code
        assert eventually(lambda: session.log("command")[-1]["angular"] == 0.0)
        assert session.log("command")[-1]["linear"] == 0.0


def test_robot_waits_for_heartbeats_and_every_tick_is_recorded_and_served(
    own_server: RosbridgeServer, start: Start, artifact: Path, tmp_path: Path
):
    robot = yaml.safe_load(ROBOT.read_text())
    robot["heartbeat"] = {"topic": "/heartbeat", "max_silence_s": 1.0}
    path, recording, port = tmp_path / "robot.yaml", tmp_path / "run.mcap", free_port()
    path.write_text(yaml.safe_dump(robot))
    options = ["--robot", path, "--mcap", recording, "--prometheus", str(port)]
    # Where the system does not permit these, it says so and drives all the same.
    options += ["--cpu", "0", "--fifo", "20", "--lock-memory"]
    with RobotSession(own_server, start, artifact, tmp_path, *options) as session:
        operator, beats = session.operator, Connection(own_server.url)
        beating, done = threading.Event(), threading.Event()

        def beat():
            while not done.wait(0.1):
                if beating.is_set():
                    beats.publish("/heartbeat", {})

        beats.wait_connected()
        beats.advertise("/heartbeat", "std_msgs/msg/Empty")
        thread = threading.Thread(target=beat)
        thread.start()
        try:
            operator.instruct(INSTRUCTION)
            assert operator.wait(lambda: operator.policy_status().reason == "heartbeat", 20.0)
            assert operator.policy_status().values["mode"] == "ready"
            beating.set()
            assert operator.wait(lambda: operator.policy_status().values["mode"] == "running", 20.0)
            metrics = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
            assert 'mcsd_mode{mode="running"} 1.0' in metrics
            beating.clear()
            assert operator.wait(lambda: operator.policy_status().reason == "heartbeat", 20.0)
            assert operator.wait(lambda: operator.policy_status().values["mode"] == "stopped", 20.0)
        finally:
            done.set()
            thread.join()
            beats.close()
        session.policy.send_signal(signal.SIGTERM)
        assert session.policy.wait(10) == 0
        recorded = read_log(recording)
        assert [t["index"] for t in recorded] == [t["index"] for t in session.ticks()]
        assert {"heartbeat", "ok"} <= {t["reason"] for t in recorded}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"rate_hz": 25.0}, "senses at 10 Hz"),
        ({"missing": True}, "No such file"),
    ],
)
def test_artifact_that_does_not_fit_ends_with_one_line_and_code_2(tmp_path, capfd, fake_server, change, part):
    path = tmp_path / "a.mcsd"
    if "missing" not in change:
        path.write_bytes(counting_artifact(**change))
    assert main(["run", str(path), "--robot", str(ROBOT), "--url", fake_server.url]) == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert part in lines[0]


def test_unreachable_server_ends_with_one_line_and_code_2(artifact, capfd, monkeypatch):
    monkeypatch.setattr("ros_bridge.rclpy.context.CONNECT_TIMEOUT_S", 0.3)
    url = f"ws://127.0.0.1:{free_port()}"
    assert main(["run", str(artifact), "--robot", str(ROBOT), "--url", url]) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert line.startswith(f"error: no rosbridge server at {url}")
