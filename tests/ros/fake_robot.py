"""A robot behind the fake server: it publishes joint states, answers its reset service, and remembers its commands."""

from __future__ import annotations

import threading
import time
from typing import Any

from fake_server import FakeServer

from mcsd_agent.strict import build
from ros_bridge.robot_config import RobotConfig

RATE_HZ = 20.0

#: One joint to look at, two speeds to command.
ROBOT: dict[str, Any] = {
    "name": "fake",
    "rate_hz": RATE_HZ,
    "watchdog_s": 0.25,
    "observations": {
        "joint": {"topic": "/joint_states", "max_age_s": 0.25, "joints": {"names": ["a"], "quantity": "position"}}
    },
    "action": {"topic": "/cmd_vel", "fields": ["linear.x", "angular.z"], "low": [0.0, -1.0], "high": [0.5, 1.0]},
}


def robot_config(**changes: Any) -> RobotConfig:
    """The robot with other top-level keys, or other keys of its action."""
    action = {**ROBOT["action"], **changes.pop("action", {})}
    return build(RobotConfig, {**ROBOT, **changes, "action": action})


class FakeRobot:
    """Publishes at `RATE_HZ` while `speaking`; its position counts the messages since the last reset."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.speaking = True
        self.resets = 0
        self.position = 0.0
        self._answered = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> FakeRobot:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._done.set()
        self._thread.join()

    def commands(self) -> list[tuple[float, float]]:
        """`(linear.x, angular.z)` of every command so far."""
        messages = [f["msg"] for _, f in list(self.server.frames) if f["op"] == "publish" and f["topic"] == "/cmd_vel"]
        return [(m["linear"]["x"], m["angular"]["z"]) for m in messages]

    def _run(self) -> None:
        deadline = time.monotonic()
        while not self._done.wait(max(0.0, deadline - time.monotonic())):
            deadline += 1 / RATE_HZ
            self._answer()
            if self.speaking:
                self.position += 1.0
                message = {"name": ["a"], "position": [self.position], "velocity": [], "effort": []}
                self.server.send({"op": "publish", "topic": "/joint_states", "msg": message})

    def _answer(self) -> None:
        calls = [f for _, f in list(self.server.frames) if f["op"] == "call_service" and f["service"] == "/reset"]
        for call in calls[self._answered :]:
            fits = call.get("type") == "std_srvs/srv/Trigger"
            if fits:
                self.resets, self.position = self.resets + 1, 0.0
            values = {"success": True, "message": ""} if fits else "it has another type"
            answer = {"id": call["id"], "service": "/reset", "values": values, "result": fits}
            self.server.send({"op": "service_response", **answer})
        self._answered = len(calls)
