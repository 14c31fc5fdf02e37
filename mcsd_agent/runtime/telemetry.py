"""What the controller remembers about its ticks: the newest ones, counts by reason, and logs on request.

from mcsd_agent.runtime import Controller, Telemetry

telemetry = Telemetry()
telemetry.write_to("runs/today")            # telemetry.jsonl, one line per tick, and transitions.jsonl; or
                                            # telemetry-2.jsonl and so on: what is there stays there
telemetry.write_mcap("runs/today.mcap")     # the same for Foxglove
Controller(stream, robot, telemetry=telemetry).run(stop_event)
telemetry.close()
print(telemetry.summary())
"""

from __future__ import annotations

import itertools
import logging
import math
import threading
import time
from collections import Counter, deque
from pathlib import Path
from typing import IO, Any

import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.runtime.controller_mode import Transition
from mcsd_agent.runtime.numbered_files import create, next_number, numbered
from mcsd_agent.runtime.telemetry_log import BackgroundLog, Entry, Jsonl, Sink
from mcsd_agent.runtime.tick import Tick

_LOGGER = logging.getLogger("mcsd_agent")

FILE_NAME = "telemetry.jsonl"
TRANSITIONS_FILE_NAME = "transitions.jsonl"

#: Changes of mode that are kept in memory, and that a summary shows.
_MAX_TRANSITIONS, _RECENT = 1000, 10


class Telemetry:
    """A bounded ring of ticks and counters that cover all of them. `record` never raises and never waits for a disk."""

    def __init__(self, capacity: int = 6000) -> None:
        """`capacity` ticks are kept: ten minutes at 10 Hz."""
        if capacity < 1:
            raise UserError(f"capacity={capacity} must be at least 1 tick")
        self._lock = threading.Lock()
        self._ring: deque[Tick] = deque(maxlen=capacity)
        self._reasons: Counter[str] = Counter()
        self._skipped = 0
        self._stop_failures = 0
        self._last_stop_failure = ""
        self._transitions: deque[Transition] = deque(maxlen=_MAX_TRANSITIONS)
        self._transition_count = 0
        self._logs: dict[str, BackgroundLog] = {}

    def record(self, tick: Tick) -> None:
        """Keep `tick`."""
        with self._lock:
            self._ring.append(tick)
            self._reasons[tick.reason] += 1
            self._skipped += tick.skipped
        for log in self._logs.values():
            log.put(tick)

    def record_transition(self, transition: Transition) -> None:
        """Keep a change of the controller's mode."""
        with self._lock:
            self._transitions.append(transition)
            self._transition_count += 1
        for log in self._logs.values():
            log.put(transition)

    def stop_failed(self, detail: str) -> None:
        """Count that the robot's `stop` raised."""
        with self._lock:
            self._stop_failures += 1
            self._last_stop_failure = detail

    @property
    def ticks(self) -> tuple[Tick, ...]:
        """The newest ticks, oldest first."""
        with self._lock:
            return tuple(self._ring)

    @property
    def last(self) -> Tick | None:
        """The newest tick."""
        with self._lock:
            return self._ring[-1] if self._ring else None

    @property
    def transitions(self) -> tuple[Transition, ...]:
        """The newest changes of mode, oldest first."""
        with self._lock:
            return tuple(self._transitions)

    @property
    def lost(self) -> str:
        """Why a log that was asked for can no longer be written; empty while all is well."""
        return next((log.error for log in self._logs.values() if log.error), "")

    def counts(self) -> dict[str, Any]:
        """What is counted since the start, as one JSON object; quick, however many ticks the ring holds."""
        with self._lock:
            counts = dict(self._reasons.most_common())
            result: dict[str, Any] = {
                "ticks": sum(counts.values()),
                "skipped": self._skipped,
                "reasons": counts,
                "stop_failures": self._stop_failures,
                "last_stop_failure": self._last_stop_failure,
                "mode": self._transitions[-1].after if self._transitions else "inactive",
                "transitions": self._transition_count,
            }
        logs = tuple(self._logs.values())
        return result | {
            "log_lines": sum(log.written for log in logs),
            "log_dropped": sum(log.dropped for log in logs),
            "log_error": self.lost,
        }

    def summary(self) -> dict[str, Any]:
        """`counts()` and times over the ticks still in the ring, as one JSON object.

        `latency_*`, `policy_*` and `oldest_*` are over ticks that sent an action, `lateness_*` over all; they are
        None where there are none. `recent_transitions` are the last ten.
        """
        ticks = self.ticks
        driven = [t for t in ticks if t.reason == "ok"]
        result = self.counts()
        result |= _percentiles("latency", [t.latency_s for t in driven])
        result |= _percentiles("policy", [t.policy_s for t in driven if not math.isnan(t.policy_s)])
        result |= _percentiles("lateness", [t.lateness_s for t in ticks])
        result |= _percentiles("oldest", [t.oldest_s for t in driven if not math.isnan(t.oldest_s)])
        return result | {"recent_transitions": [t.to_json() for t in self.transitions[-_RECENT:]]}

    def write_to(self, folder: str | Path) -> Path:
        """Write every tick from now on to `telemetry.jsonl` in `folder`, beginning with those in the ring.

        Changes of mode go to `transitions.jsonl` there. Where these exist, they stay and the next numbers are taken,
        `telemetry-2.jsonl` and so on: the path that is returned, and a line of the log. Raises `UserError` when the
        files cannot be made; what goes wrong later is in `summary()["log_error"]`.
        """
        wanted = Path(folder) / FILE_NAME
        try:
            wanted.parent.mkdir(parents=True, exist_ok=True)
            path, sink = _new_pair(wanted)
        except OSError as error:
            raise UserError(f"telemetry {str(wanted)!r}: {error.strerror}; give a folder that can be written") from None
        self._add("jsonl", sink)
        _say_name(wanted, path)
        return path

    def stream_to(self, file: IO[str]) -> None:
        """Write every tick from now on to `file` as `telemetry.jsonl` holds them: to a pipe or a socket's file."""
        self._add("stream", Jsonl(file))

    def write_mcap(self, path: str | Path) -> Path:
        """Write every tick from now on to the MCAP file `path`, as `write_to` does; needs the extra `telemetry`.

        Where it exists it stays: the next free of NAME-2.mcap and so on is taken and returned.
        """
        from mcsd_agent.runtime.mcap_log import Mcap

        newest = self.last
        log = Mcap(path, None if newest is None else time.time() - newest.time)
        first = log.path
        self._add("mcap", log)
        _say_name(Path(path), first)
        return first

    def close(self) -> None:
        """Finish the logs, if there are any. Ticks are still counted afterwards."""
        for log in self._logs.values():
            log.close()

    def _add(self, kind: str, sink: Sink) -> None:
        if kind in self._logs:
            self._logs[kind].close()
        log = BackgroundLog(sink)
        with self._lock:
            entries: list[Entry] = [*self._ring, *self._transitions]
        entries.sort(key=lambda entry: entry.time)
        for entry in entries:
            log.put(entry)
        self._logs = {**self._logs, kind: log}  # replaced, never changed: the loop's thread may be looking at it


