"""The controller's loop on busy processors: how late its ticks begin, and whether missed ones are ever caught up."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mcsd_agent.bench.stream_inputs import observations
from mcsd_agent.errors import UserError
from mcsd_agent.runtime import Controller, Reading, RealTimeConfig, Stream, Telemetry
from mcsd_agent.runtime.artifact_spec import ArtifactSpec


class NoisyRobot:
    """Every observation is random and fresh; what it is told to do does not matter."""

    def __init__(self, spec: ArtifactSpec, seed: int) -> None:
        self._source = observations(spec, seed)

    def observe(self) -> Reading:
        """The next observation, measured now."""
        values = next(self._source)
        return Reading(values, dict.fromkeys(values, time.monotonic()))

    def send(self, action: np.ndarray) -> np.ndarray:
        """Nothing moves."""
        return action

    def stop(self, reason: str) -> None:
        """Nothing moves."""


def pace(
    artifact: Path, engine: str, seconds: float, load: int, fifo: int | None, seed: int, logs: Path | None = None
) -> dict[str, Any]:
    """Drives a robot in this process for `seconds` beside `load` busy processes, with SCHED_FIFO if `fifo` is given.

    With a folder for `logs`, every tick is written to JSONL and MCAP meanwhile.
    `late` ticks began more than half a period after their deadline and stopped the robot; `skipped` periods had no
    tick; `bursts` counts ticks beyond the first in any one period. Times in µs.
    """
    if seconds <= 0:
        raise UserError(f"seconds={seconds:g} must be above 0")
    if load < 0:
        raise UserError(f"load={load} must be 0 or more processes")
    stream = Stream.load(artifact, engine)
    rate = stream.spec.rate_hz
    ticks = max(2, round(seconds * rate))
    telemetry = Telemetry(capacity=ticks)
    if logs is not None:
        telemetry.write_to(logs)
        telemetry.write_mcap(logs / "telemetry.mcap")
    controller = Controller(
        stream, NoisyRobot(stream.spec, seed), telemetry=telemetry, real_time=RealTimeConfig(fifo_priority=fifo)
    )
    for observation in (next(observations(stream.spec, seed)) for _ in range(100)):  # warm
        stream.step(observation, stream.initial_state())
    with _busy(load):
        controller.run(max_ticks=ticks)
    telemetry.close()
    recorded = telemetry.ticks
    begun = np.array([t.time for t in recorded])
    first = begun[0] - recorded[0].lateness_s
    periods = np.floor((begun - first) * rate + 1e-6).astype(np.int64)
    p50, p99, p999, worst = np.percentile([t.lateness_s for t in recorded], [50, 99, 99.9, 100]) * 1e6
    counts = telemetry.counts()
    reasons = counts["reasons"]
    return {
        "fifo": fifo is not None and not controller.real_time_notes,
        "notes": list(controller.real_time_notes),
        "ticks": len(recorded),
        "late": reasons.get("late", 0),
        "skipped": sum(t.skipped for t in recorded),
        "bursts": len(periods) - len(np.unique(periods)),
        "lateness_p50_us": float(p50),
        "lateness_p99_us": float(p99),
        "lateness_p999_us": float(p999),
        "lateness_max_us": float(worst),
        "reasons": reasons,
        "log_lines": counts["log_lines"],
        "log_dropped": counts["log_dropped"],
    }


@contextmanager
def _busy(processes: int) -> Iterator[None]:
    """That many processes that compute without end."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        time.sleep(0.5 if running else 0.0)
        yield
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()
