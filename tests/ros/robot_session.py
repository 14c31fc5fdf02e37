"""A simulated robot, a policy node and an operator around one real server, with the logs of both sides."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conftest import ROBOT

from ros_bridge.operator import Operator
from ros_bridge.server import RosbridgeServer

INSTRUCTION = "go to the red ball"


class RobotSession:
    """Starts both processes; `operator` talks to them. The caller's `start` fixture ends them.

    The policy is `mcsd-agent run`, or `program`, which is given artifact, robot and URL.
    """

    def __init__(
        self,
        server: RosbridgeServer,
        start: Callable[..., subprocess.Popen[bytes]],
        artifact: Path,
        folder: Path,
        *options: str,
        program: str | None = None,
    ) -> None:
        env = server.node_environment()
        self.robot_log, self.telemetry = folder / "robot.jsonl", folder / "telemetry"
        self.robot = start("-m", "ros_bridge.sim_robot", "--robot", ROBOT, "--log", self.robot_log, env=env)
        run = (
            "-m", "mcsd_agent", "run", artifact, "--robot", ROBOT, "--url", server.url,
            "--telemetry", self.telemetry, *options,
        )  # fmt: skip
        self.policy = start(*(run if program is None else ("-c", program, artifact, ROBOT, server.url)), env=env)
        self.operator = Operator(server.url)

    def __enter__(self) -> RobotSession:
        self.operator.wait_ready(60.0)
        return self

    def __exit__(self, *failure: object) -> None:
        self.operator.close()

    def drive(self) -> None:
        """Say something and wait until the robot moves."""
        self.operator.set_task(3, instruction=INSTRUCTION)
        self.operator.instruct(INSTRUCTION)
        assert self.operator.wait(self.is_driving, 30.0), self.operator.policy_status()

    def is_driving(self) -> bool:
        """Whether the policy drives and the robot obeys."""
        status, state = self.operator.policy_status(), self.operator.sim_state()
        return status is not None and status.reason == "ok" and state is not None and abs(state.data["turn_rate"]) > 0.3

    def log(self, kind: str) -> list[dict[str, Any]]:
        """The robot's "command" or "tick" entries so far."""
        return [entry for entry in _entries(self.robot_log) if entry["kind"] == kind]

    def ticks(self) -> list[dict[str, Any]]:
        """The policy's ticks so far."""
        return _entries(self.telemetry / "telemetry.jsonl")


def _entries(path: Path) -> list[dict[str, Any]]:
    """The lines that are complete: another process is writing."""
    return [json.loads(line) for line in path.read_text().splitlines(True) if line.endswith("\n")]
