"""The robot that the demo drives: a simulated one on ROS, or the simulator in this process where ROS cannot be had."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from mcsd_agent.errors import UserError
from mcsd_agent.runtime import Controller, EnvRobot, Stream, Telemetry

_POLL_S = 0.05


class DemoRobot(Protocol):
    """Arranges arenas, hears orders, and says how things stand. A context manager: leaving it ends everything."""

    description: str

    def __enter__(self) -> DemoRobot: ...

    def __exit__(self, *failure: object) -> None: ...

    def arrange(self, arena: int, order: str) -> None:
        """A new arena that holds what `order` names; the policy's memory is emptied."""
        ...

    def say(self, text: str) -> None:
        """Tell the robot."""
        ...

    def state(self) -> dict[str, Any]:
        """The truth: `NavEnv.world_state()`, with `ranges` and `labels` of the newest scan."""
        ...

    def ticks(self, since: float, until: float) -> list[dict[str, Any]]:
        """Telemetry between two times of the monotonic clock."""
        ...


class RosDemoRobot:
    """Three processes: rosbridge server, simulated robot on real rclpy, policy node over the bridge."""

    def __init__(self, artifact: Path, robot: Path, out: Path) -> None:
        self.artifact, self.robot_yaml, self.out = artifact, robot, out
        self.description = ""
        self._stack = ExitStack()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> RosDemoRobot:
        from ros_bridge.operator import Operator
        from ros_bridge.server import RosbridgeServer

        logs = self.out / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        try:
            self.server = self._stack.enter_context(RosbridgeServer(log=logs / "server.log"))
            self.description = f"real rclpy and rosbridge at {self.server.url}"
            sim = ["ros_bridge.sim_robot", "--robot", str(self.robot_yaml)]
            policy = ["mcsd_agent", "run", str(self.artifact), "--robot", str(self.robot_yaml)]
            policy += ["--url", self.server.url, "--telemetry", str(self.out)]
            self._start("sim", sim, logs, self.server.node_environment())
            self._start("policy", policy, logs, None)
            self.operator = self._stack.enter_context(Operator(self.server.url))
            self._wait_ready()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *failure: object) -> None:
        self._stack.close()

    def arrange(self, arena: int, order: str) -> None:
        """See `DemoRobot`."""
        self._check_alive()
        self.operator.reset_memory()
        self.operator.set_task(arena, instruction=order)

    def say(self, text: str) -> None:
        """See `DemoRobot`."""
        self.operator.instruct(text)

    def state(self) -> dict[str, Any]:
        """See `DemoRobot`."""
        self._check_alive()
        state = self.operator.sim_state()
        return {} if state is None else dict(state.data)

    def ticks(self, since: float, until: float) -> list[dict[str, Any]]:
        """From the policy process's telemetry file; the monotonic clock is the same for all processes of a machine."""
        time.sleep(0.3)  # the file is written by a thread of its own
        rows = []
        for line in (self.out / "telemetry.jsonl").read_text().splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue  # the line being written
            if since <= row["time"] <= until:
                rows.append(row)
        return rows

    def _start(self, name: str, module: list[str], logs: Path, environment: dict[str, str] | None) -> None:
        from ros_bridge.server import end_group

        log = self._stack.enter_context((logs / f"{name}.log").open("wb"))
        process = subprocess.Popen(
            [sys.executable, "-m", *module],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._processes[name] = process
        self._stack.callback(end_group, process)

    def _wait_ready(self, timeout_s: float = 60.0) -> None:
        deadline = time.monotonic() + timeout_s
        while self.operator.policy_status() is None or self.operator.sim_state() is None:
            self._check_alive()
            if time.monotonic() > deadline:
                raise UserError(f"robot and policy did not report within {timeout_s:g} s; see {self.out / 'logs'}")
            time.sleep(_POLL_S)

    def _check_alive(self) -> None:
        for name, process in self._processes.items():
            if process.poll() is not None:
                log = self.out / "logs" / f"{name}.log"
                words = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-1:]
                raise UserError(
                    f"the {name} process ended with code {process.returncode}: {' '.join(words)} (see {log})"
                )


class InProcessDemoRobot:
    """The same policy and controller on the environment itself, in real time; used where ROS wheels do not exist."""

    def __init__(self, artifact: Path, out: Path, why: str) -> None:
        from envs.nav import NavEnv

        self.description = f"the simulator in this process, because {why}"
        self.telemetry = Telemetry()
        self.telemetry.write_to(out)
        self._env = NavEnv()
        self._robot = EnvRobot(self._env)
        self._stream = Stream.load(artifact)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._arranged = (0, "")

    def __enter__(self) -> InProcessDemoRobot:
        return self

    def __exit__(self, *failure: object) -> None:
        self._end()
        self.telemetry.close()

    def arrange(self, arena: int, order: str) -> None:
        """See `DemoRobot`; the robot starts when it is told something."""
        self._end()
        self._robot.reset(seed=arena, options={"instruction": order})

    def say(self, text: str) -> None:
        """See `DemoRobot`."""
        self._env.set_instruction(text)
        if self._thread is None:
            self._robot.stop("arranged")  # one tick of standing still, so that the robot hears it from the start
            controller = Controller(self._stream, self._robot, telemetry=self.telemetry)
            self._stop = threading.Event()
            self._thread = threading.Thread(target=controller.run, args=(self._stop,), daemon=True)
            self._thread.start()

    def state(self) -> dict[str, Any]:
        """See `DemoRobot`."""
        ranges, labels = self._env.world.scan()
        return self._env.world_state() | {"ranges": ranges.tolist(), "labels": labels.tolist()}

    def ticks(self, since: float, until: float) -> list[dict[str, Any]]:
        """See `DemoRobot`."""
        return [t.to_json() for t in self.telemetry.ticks if since <= t.time <= until]

    def _end(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
