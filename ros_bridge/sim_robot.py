"""A simulated robot as a real ROS 2 participant: what `mcsd-agent sim` does.

    python -m ros_bridge.sim_robot --robot configs/robots/diffdrive.yaml

What it publishes and hears is described in `sim_node`.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from mcsd_agent.errors import UserError
from ros_bridge.robot_config import load_robot
from ros_bridge.server import available


def run_sim(robot: str | Path, *, seed: int = 0, log: str | Path | None = None) -> None:
    """Simulate the robot of a YAML file until Ctrl-C, SIGTERM or rclpy's shutdown.

    `seed` makes the first arena; `log` takes one JSON line for every command received and every tick.
    Raises `UserError` when rclpy is not installed or the simulated robot cannot play this one.
    """
    config = load_robot(robot)
    usable, reason = available()
    if not usable:
        raise UserError(f"the simulated robot needs native rclpy: {reason}")
    import rclpy
    from rclpy.executors import ExternalShutdownException

    from ros_bridge.sim_node import SimRobot, check_playable

    check_playable(config)
    rclpy.init(args=[])
    file = Path(log).open("w", encoding="utf-8") if log else None  # noqa: SIM115 (closed below, after the node)
    node = SimRobot(config, file, seed)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
        if file is not None:
            file.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m ros_bridge.sim_robot", description="A simulated robot on ROS 2.")
    parser.add_argument("--robot", type=Path, required=True, help="robot YAML, e.g. configs/robots/diffdrive.yaml")
    parser.add_argument("--seed", type=int, default=0, help="of the first arena")
    parser.add_argument("--log", type=Path, help="write every command received and every tick, one JSON object a line")
    options = parser.parse_args(arguments)
    # SIGTERM ends it like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run_sim(options.robot, seed=options.seed, log=options.log)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
