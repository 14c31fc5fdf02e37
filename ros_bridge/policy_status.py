"""What a policy node says about itself on `~/status`."""

from __future__ import annotations

import math

from mcsd_agent.runtime import Controller
from ros_bridge.status_publisher import ERROR, OK, STALE, WARN

#: Ticks of the last so many seconds are looked at.
_WINDOW_S = 2.0


def level(reason: str) -> bytes:
    """How bad a reason for standing still is, in a DiagnosticStatus's words."""
    kind = reason.partition(":")[0]
    if kind == "ok":
        return OK
    if kind in ("disconnected", "missing", "stale", "frozen", "heartbeat"):
        return STALE
    return WARN if kind in ("starting", "held", "late", "clock_jump", "not_understood", "shutdown") else ERROR


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
        "success": f"{last.success:.2f}" if last and not math.isnan(last.success) else "",
        "ticks": last.index + 1 if last else 0,
        "skipped": sum(t.skipped for t in ticks),
    }
