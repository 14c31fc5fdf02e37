"""Start a guard of commands and end it properly: what `mcsd-agent guard` does."""

from __future__ import annotations

import os

from ros_bridge.command_guard import GuardConfig
from ros_bridge.ros_process import choose_backend, import_native, ros_process, spin_for


def run_guard(config: GuardConfig, *, url: str | None = None, seconds: float | None = None) -> dict[str, int]:
    """Guard until Ctrl-C, SIGTERM or `seconds` have passed; returns how many commands were passed on and refused.

    On native rclpy, or with a `url` over that rosbridge server. Raises `UserError` where there is none.
    """
    if url is None:
        import_native("source ROS 2, or give --url of a rosbridge server, for a trial")
    # Over FastDDS's shared memory any process that dies or is stopped with a hand on it would hold up the guard too.
    os.environ.setdefault("FASTDDS_BUILTIN_TRANSPORTS", "UDPv4")
    choose_backend(native=url is None)
    from ros_bridge.guard_node import CommandGuard

    counts: dict[str, int] = {}
    with ros_process(url) as rclpy:
        node = CommandGuard(config)
        try:
            spin_for(rclpy, node, seconds)
        finally:
            counts = node.counts()
            node.destroy_node()
    return counts
