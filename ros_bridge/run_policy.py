"""Start a policy node and stop it properly: what `mcsd-agent run` does."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

from mcsd_agent.errors import UserError
from mcsd_agent.runtime import RealTimeConfig, Stream, Telemetry, read_package
from ros_bridge.robot_config import check_fit, load_robot


def run_policy(
    artifact: str | Path,
    robot: str | Path,
    *,
    url: str | None = None,
    native: bool = False,
    signed_by: str | Path | None = None,
    engine: str = "onnx",
    spoken_ticks: int | None = None,
    telemetry_folder: str | Path | None = None,
    mcap: str | Path | None = None,
    prometheus_port: int | None = None,
    real_time: RealTimeConfig | None = None,
    seconds: float | None = None,
) -> dict[str, Any]:
    """Drive until Ctrl-C, SIGTERM or `seconds` have passed; returns the telemetry's summary.

    `native=True` uses rclpy, which must be installed and found by this process; otherwise the rosbridge
    server at `url`. `signed_by` is the file of the public key whose signature the artifact must bear.
    `spoken_ticks` and `real_time` as in `PolicyNode`. Raises `UserError` for anything that does not fit.
    """
    if native:
        import_native()
    from ros_bridge.backend import NATIVE, ExternalShutdownException, rclpy
    from ros_bridge.policy_node import PolicyNode

    if native != NATIVE:
        raise UserError(f"native={native}: this process has chosen the other backend already; start a fresh one")
    # What is wrong with the files is said before anything is connected.
    config, stream = load_robot(robot), Stream(read_package(artifact, signed_by), engine)
    check_fit(stream.spec.observation, stream.spec.action, stream.spec.rate_hz, config)
    telemetry = Telemetry()
    if telemetry_folder is not None:
        telemetry.write_to(telemetry_folder)
    if mcap is not None:
        telemetry.write_mcap(mcap)
    arguments = ["--url", url] if url else []
    options: dict[str, Any] = {}
    if native:
        # rclpy's own handler would shut the context down before the robot has been told to stop.
        from rclpy.signals import SignalHandlerOptions

        options["signal_handler_options"] = SignalHandlerOptions.NO
    previous = _interrupt_on_terminate()
    node = exporter = None
    try:
        if prometheus_port is not None:
            from mcsd_agent.runtime.prometheus import Exporter

            exporter = Exporter(telemetry, prometheus_port)
        rclpy.init(args=arguments, **options)
        node = PolicyNode(stream, config, spoken_ticks=spoken_ticks, telemetry=telemetry, real_time=real_time)
        _spin(rclpy, node, seconds)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
        if exporter is not None:
            exporter.close()
        telemetry.close()
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)
    return telemetry.summary()


def import_native() -> None:
    """Make this process one of native rclpy; `UserError` where there is none."""
    try:
        import rclpy  # noqa: F401
    except ImportError as error:
        raise UserError(f"native rclpy cannot be imported ({error}); leave --native out to use rosbridge") from None


def _interrupt_on_terminate() -> Any:
    """SIGTERM acts like Ctrl-C, so that the robot is told to stop; returns the handler to put back, or None."""
    if threading.current_thread() is not threading.main_thread():
        return None

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    return signal.signal(signal.SIGTERM, interrupt)


def _spin(rclpy: Any, node: Any, seconds: float | None) -> None:
    executor = rclpy.get_global_executor()
    executor.add_node(node)
    end = None if seconds is None else time.monotonic() + seconds
    while rclpy.ok():
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            return
        executor.spin_once(timeout_sec=left)
