"""`rclpy.signals`: the bridge installs no signal handlers. Ctrl-C raises `KeyboardInterrupt` where the program is."""

from __future__ import annotations

from enum import IntEnum


class SignalHandlerOptions(IntEnum):
    """Which signals rclpy would handle."""

    NO = 0
    SIGINT = 1
    SIGTERM = 2
    ALL = 3


def install_signal_handlers(options: SignalHandlerOptions = SignalHandlerOptions.ALL) -> None:
    """Only `NO` is here."""
    if options != SignalHandlerOptions.NO:
        raise NotImplementedError("signal handlers: the bridge installs none; use Python's signal module")


def get_current_signal_handlers_options() -> SignalHandlerOptions:
    """Always `NO`."""
    return SignalHandlerOptions.NO


def uninstall_signal_handlers() -> None:
    """There are none."""
