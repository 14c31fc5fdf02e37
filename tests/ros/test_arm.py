"""The arm of `configs/robots/arm.yaml`: pictures in, trajectories out, the emergency stop, goals; on both backends."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from arm_policy import STEP, arm_artifact
from conftest import ROOT, Start, require_compiler
from fake_server import eventually

from mcsd_agent.cli import main
from mcsd_agent.errors import UserError
from mcsd_agent.runtime import Stream, read_package
from ros_bridge.compiled_types import compile_types
from ros_bridge.connection import Connection
from ros_bridge.operator import Operator
from ros_bridge.own_types import FOLDER
from ros_bridge.robot_config import check_fit, load_robot
from ros_bridge.server import RosbridgeServer

ARM = ROOT / "configs/robots/arm.yaml"


class ArmSession:
    """The arm, the policy node, an operator and the button; `positions()` are those that were commanded."""

    def __init__(self, server: RosbridgeServer, start: Start, folder: Path, *options: str) -> None:
        env = self.environment = server.node_environment()
        self.url, self._log = server.url, folder / "arm.jsonl"
        artifact = folder / "arm.mcsd"
        artifact.write_bytes(arm_artifact())
        start(Path(__file__).with_name("native_arm.py"), self._log, env=env)
        start("-m", "mcsd_agent", "run", artifact, "--robot", ARM, "--url", server.url, *options, env=env)
        self.operator = Operator(server.url)
        self.button = Connection(server.url)
        self.button.wait_connected()
        self.button.advertise("/emergency_stop", "std_msgs/msg/Bool")

    def commands(self) -> list[dict]:
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    def reason(self) -> str:
        return self.operator.policy_status().reason

    def press(self, is_pressed: bool) -> None:
        self.button.publish("/emergency_stop", {"data": is_pressed})


@pytest.fixture(params=["bridge", pytest.param("native", marks=pytest.mark.slow)])
def arm(request: pytest.FixtureRequest, start: Start, tmp_path: Path) -> Iterator[ArmSession]:
    require_compiler()
    with RosbridgeServer(log=tmp_path / "server.log", prefixes=[compile_types(FOLDER)]) as server:
        session = ArmSession(server, start, tmp_path, *(["--native"] if request.param == "native" else []))
        with session.operator:
            session.operator.wait_ready(20.0, sim=False)
            yield session
        session.button.close()


def test_the_arms_policy_fits_its_yaml(tmp_path):
    path = tmp_path / "arm.mcsd"
    path.write_bytes(arm_artifact())
    spec = Stream(read_package(path)).spec
    check_fit(spec.observation, spec.action, spec.rate_hz, load_robot(ARM))


def test_arm_is_driven_stopped_and_given_goals(arm, capfd):
    operator = arm.operator
    assert operator.wait(lambda: arm.reason() == "missing:instruction", 20.0)
    # A stop is the position where it is; nothing has moved it.
    assert eventually(lambda: bool(arm.commands()))
    assert all(c["positions"] == [0.0] * 6 for c in arm.commands())

    ends: list = []
    seen: list[tuple[float, float]] = []
    runner = threading.Thread(
        target=lambda: ends.append(operator.execute("go to the red ball", 60.0, lambda p, c: seen.append((p, c))))
    )
    runner.start()
    assert operator.wait(lambda: arm.reason() == "ok", 20.0), operator.policy_status()
    assert eventually(lambda: arm.commands()[-1]["positions"][0] > 3 * STEP)
    steps = np.diff([c["positions"][0] for c in arm.commands()])
    assert steps.max() <= STEP + 1e-5
    assert arm.commands()[-1]["names"] == [f"joint_{i}" for i in range(1, 7)]
    assert arm.commands()[-1]["ns"] == 100_000_000

    # The button ends the goal, and stays in force when it is released.
    assert operator.wait(lambda: arm.press(True) or arm.reason() == "emergency_stop", 20.0)
    runner.join(10)
    assert (ends[0].state, ends[0].success) == ("aborted", False)
    assert "emergency stop" in ends[0].message
    assert seen[-1][1] == -1.0
    stood = arm.commands()[-1]["positions"]
    with pytest.raises(UserError, match="still pressed"):
        operator.enable()
    arm.press(False)
    operator.instruct("go to the red ball")
    assert not operator.wait(lambda: arm.reason() != "emergency_stop", 0.5)
    assert arm.commands()[-1]["positions"] == stood

    # Enabled, it goes on; a goal whose time is up says so, and leaves it standing.
    assert eventually(lambda: _enabled(operator))
    assert operator.wait(lambda: arm.reason() == "ok", 20.0)
    assert main(["instruct", "go to the ball", "--wait", "0.5", "--json", "--url", arm.url]) == 1
    end = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert (end["state"], end["success"]) == ("aborted", False)
    assert "0.5 s are over" in end["message"]
    assert operator.wait(lambda: arm.reason() == "missing:instruction", 20.0)


def test_native_client_sends_goals_to_the_action(arm, start):
    client = start(Path(__file__).with_name("native_goal_client.py"), env=arm.environment)
    words, _ = client.communicate(timeout=60)
    assert client.returncode == 0
    result = json.loads(words)
    timed_out = result["timed_out"]
    assert (timed_out["status"], timed_out["success"]) == ("aborted", False)
    assert "0.8 s are over" in timed_out["message"]
    progress = [p for p, _ in timed_out["feedback"]]
    assert len(progress) >= 3
    assert progress == sorted(progress)
    assert all(0 <= p < 1 for p in progress)
    assert {confidence for _, confidence in timed_out["feedback"]} == {-1.0}
    assert result["refused"]
    assert result["canceled"]["status"] == "canceled"
    assert result["preempted"]["status"] == "aborted"
    assert "another goal came: go to the red ball" in result["preempted"]["message"]
    assert "0.5 s are over" in result["preempting"]["message"]
    # It stands still then.
    assert arm.operator.wait(lambda: arm.reason() == "missing:instruction", 20.0)


def _enabled(operator: Operator) -> bool:
    try:
        operator.enable()
    except UserError:  # the released button has not been heard yet
        return False
    return True
