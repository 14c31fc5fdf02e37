"""Start a policy node and stop it properly: what `mcsd-agent run` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mcsd_agent.runtime import RealTimeConfig, Stream, Telemetry, read_package
from ros_bridge.robot_config import check_fit, load_robot
from ros_bridge.ros_process import choose_backend, ros_process, spin_for
from ros_bridge.sole_node import check_node_name, require_sole


def run_policy(
    artifact: str | Path,
    robot: str | Path,
    *,
    url: str | None = None,
    native: bool = False,
    node_name: str = "policy",
    signed_by: str | Path | None = None,
    engine: str = "auto",
    spoken_ticks: int | None = None,
    telemetry_folder: str | Path | None = None,
    mcap: str | Path | None = None,
    prometheus_port: int | None = None,
    real_time: RealTimeConfig | None = None,
    seconds: float | None = None,
) -> dict[str, Any]:
    """Drive until Ctrl-C, SIGTERM, SIGHUP or `seconds` have passed; returns the telemetry's summary.

    `native=True` uses rclpy, which must be installed and found by this process; otherwise the rosbridge
    server at `url`. `signed_by` is the file of the public key whose signature the artifact must bear.
    `node_name`, `spoken_ticks` and `real_time` as in `PolicyNode`. Raises `UserError` for anything that does not fit,
    and when another node of that name reports already; `KeyboardInterrupt` when ended before the server answered.
    """
    check_node_name(node_name)
    choose_backend(native)
    from ros_bridge.policy_node import PolicyNode

    # What is wrong with the files is said before anything is connected.
    config, stream = load_robot(robot), Stream(read_package(artifact, signed_by), engine)
    check_fit(stream.spec.observation, stream.spec.action, stream.spec.rate_hz, config)
    telemetry = Telemetry()
    if telemetry_folder is not None:
        telemetry.write_to(telemetry_folder)
    if mcap is not None:
        telemetry.write_mcap(mcap)
    exporter = None
    try:
        with ros_process(url) as rclpy:
            require_sole(rclpy, node_name)
            if prometheus_port is not None:
                from mcsd_agent.runtime.prometheus import Exporter

                exporter = Exporter(telemetry, prometheus_port)
            node = PolicyNode(
                stream,
                config,
                node_name=node_name,
                spoken_ticks=spoken_ticks,
                telemetry=telemetry,
                real_time=real_time,
            )
            try:
                spin_for(rclpy, node, seconds)
            finally:
                node.destroy_node()
    finally:
        if exporter is not None:
            exporter.close()
        telemetry.close()
    return telemetry.summary()