class _NewFiles(Jsonl):
    """Two files of its own, which it takes away again if nothing was written: a start that failed leaves no record."""

    def close(self) -> None:
        """See `Jsonl`."""
        super().close()
        paths = [Path(file.name) for file in self._files()]
        if all(path.is_file() and not path.stat().st_size for path in paths):
            for path in paths:
                path.unlink()


def _new_pair(wanted: Path) -> tuple[Path, _NewFiles]:
    """The files of ticks and of changes, of one number after all that are there."""
    other_wanted = wanted.with_name(TRANSITIONS_FILE_NAME)
    for number in itertools.count(max(next_number(wanted), next_number(other_wanted))):
        path, other = numbered(wanted, number), numbered(other_wanted, number)
        ticks = create(path, "w", encoding="utf-8")
        if ticks is None:
            continue
        transitions = create(other, "w", encoding="utf-8")
        if transitions is not None:
            return path, _NewFiles(ticks, transitions)
        ticks.close()
    raise AssertionError("unreachable")


def _say_name(wanted: Path, path: Path) -> None:
    if path != wanted:
        _LOGGER.warning("telemetry: %s is an earlier record and stays; this one goes to %s", wanted, path)


def _percentiles(name: str, values: list[float]) -> dict[str, float | None]:
    if not values:
        return {f"{name}_p50_s": None, f"{name}_p99_s": None, f"{name}_max_s": None}
    p50, p99, worst = np.percentile(values, [50, 99, 100]).tolist()
    return {f"{name}_p50_s": p50, f"{name}_p99_s": p99, f"{name}_max_s": worst}
