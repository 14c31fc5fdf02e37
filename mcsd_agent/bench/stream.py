"""`mcsd-agent bench stream`: a policy as a stream for a very long time, or on time on a busy machine.

Without `--rate`, ticks follow each other at once: see `endurance`. With `--rate`, the controller keeps that rate beside
processes that keep the processors busy, first as any process would, then with SCHED_FIFO: see `pacing`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from mcsd_agent.console import Reporter, table
from mcsd_agent.errors import UserError

#: Ticks at a rate of which nothing depends: the endurance run keeps none.
_ANY_RATE_HZ = 100.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `bench stream`."""
    parser.add_argument("artifact", type=Path, nargs="?", help="default: an untrained policy of the default size")
    parser.add_argument("--engine", default="auto", help="engine of the stream; auto: the fastest there is")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ticks", type=int, default=100_000, help="how many ticks, as fast as they go")
    parser.add_argument(
        "--check-every", type=int, default=10_000, metavar="N", help="compare with torch every N ticks; 0: never"
    )
    parser.add_argument("--rate", type=float, metavar="HZ", help="run the controller at this rate instead")
    parser.add_argument("--seconds", type=float, default=30.0, help="with --rate: how long, each way")
    parser.add_argument("--load", type=int, default=0, metavar="N", help="with --rate: busy processes beside it")
    parser.add_argument("--fifo", type=int, default=50, metavar="PRIORITY", help="with --rate: for the second way")
    parser.add_argument("--log", action="store_true", help="with --rate: write JSONL and MCAP meanwhile")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measures, prints, and returns the result."""
    with tempfile.TemporaryDirectory() as folder:
        artifact = options.artifact or _default_artifact(Path(folder), options)
        logs = Path(folder) if options.log else None
        result = _endure(artifact, options) if options.rate is None else _pace(artifact, options, logs)
    return result


def _default_artifact(folder: Path, options: argparse.Namespace) -> Path:
    from mcsd_agent.bench.stream_inputs import write_default_artifact

    return write_default_artifact(folder / "default.mcsd", options.rate or _ANY_RATE_HZ, options.seed)


def _endure(artifact: Path, options: argparse.Namespace) -> dict[str, Any]:
    from mcsd_agent.bench.endurance import endure

    report = Reporter(options.quiet)
    try:
        result = endure(artifact, options.engine, options.ticks, options.check_every, options.seed, report)
    finally:
        report.close()
    for key, value in result.items():
        print(f"{key}: {value:.4g}" if isinstance(value, float) else f"{key}: {value}")
    return result


def _pace(artifact: Path, options: argparse.Namespace, logs: Path | None) -> dict[str, Any]:
    from mcsd_agent.bench.pacing import pace
    from mcsd_agent.runtime.package import read_package

    rate = read_package(artifact).spec.rate_hz
    if abs(rate - options.rate) > 1e-6 * rate:
        raise UserError(
            f"--rate {options.rate:g} differs from the artifact's {rate:g} Hz; a policy's memory counts ticks"
        )
    report = Reporter(options.quiet)
    ways: dict[str, Any] = {}
    for i, (name, fifo) in enumerate((("default", None), ("fifo", options.fifo))):
        report("stream", i / 2, f"{name}: {options.seconds:g} s at {rate:g} Hz beside {options.load} busy processes")
        ways[name] = pace(artifact, options.engine, options.seconds, options.load, fifo, options.seed, logs)
        for note in ways[name]["notes"]:
            report("note", -1.0, note)
    report.close()
    columns = ("ticks", "late", "skipped", "bursts", "lateness_p50_us", "lateness_p99_us", "lateness_p999_us")
    rows = [[name, *(f"{way[c]:.0f}" for c in columns)] for name, way in ways.items()]
    print(table(["scheduler", *columns], rows))
    return {"rate_hz": rate, "load": options.load, "seconds": options.seconds, "engine": options.engine, **ways}
