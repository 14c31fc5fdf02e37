"""What the controller remembers about its ticks: the newest ones, counts by reason, and a log on request.

from mcsd_agent.runtime import Controller, Telemetry

telemetry = Telemetry()
telemetry.write_to("runs/today")            # telemetry.jsonl, one line per tick
Controller(stream, robot, telemetry=telemetry).run(stop_event)
telemetry.close()
print(telemetry.summary())
"""

from __future__ import annotations

import json
import math
import threading
from collections import Counter, deque
from pathlib import Path
from typing import IO, Any

import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.runtime.tick import Tick

FILE_NAME = "telemetry.jsonl"

#: Lines that may wait for a slow disk; what comes on top is counted and dropped.
_MAX_WAITING = 10_000


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
        self._log: _Log | None = None

    def record(self, tick: Tick) -> None:
        """Keep `tick`."""
        with self._lock:
            self._ring.append(tick)
            self._reasons[tick.reason] += 1
            self._skipped += tick.skipped
        if self._log is not None:
            self._log.put(tick)

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

    def summary(self) -> dict[str, Any]:
        """Counts since the start, and times over the ticks still in the ring, as one JSON object.

        `latency_*` and `oldest_*` are over ticks that sent an action, `lateness_*` over all; they are
        None where there are none.
        """
        ticks = self.ticks
        driven = [t for t in ticks if t.reason == "ok"]
        with self._lock:
            counts = dict(self._reasons.most_common())
            result: dict[str, Any] = {
                "ticks": sum(counts.values()),
                "skipped": self._skipped,
                "reasons": counts,
                "stop_failures": self._stop_failures,
                "last_stop_failure": self._last_stop_failure,
            }
        result |= _percentiles("latency", [t.latency_s for t in driven])
        result |= _percentiles("lateness", [t.lateness_s for t in ticks])
        result |= _percentiles("oldest", [t.oldest_s for t in driven if not math.isnan(t.oldest_s)])
        log = self._log
        return result | {
            "log_lines": log.written if log else 0,
            "log_dropped": log.dropped if log else 0,
            "log_error": log.error if log else "",
        }

    def write_to(self, folder: str | Path) -> Path:
        """Write every tick from now on to `telemetry.jsonl` in `folder`, beginning with those in the ring.

        Raises `UserError` when the file cannot be made; what goes wrong later is in `summary()["log_error"]`.
        """
        path = Path(folder) / FILE_NAME
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("w", encoding="utf-8")
        except OSError as error:
            raise UserError(f"telemetry {str(path)!r}: {error.strerror}; give a folder that can be written") from None
        self.close()
        log = _Log(file)
        for tick in self.ticks:
            log.put(tick)
        self._log = log
        return path

    def close(self) -> None:
        """Finish the log, if there is one. Ticks are still counted afterwards."""
        if self._log is not None:
            self._log.close()


class _Log:
    """Writes lines in a thread of its own: a disk that is slow, full or gone must not delay a tick."""

    def __init__(self, file: IO[str]) -> None:
        self.written = 0
        self.error = ""
        self._refused = 0  # counted by the loop's thread
        self._lost = 0  # counted by this one's
        self._file = file
        self._waiting: deque[Tick] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        return self._refused + self._lost

    def put(self, tick: Tick) -> None:
        if self.error or self._closing or len(self._waiting) >= _MAX_WAITING:
            self._refused += 1
            return
        self._waiting.append(tick)
        self._wake.set()

    def close(self) -> None:
        self._closing = True
        self._wake.set()
        self._thread.join(timeout=5.0)

    def _run(self) -> None:
        batch = 0
        try:
            while not self._closing or self._waiting:
                self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    batch += 1
                    self._file.write(json.dumps(self._waiting.popleft().to_json()) + "\n")
                self._file.flush()
                self.written, batch = self.written + batch, 0
            self._file.close()
        except (OSError, ValueError, TypeError) as error:
            self.error = f"{type(error).__name__}: {error}"
            self._lost = batch + len(self._waiting)
            self._waiting.clear()


def _percentiles(name: str, values: list[float]) -> dict[str, float | None]:
    if not values:
        return {f"{name}_p50_s": None, f"{name}_p99_s": None, f"{name}_max_s": None}
    p50, p99, worst = np.percentile(values, [50, 99, 100]).tolist()
    return {f"{name}_p50_s": p50, f"{name}_p99_s": p99, f"{name}_max_s": worst}
