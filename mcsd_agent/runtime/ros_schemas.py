"""Ticks and changes of mode as ROS 2 messages: definitions for whoever reads them, and bytes (CDR).

    /policy/tick        mcsd_msgs/msg/Tick                   every tick
    /policy/success     std_msgs/msg/Float64                 with a tick, where the policy predicts success
    /policy/transition  mcsd_msgs/msg/Transition             every change of mode
    /diagnostics        diagnostic_msgs/msg/DiagnosticArray  whenever mode or reason change

`mcsd_msgs` exists nowhere else: a recording carries its definitions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from mcsd_agent.runtime.controller_mode import Transition
from mcsd_agent.runtime.tick import Summary, Tick

TICK, TRANSITION, SUMMARY = (f"mcsd_msgs/msg/{name}" for name in ("Tick", "Transition", "ObservationSummary"))
DIAGNOSTICS, NUMBER = "diagnostic_msgs/msg/DiagnosticArray", "std_msgs/msg/Float64"
TOPICS = {
    "/policy/tick": TICK, "/policy/success": NUMBER, "/policy/transition": TRANSITION, "/diagnostics": DIAGNOSTICS
}  # fmt: skip

# Times in seconds; `time` is the controller's clock, the header's stamp is wall time.
_DEFINITIONS = {
    SUMMARY: "string name\nfloat64 min\nfloat64 mean\nfloat64 max\nfloat64 age\n",
    TICK: (
        "std_msgs/Header header\nuint64 index\nfloat64 time\nstring mode\nstring reason\nstring detail\n"
        "string instruction\nfloat64[] action_asked\nfloat64[] action_sent\nfloat64 latency\nfloat64 policy_latency\n"
        "float64 lateness\nfloat64 oldest\nfloat64 state_norm\nuint32 skipped\n"
        "mcsd_msgs/ObservationSummary[] observation\n"
    ),
    TRANSITION: "std_msgs/Header header\nfloat64 time\nstring before\nstring after\nstring reason\n",
}
#: Levels of a DiagnosticStatus by mode; what is not here is an error.
_LEVELS = {"running": 0, "ready": 1, "holding": 1, "inactive": 1}


class RosMessages:
    """Encodes and decodes with definitions from the `rosbags` package; needs no ROS."""

    def __init__(self, clock_offset_s: float | None = None) -> None:
        """`clock_offset_s` is wall time less the controller's clock; None takes it from the first entry."""
        self._store = get_typestore(Stores.ROS2_JAZZY)
        for name, text in _DEFINITIONS.items():
            self._store.register(get_types_from_msg(text, name))
        self._types = self._store.types
        self._offset_s = clock_offset_s
        self._shown = ("", "")

    def definition(self, ros_type: str) -> bytes:
        """The text of a message definition with all that it is made of, as MCAP's `ros2msg` wants it."""
        return self._store.generate_msgdef(ros_type, ros_version=2)[0].encode()

    def encode(self, entry: Tick | Transition, wall_s: float) -> Iterator[tuple[str, int, bytes]]:
        """Topic, wall time in ns and CDR bytes of every message that an entry makes. It is `wall_s` now.

        The wall clock is looked at once: times in a recording advance as the controller's clock does.
        """
        if self._offset_s is None:
            self._offset_s = wall_s - entry.time
        stamp_ns = round((entry.time + self._offset_s) * 1e9)
        header = self._header(stamp_ns)
        if isinstance(entry, Transition):
            fields: dict[str, Any] = entry.to_json()
            yield "/policy/transition", stamp_ns, self._bytes(TRANSITION, header=header, **fields)
            return
        yield "/policy/tick", stamp_ns, self._tick(entry, header)
        if not math.isnan(entry.success):
            yield "/policy/success", stamp_ns, self._bytes(NUMBER, data=entry.success)
        if (entry.mode, entry.reason) != self._shown:
            self._shown = (entry.mode, entry.reason)
            yield "/diagnostics", stamp_ns, self._diagnostics(entry, header)

    def decode_tick(self, data: bytes) -> dict[str, Any]:
        """A tick as `Tick.to_json` gives it."""
        m: Any = self._store.deserialize_cdr(data, TICK)
        tick = Tick(
            index=m.index,
            time=m.time,
            action_asked=m.action_asked if m.action_asked.size else None,
            action_sent=m.action_sent if m.action_sent.size else None,
            reason=m.reason,
            latency_s=m.latency,
            lateness_s=m.lateness,
            oldest_s=m.oldest,
            instruction=m.instruction,
            skipped=m.skipped,
            detail=m.detail,
            mode=m.mode,
            policy_s=m.policy_latency,
            state_norm=m.state_norm,
            observation={s.name: Summary(s.min, s.mean, s.max, s.age) for s in m.observation},
        )
        return tick.to_json()

    def decode_number(self, data: bytes) -> float:
        """The number in a message of /policy/success."""
        message: Any = self._store.deserialize_cdr(data, NUMBER)
        return float(message.data)

    def _tick(self, tick: Tick, header: Any) -> bytes:
        summary = self._types[SUMMARY]
        return self._bytes(
            TICK,
            header=header,
            index=tick.index,
            time=tick.time,
            mode=tick.mode,
            reason=tick.reason,
            detail=tick.detail,
            instruction=tick.instruction,
            action_asked=_numbers(tick.action_asked),
            action_sent=_numbers(tick.action_sent),
            latency=tick.latency_s,
            policy_latency=tick.policy_s,
            lateness=tick.lateness_s,
            oldest=tick.oldest_s,
            state_norm=tick.state_norm,
            skipped=min(tick.skipped, 2**32 - 1),
            observation=[summary(name, *values) for name, values in tick.observation.items()],
        )

    def _diagnostics(self, tick: Tick, header: Any) -> bytes:
        pair = self._types["diagnostic_msgs/msg/KeyValue"]
        values = {"mode": tick.mode, "detail": tick.detail, "instruction": tick.instruction}
        status = self._types["diagnostic_msgs/msg/DiagnosticStatus"](
            level=_LEVELS.get(tick.mode, 2),
            name="policy",
            message=tick.reason,
            hardware_id="",
            values=[pair(key, value) for key, value in values.items()],
        )
        return self._bytes(DIAGNOSTICS, header=header, status=[status])

    def _header(self, stamp_ns: int) -> Any:
        seconds, nanoseconds = divmod(stamp_ns, 10**9)
        stamp = self._types["builtin_interfaces/msg/Time"](seconds, nanoseconds)
        return self._types["std_msgs/msg/Header"](stamp, "")

    def _bytes(self, ros_type: str, **fields: Any) -> bytes:
        return bytes(self._store.serialize_cdr(self._types[ros_type](**fields), ros_type))


def _numbers(action: np.ndarray | None) -> np.ndarray:
    return np.zeros(0) if action is None else np.ravel(action).astype(np.float64)
