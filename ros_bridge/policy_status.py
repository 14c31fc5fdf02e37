"""What a policy node says about itself: `~/status`, a diagnostic_msgs/msg/DiagnosticArray."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mcsd_agent.runtime import Controller
from ros_bridge.backend import Node, QoSProfile, load

_OK, _WARN, _ERROR, _STALE = b"\x00", b"\x01", b"\x02", b"\x03"
#: Ticks of the last so many seconds are looked at.
_WINDOW_S = 2.0


class StatusPublisher:
    """Publishes on `~/status` of `node`, about the robot called `robot`."""

    def __init__(self, node: Node, robot: str) -> None:
        self._node, self._robot = node, robot
        self._array, self._entry, self._pair = (
            load(f"diagnostic_msgs/msg/{name}") for name in ("DiagnosticArray", "DiagnosticStatus", "KeyValue")
        )
        self._publisher: Any = node.create_publisher(self._array, "~/status", QoSProfile(depth=10))

    def publish(self, reason: str, values: Mapping[str, str]) -> None:
        """One status: the controller's newest reason, and values by key."""
        entry = self._entry(
            level=level(reason),
            name=f"{self._node.get_name()}: {self._robot}",
            message=reason,
            hardware_id=self._robot,
            values=[self._pair(key=key, value=value) for key, value in values.items()],
        )
        message = self._array(status=[entry])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)


def level(reason: str) -> bytes:
    """How bad a reason for standing still is, in a DiagnosticStatus's words."""
    kind = reason.partition(":")[0]
    if kind == "ok":
        return _OK
    if kind in ("disconnected", "missing", "stale", "frozen", "heartbeat"):
        return _STALE
    return _WARN if kind in ("starting", "held", "late", "clock_jump", "not_understood", "shutdown") else _ERROR


def recent_ticks(controller: Controller) -> dict[str, object]:
    """Rate, ages and times of the controller's last ticks."""
    ticks = controller.telemetry.ticks
    last = ticks[-1] if ticks else None
    recent = ticks[-int(_WINDOW_S / controller.period_s) - 1 :]
    span_s = recent[-1].time - recent[0].time if len(recent) > 1 else 0.0
    latencies = sorted(t.latency_s for t in recent)
    return {
        "mode": controller.mode,
        "detail": last.detail if last else "",
        "rate_hz": f"{(len(recent) - 1) / span_s:.2f}" if span_s > 0 else "0",
        "oldest_ms": f"{1e3 * max((t.oldest_s for t in recent if not math.isnan(t.oldest_s)), default=0.0):.1f}",
        "latency_ms": f"{1e3 * latencies[len(latencies) // 2]:.2f}" if latencies else "0",
        "state_norm": f"{last.state_norm:.3g}" if last else "0",
        "ticks": last.index + 1 if last else 0,
        "skipped": sum(t.skipped for t in ticks),
    }
