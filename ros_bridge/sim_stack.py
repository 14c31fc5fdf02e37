"""A rosbridge server and the simulated robot behind it, as one command: `mcsd-agent sim`."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path

from mcsd_agent.errors import UserError
from ros_bridge.orphans import Keeper
from ros_bridge.robot_config import load_robot
from ros_bridge.ros_process import interrupted_by_signals
from ros_bridge.server import RosbridgeServer, end_group

_POLL_S = 0.2


def run_sim_stack(robot: str | Path, *, port: int = 9090, seed: int = 0, seconds: float | None = None) -> None:
    """Serve until Ctrl-C, SIGTERM, SIGHUP or `seconds` have passed; both processes are ended then.

    They are ended too when this one is killed. Raises `UserError` for a bad robot YAML, a port in use, or where ROS
    cannot be had.
    """
    load_robot(robot)
    server = RosbridgeServer(port=port)
    with contextlib.suppress(KeyboardInterrupt), interrupted_by_signals(), Keeper() as keeper:
        try:
            # Not as a context: one that is interrupted while it starts would not be stopped.
            server.start()
            assert server.pid is not None
            keeper.watch(server.pid)
            _run_robot(robot, server, keeper, seed, seconds)
        finally:
            server.stop()


def _run_robot(robot: str | Path, server: RosbridgeServer, keeper: Keeper, seed: int, seconds: float | None) -> None:
    """The simulated robot behind `server`, until it is interrupted or `seconds` have passed."""
    command = [sys.executable, "-m", "ros_bridge.sim_robot", "--robot", str(robot), "--seed", str(seed)]
    process = subprocess.Popen(command, env=server.node_environment(), stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        keeper.watch(process.pid)
        print(f"simulated robot at {server.url} (ROS domain {server.domain_id}); stop with Ctrl-C", flush=True)
        print(f"  mcsd-agent run nav.mcsd --robot {robot} --url {server.url}")
        print(f'  mcsd-agent instruct "go to the red ball" --url {server.url}', flush=True)
        end = None if seconds is None else time.monotonic() + seconds
        while end is None or time.monotonic() < end:
            code = process.poll()
            if code is not None:
                raise UserError(f"the simulated robot ended by itself with code {code}; see its message above")
            time.sleep(_POLL_S)
    finally:
        end_group(process)
