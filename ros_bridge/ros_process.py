"""A process that is one node, such as `mcsd-agent run` and `guard`: its backend, its signals, its end."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
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
    """rclpy of the backend, from `init` to `shutdown`; Ctrl-C, SIGTERM and SIGHUP end the block quietly.

    One that comes earlier, while the server is waited for, raises `KeyboardInterrupt`: there is no block to end yet.
    """
    from ros_bridge.backend import NATIVE, ExternalShutdownException, rclpy

    options: dict[str, Any] = {}
    if NATIVE:
        # rclpy's own handler would shut the context down before the robot has been told to stop.
        from rclpy.signals import SignalHandlerOptions

        options["signal_handler_options"] = SignalHandlerOptions.NO
    with interrupted_by_signals():
        try:
            rclpy.init(args=["--url", url] if url and not NATIVE else [], **options)
            with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
                yield rclpy
        finally:
            rclpy.try_shutdown()


@contextlib.contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP raise `KeyboardInterrupt`, as Ctrl-C does. On other threads it does nothing.

    Only the first of them does: a terminal that goes away sends SIGHUP, and so does its shell, and the second one
    must not cut short what the first one began. A second Ctrl-C does.
    """
    before = {} if threading.current_thread() is not threading.main_thread() else _interrupt_on_signals()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if before:
            _signals.clear()


def spin_for(rclpy: Any, node: Any, seconds: float | None, until: Callable[[], bool] = lambda: False) -> None:
    """Spin `node` until the context ends, `seconds` have passed, or `until()` is true after a callback."""
    executor = rclpy.get_global_executor()
    executor.add_node(node)
    end = None if seconds is None else time.monotonic() + seconds
    while rclpy.ok() and not until():
        if _signals:  # what it raised was lost, as in a finaliser
            raise KeyboardInterrupt
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
    """Installs the handlers; returns those to put back."""
    _signals.clear()

    def interrupt(number: int, frame: FrameType | None) -> None:
        _signals.append(number)
        if len(_signals) == 1 or number == signal.SIGINT:
            raise KeyboardInterrupt

    # Of a job in the background Ctrl-C is ignored, after nohup SIGHUP, and stays so.
    may_be_ignored = [getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name)]
    numbers = [number for number in may_be_ignored if signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, interrupt) for number in (*numbers, signal.SIGTERM)}
