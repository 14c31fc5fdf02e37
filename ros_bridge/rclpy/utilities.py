"""As `rclpy.utilities`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ros_bridge.rclpy._ros_arguments import parse
from ros_bridge.rclpy.constants import S_TO_NS
from ros_bridge.rclpy.context import Context, get_default_context

__all__ = [
    "get_available_rmw_implementations",
    "get_default_context",
    "get_rmw_implementation_identifier",
    "ok",
    "remove_ros_args",
    "shutdown",
    "timeout_sec_to_nsec",
    "try_shutdown",
]


def remove_ros_args(args: Sequence[str] | None = None) -> list[str]:
    """The arguments that are not between `--ros-args` and `--`."""
    return parse(sys.argv if args is None else args).remaining


def ok(*, context: Context | None = None) -> bool:
    """Whether the context is initialised and not shut down. A lost link does not change it."""
    return (get_default_context() if context is None else context).ok()


def shutdown(*, context: Context | None = None) -> None:
    """Close the link and end every spin of this context. The default context is replaced by a new one."""
    (get_default_context(shutting_down=True) if context is None else context).shutdown()


def try_shutdown(*, context: Context | None = None) -> None:
    """`shutdown` unless it has happened already."""
    if context is not None:
        context.try_shutdown()
    elif get_default_context().ok():
        shutdown()


def get_rmw_implementation_identifier() -> str:
    """Not here."""
    raise NotImplementedError("get_rmw_implementation_identifier: the middleware is the rosbridge server's")


def get_available_rmw_implementations() -> set[str]:
    """None on this side."""
    return set()


def timeout_sec_to_nsec(timeout_sec: float | None) -> int:
    """Nanoseconds; -1 for None and what is negative."""
    return -1 if timeout_sec is None or timeout_sec < 0 else int(float(timeout_sec) * S_TO_NS)
