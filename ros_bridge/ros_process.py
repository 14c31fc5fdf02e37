"""A process that is one node, such as `mcsd-agent run` and `guard`: its backend, its signals, its end."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from mcsd_agent.errors import UserError

#: Signals that came since the process became a node.
_signals: list[int] = []


def import_native(remedy: str = "leave --native out to use rosbridge") -> None:
    """Make this process one of native rclpy; `UserError` with `remedy` where there is none."""
    try:
        import rclpy  # noqa: F401
    except ImportError as error:
        raise UserError(f"native rclpy cannot be imported ({error}); {remedy}") from None


def choose_backend(native: bool) -> None:
    """Native rclpy or the bridge, for the whole process; `UserError` when it has chosen the other one already."""
    if native:
        import_native()
    from ros_bridge.backend import NATIVE

    if native != NATIVE:
        raise UserError(f"native={native}: this process has chosen the other backend already; start a fresh one")


@contextlib.contextmanager
def ros_process(url: str | None = None) -> Iterator[Any]:
    """rclpy of the backend, from `init` to `shutdown`; Ctrl-C and SIGTERM end the block quietly."""
    from ros_bridge.backend import NATIVE, ExternalShutdownException, rclpy

    options: dict[str, Any] = {}
    if NATIVE:
        # rclpy's own handler would shut the context down before the robot has been told to stop.
        from rclpy.signals import SignalHandlerOptions

        options["signal_handler_options"] = SignalHandlerOptions.NO
    previous = _interrupt_on_signals()
    try:
        rclpy.init(args=["--url", url] if url and not NATIVE else [], **options)
        yield rclpy
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()
        for number, handler in previous.items():
            signal.signal(number, handler)


def spin_for(rclpy: Any, node: Any, seconds: float | None) -> None:
    """Spin `node` until the context ends, or `seconds` have passed."""
    executor = rclpy.get_global_executor()
    executor.add_node(node)
    end = None if seconds is None else time.monotonic() + seconds
    while rclpy.ok():
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            return
        try:
            executor.spin_once(timeout_sec=left)
        except RuntimeError:
            # A signal that comes while native rclpy builds a message arrives as an error of rclpy's own.
            if not _signals:
                raise
            raise KeyboardInterrupt from None


def _interrupt_on_signals() -> dict[int, Any]:
    """Ctrl-C and SIGTERM interrupt, so that the robot is told to stop; returns the handlers to put back."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    _signals.clear()

    def interrupt(number: int, frame: FrameType | None) -> None:
        _signals.append(number)
        raise KeyboardInterrupt

    # Of a job in the background Ctrl-C is ignored, and stays so.
    is_ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    numbers = (signal.SIGTERM,) if is_ignored else (signal.SIGINT, signal.SIGTERM)
    return {number: signal.signal(number, interrupt) for number in numbers}
