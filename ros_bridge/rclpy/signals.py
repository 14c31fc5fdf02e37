"""`rclpy.signals`: SIGTERM ends the program as natively. Ctrl-C needs nothing: Python raises `KeyboardInterrupt`.

Natively the handler shuts the context down. Here the link stays open until the program shuts it down, so that
whoever drives a robot can still tell it to stop.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from enum import IntEnum
from types import FrameType


class SignalHandlerOptions(IntEnum):
    """Which signals are handled."""

    NO = 0
    SIGINT = 1
    SIGTERM = 2
    ALL = 3


class Terminated(KeyboardInterrupt):
    """SIGTERM came. Not an `Exception`, which a callback could take for its own; not part of rclpy's interface."""


def install_signal_handlers(options: SignalHandlerOptions = SignalHandlerOptions.ALL) -> None:
    """Let SIGTERM raise, unless the program handles or ignores it itself; on the main thread only, as Python has it."""
    global _has_come
    if options & SignalHandlerOptions.SIGTERM and _is_main_thread() and _handler() is signal.SIG_DFL:
        _has_come = False
        signal.signal(signal.SIGTERM, _terminate)


def get_current_signal_handlers_options() -> SignalHandlerOptions:
    """`SIGTERM` or `NO`."""
    return SignalHandlerOptions.SIGTERM if _handler() is _terminate else SignalHandlerOptions.NO


def uninstall_signal_handlers() -> None:
    """SIGTERM kills again."""
    if _is_main_thread() and _handler() is _terminate:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def ended_by_signal() -> Iterator[None]:
    """What spins inside ends with `ExternalShutdownException` on SIGTERM; not part of rclpy's interface."""
    from ros_bridge.rclpy.executors import ExternalShutdownException

    try:
        yield
    except Terminated:
        raise ExternalShutdownException from None


_has_come = False


def _terminate(number: int, frame: FrameType | None) -> None:
    """Once: a second one must not cut short what the program does before it ends."""
    global _has_come
    if not _has_come:
        _has_come = True
        raise Terminated


def _handler() -> object:
    return signal.getsignal(signal.SIGTERM)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
