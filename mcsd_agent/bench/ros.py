"""`mcsd-agent bench ros`: round trips over the rosbridge server beside native rclpy, in one run on one machine.

A far end on native rclpy sends every message back. Two near ends, the same program once over the bridge and once on
native rclpy, take turns of some seconds each, so that a machine that is busy for a while is busy for both. The age is
that of the newest answer when a loop at the messages' rate looks at it, as the controller of a policy does, counted
from when the far end published it; all ends share one clock. See `ros_bridge.latency_probe`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import select
import signal
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcsd_agent.console import Reporter, table
from mcsd_agent.errors import UserError

MESSAGES = ("JointState", "LaserScan", "CompressedImage")
PATHS = ("native", "bridge")
#: How long a near end may take for a block, beyond the block itself: discovery, and answers that never come.
_PATIENCE_S = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `bench ros`."""
    parser.add_argument("--rates", type=float, nargs="+", default=[50.0, 200.0, 500.0], metavar="HZ")
    parser.add_argument("--messages", nargs="+", choices=MESSAGES, default=list(MESSAGES))
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one turn")
    parser.add_argument("--repeats", type=int, default=10, help="turns of each path for each message and rate")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write ros_cpu.json and ros_cpu.png there")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measures, prints, writes with `--out`, and returns the result."""
    report = Reporter(options.quiet)
    try:
        result = measure(options.rates, options.messages, options.seconds, options.repeats, report)
    finally:
        report.close()
    print(table(*_table(result["rows"])))
    if options.out is not None:
        from mcsd_agent.bench.ros_plot import plot_ros

        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "ros_cpu.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        plot_ros(result, options.out / "ros_cpu.png")
    return result


def measure(
    rates: Sequence[float], messages: Sequence[str], seconds: float, repeats: int, report: Any
) -> dict[str, Any]:
    """`{"rows": [{"path", "message", "rate_hz", "p50_ms", "p99_ms", "lost", "max_age_ms", ...}]}`; see `_row`.

    Raises `UserError` for settings that make no sense, or where ROS cannot be had.
    """
    from ros_bridge.server import RosbridgeServer

    if repeats < 1:
        raise UserError(f"repeats={repeats} must be at least 1")
    for rate in rates:
        if not 1 <= rate <= 2000:
            raise UserError(f"rate {rate:g} Hz must be from 1 to 2000")
        if seconds * rate < 50:
            raise UserError(f"seconds={seconds:g} gives {seconds * rate:.0f} messages at {rate:g} Hz; 50 are needed")
    cases = [(message, rate) for message in messages for rate in rates]
    blocks: dict[tuple[str, str, float], list[dict[str, Any]]] = {}
    with RosbridgeServer() as server, _Ends(server) as ends:
        for turn in range(repeats):
            for i, (message, rate) in enumerate(cases):
                # Who goes first changes: neither always finds what the other left.
                for path in PATHS if turn % 2 == 0 else reversed(PATHS):
                    report("ros", (turn * len(cases) + i) / (repeats * len(cases)), f"{message} {rate:g} Hz {path}")
                    block = ends.measure(path, message, rate, seconds)
                    blocks.setdefault((path, message, rate), []).append(block)
    rows = [_row(path, m, r, blocks[path, m, r]) for m, r in cases for path in PATHS]
    return {"seconds": seconds, "repeats": repeats, "rows": rows}


class _Ends:
    """The far end and both near ends, as processes of their own."""

    def __init__(self, server: Any) -> None:
        module, env = [sys.executable, "-m", "ros_bridge.latency_probe"], server.node_environment()
        commands = {"echo": ["echo"], "native": ["native", "native"], "bridge": ["bridge", "bridge", server.url]}
        self._processes = {
            name: subprocess.Popen(
                [*module, *rest],
                env=env,
                text=True,
                start_new_session=True,
                stdin=subprocess.DEVNULL if name == "echo" else subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for name, rest in commands.items()
        }

    def __enter__(self) -> _Ends:
        return self

    def __exit__(self, *failure: object) -> None:
        from ros_bridge.server import end_group

        for process in self._processes.values():
            if process.stdin is not None:
                process.stdin.close()  # a near end leaves by itself then
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(3.0)
            end_group(process, signal.SIGKILL)  # type: ignore[arg-type]
            if process.stdout is not None:
                process.stdout.close()

    def measure(self, path: str, message: str, rate_hz: float, seconds: float) -> dict[str, Any]:
        """One block of one near end."""
        process = self._processes[path]
        assert process.stdin is not None
        assert process.stdout is not None
        order = {"message": message, "rate_hz": rate_hz, "seconds": seconds}
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], 2 * seconds + _PATIENCE_S)
        line = process.stdout.readline() if ready else ""
        if not line:
            raise UserError(f"the {path} end gave no answer for {message} at {rate_hz:g} Hz; its messages are above")
        return dict(json.loads(line))


def _row(path: str, message: str, rate_hz: float, blocks: list[dict[str, Any]]) -> dict[str, Any]:
    """Times are medians over the turns of each turn's percentile; `p99_worst_ms` is the worst turn's."""
    ages = [age for block in blocks for age in block["ages_ms"]]
    return {
        "path": path,
        "message": message,
        "rate_hz": rate_hz,
        "p50_ms": _percentile(blocks, "rtt_ms", 50),
        "p99_ms": _percentile(blocks, "rtt_ms", 99),
        "p99_worst_ms": max(_of_each(blocks, "rtt_ms", 99), default=None),
        "back_p50_ms": _percentile(blocks, "back_ms", 50),
        "back_p99_ms": _percentile(blocks, "back_ms", 99),
        "sent": sum(len(block["rtt_ms"]) + block["lost"] for block in blocks),
        "lost": sum(block["lost"] for block in blocks),
        "age_p50_ms": _percentile(blocks, "ages_ms", 50),
        "age_p99_ms": _percentile(blocks, "ages_ms", 99),
        "max_age_ms": round(max(ages), 3) if ages else None,
        "picture_bytes": blocks[0]["bytes"],
    }


def _of_each(blocks: list[dict[str, Any]], key: str, share: float) -> list[float]:
    """The percentile of each turn in which anything arrived."""
    import numpy as np

    return [round(float(np.percentile(block[key], share)), 3) for block in blocks if block[key]]


def _percentile(blocks: list[dict[str, Any]], key: str, share: float) -> float | None:
    """The median turn's percentile; None where nothing arrived."""
    values = _of_each(blocks, key, share)
    return round(statistics.median(values), 3) if values else None


def _table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Both paths of a case in one line, and what the bridge adds to the round trip and to the way back alone."""
    head = ["message", "Hz", "native p50", "p99", "bridge p50", "p99", "added p50", "p99", "one way p50", "p99", "lost"]
    head += ["age p99", "max age", "period"]
    lines = []
    for native, bridge in zip(rows[::2], rows[1::2], strict=True):
        shown = [row[key] for row in (native, bridge) for key in ("p50_ms", "p99_ms")]
        for key in ("p50_ms", "p99_ms", "back_p50_ms", "back_p99_ms"):
            known = native[key] is not None and bridge[key] is not None
            shown.append(bridge[key] - native[key] if known else None)
        lines.append([native["message"], f"{native['rate_hz']:g}", *map(_shown, shown)])
        lines[-1].append(f"{native['lost']} / {bridge['lost']}")
        for key in ("age_p99_ms", "max_age_ms"):
            lines[-1].append(f"{_shown(native[key], 1)} / {_shown(bridge[key], 1)}")
        lines[-1].append(f"{1e3 / native['rate_hz']:g}")
    return head, lines


def _shown(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
