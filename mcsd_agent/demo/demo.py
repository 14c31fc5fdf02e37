"""The demo, stage by stage."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from mcsd_agent.console import Reporter
from mcsd_agent.demo.pictures import Recorder
from mcsd_agent.demo.robots import DemoRobot, InProcessDemoRobot, RosDemoRobot
from mcsd_agent.demo.script import Order, write_script
from mcsd_agent.training.config import ImitateConfig, load_config
from mcsd_agent.training.run_folder import RunFolder
from mcsd_agent.training.runs import imitate
from mcsd_agent.training.video import VideoWriter

_POLL_S = 0.02
#: Share of orders that must be carried out for the exit code 0.
_ENOUGH = 0.8


@dataclass(frozen=True)
class Outcome:
    """What came of one order. Times in the units of their names."""

    instruction: str
    success: bool
    seconds: float
    tick_p50_ms: float
    tick_p99_ms: float
    oldest_observation_ms: float
    stops: int


def run_demo(
    config_path: Path,
    robot: Path,
    out: Path | None,
    report: Reporter,
    *,
    seed: int = 0,
    show: Callable[[list[str], list[list[str]]], None],
) -> dict[str, Any]:
    """Train, export, drive, report; `exit_code` in the result is 0 when enough orders were carried out.

    Every process that it starts is ended, also after Ctrl-C or SIGTERM.
    """
    config = load_config(ImitateConfig, config_path)
    run = RunFolder.create(out, "demo", config)
    _terminate_like_ctrl_c()
    began = time.monotonic()
    print(f"run folder: {run.path}")
    _, evaluations, parity = imitate(config, run, report)
    report.close()
    print(f"artifact: {run.artifact}, deviation from torch at most {parity.max_action_deviation:.1e}")
    for evaluation in evaluations:
        print(f"in simulation, {evaluation}")
    outcomes, description = drive(run.artifact, robot, run.path, write_script(seed), report)
    report.close()
    print(f"on {description}:")
    show(
        ["instruction", "success", "seconds", "tick p50/p99 ms", "oldest observation ms"],
        [
            [
                o.instruction,
                "yes" if o.success else "NO",
                f"{o.seconds:.1f}",
                f"{o.tick_p50_ms:.1f} / {o.tick_p99_ms:.1f}",
                f"{o.oldest_observation_ms:.0f}",
            ]
            for o in outcomes
        ],
    )
    successes = sum(o.success for o in outcomes)
    minutes = (time.monotonic() - began) / 60
    print(f"{successes} of {len(outcomes)} instructions carried out; {minutes:.1f} minutes")
    print(f"see {run.path}: demo.mp4, trajectories.png, telemetry.jsonl, telemetry.png, curve.png")
    result = {
        "run": str(run.path),
        "robot": description,
        "simulation": [e.to_json() for e in evaluations],
        "instructions": [asdict(o) for o in outcomes],
        "successes": successes,
        "minutes": minutes,
        "exit_code": 0 if successes >= _ENOUGH * len(outcomes) else 1,
    }
    run.write_json("demo.json", result)
    return result


def drive(
    artifact: Path, robot_yaml: Path, out: Path, orders: list[Order], report: Reporter
) -> tuple[list[Outcome], str]:
    """Start the robot, give every order, and leave video, trajectories and telemetry in `out`."""
    from mcsd_agent.runtime.telemetry_plot import plot_telemetry
    from mcsd_agent.training.curves import plot_runs

    video = VideoWriter(out / "demo.mp4", fps=20)  # twice as fast as it was
    recorder = Recorder(video)
    outcomes: list[Outcome] = []
    report("drive", 0.0, "starting server, robot and policy")
    try:
        with _robot(artifact, robot_yaml, out) as robot:
            description = robot.description
            for i, order in enumerate(orders):
                report("drive", i / len(orders), order.title)
                outcomes.append(_carry_out(robot, order, recorder))
            report("drive", 1.0, f"{sum(o.success for o in outcomes)} of {len(orders)} carried out")
    finally:
        video.close()
        recorder.save(out / "trajectories.png")
    plot_telemetry(out / "telemetry.jsonl", out / "telemetry.png")
    plot_runs([out], out / "curve.png")
    return outcomes, description


def _robot(artifact: Path, robot_yaml: Path, out: Path) -> DemoRobot:
    from ros_bridge.server import available

    usable, why = available()
    return RosDemoRobot(artifact, robot_yaml, out) if usable else InProcessDemoRobot(artifact, out, why)


def _carry_out(robot: DemoRobot, order: Order, recorder: Recorder) -> Outcome:
    robot.arrange(order.arena, order.arrange)
    recorder.begin()
    robot.say(order.text)
    began = time.monotonic()
    deadline = began + order.limit_s
    change_at = began + order.change_after_s if order.change_to is not None else None
    success = False
    while time.monotonic() < deadline and not success:
        if change_at is not None and time.monotonic() >= change_at and order.change_to is not None:
            robot.say(order.change_to)
            change_at = None
            deadline = time.monotonic() + order.limit_s
        state = robot.state()
        recorder.add(state)
        # What is said first does not count when it is about to be changed.
        success = bool(state.get("success")) and change_at is None and state.get("instruction") == _newest(order)
        time.sleep(_POLL_S)
    ended = time.monotonic()
    recorder.end()
    ticks = robot.ticks(began, ended)
    return Outcome(order.title, success, ended - began, *_times(ticks), stops=sum(t["reason"] != "ok" for t in ticks))


def _newest(order: Order) -> str:
    return " ".join((order.change_to or order.text).split())


def _times(ticks: list[dict[str, Any]]) -> tuple[float, float, float]:
    driven = [t for t in ticks if t["reason"] == "ok"]
    if not driven:
        return float("nan"), float("nan"), float("nan")
    p50, p99 = np.percentile([1e3 * t["latency_s"] for t in driven], [50, 99])
    return float(p50), float(p99), 1e3 * max(t["oldest_s"] for t in driven if t["oldest_s"] is not None)


def _terminate_like_ctrl_c() -> None:
    if threading.current_thread() is not threading.main_thread():
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    # SIGINT too: a shell starts what runs in the background with SIGINT ignored.
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)
