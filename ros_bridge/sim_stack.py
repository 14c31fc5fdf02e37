"""A rosbridge server and the simulated robot behind it, as one command: `mcsd-agent sim`."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from mcsd_agent.errors import UserError
from ros_bridge.robot_config import load_robot
from ros_bridge.server import RosbridgeServer, end_group

_POLL_S = 0.2


def run_sim_stack(robot: str | Path, *, port: int = 9090, seed: int = 0, seconds: float | None = None) -> None:
    """Serve until Ctrl-C or `seconds` have passed; both processes are ended then.

    Raises `UserError` for a bad robot YAML, a port in use, or where ROS cannot be had.
    """
    load_robot(robot)
    with RosbridgeServer(port=port) as server:
        command = [sys.executable, "-m", "ros_bridge.sim_robot", "--robot", str(robot), "--seed", str(seed)]
        process = subprocess.Popen(
            command, env=server.node_environment(), stdin=subprocess.DEVNULL, start_new_session=True
        )
        print(f"simulated robot at {server.url} (ROS domain {server.domain_id}); stop with Ctrl-C", flush=True)
        print(f"  mcsd-agent run nav.mcsd --robot {robot} --url {server.url}")
        print(f'  mcsd-agent instruct "go to the red ball" --url {server.url}', flush=True)
        end = None if seconds is None else time.monotonic() + seconds
        try:
            while end is None or time.monotonic() < end:
                code = process.poll()
                if code is not None:
                    raise UserError(f"the simulated robot ended by itself with code {code}; see its message above")
                time.sleep(_POLL_S)
        except KeyboardInterrupt:
            pass
        finally:
            end_group(process)
