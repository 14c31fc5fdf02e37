from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from envs.nav_language import parse
from mcsd_agent.artifact import export_policy
from mcsd_agent.console import Reporter
from mcsd_agent.demo.demo import _carry_out, drive
from mcsd_agent.demo.pictures import Recorder
from mcsd_agent.demo.robots import InProcessDemoRobot
from mcsd_agent.demo.script import Order, write_script
from mcsd_agent.policy import PolicyConfig
from mcsd_agent.training.runs import policy_for
from mcsd_agent.training.video import VideoWriter
from ros_bridge.server import available

ROBOT = Path("configs/robots/diffdrive.yaml")
needs_ros = pytest.mark.skipif(not available()[0], reason=available()[1])


@pytest.fixture(scope="module")
def artifact(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    policy = policy_for("mcsd/Nav-v0", {}, PolicyConfig(width=16, layers=1, head="binned"), 0)
    path = tmp_path_factory.mktemp("artifact") / "untrained.mcsd"
    export_policy(policy, path, rate_hz=10.0)
    return path


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_script_has_enough_orders_of_every_kind_and_all_are_understood(seed):
    orders = write_script(seed)
    tasks = [parse(o.text) for o in orders]
    assert len(orders) >= 10
    assert sum(len(t.goals) == 2 for t in tasks) == 2
    assert sum(o.change_to is not None for o in orders) == 1
    for order in orders:
        named = {g.label for text in (order.text, order.change_to or order.text) for g in parse(text).goals}
        assert named <= {g.label for g in parse(order.arrange).goals}
    assert len({o.arena for o in orders}) == len(orders)


def test_another_seed_is_another_script():
    assert [o.text for o in write_script(0)] != [o.text for o in write_script(1)]


@pytest.mark.thorough
def test_in_process_the_order_is_heard_changed_and_judged(artifact, tmp_path):
    video = VideoWriter(tmp_path / "v.mp4", 20)
    recorder = Recorder(video)
    with InProcessDemoRobot(artifact, tmp_path, "this is a test") as robot:
        order = Order(
            7, "go to the red ball, then go to the blue box", "go to the red ball", 2.0, "go to the blue box", 0.5
        )
        outcome = _carry_out(robot, order, recorder)
        assert robot.state()["instruction"] == "go to the blue box"
    video.close()
    heard = [json.loads(line)["instruction"] for line in (tmp_path / "telemetry.jsonl").read_text().splitlines()]
    assert heard.index("go to the blue box") > heard.index("go to the red ball")
    assert not outcome.success
    assert outcome.seconds >= 2.45  # the time limit begins again with the change
    assert outcome.oldest_observation_ms > 0
    assert video.frames >= 3


@pytest.mark.thorough
@needs_ros
def test_over_ros_every_order_is_driven_and_everything_is_left_to_look_at(artifact, tmp_path):
    orders = [
        Order(1, "go to the red ball", "go to the red ball", 1.5),
        Order(2, "stop", "stop", 3.0),
        Order(3, "go to the green cone, then go to the red box", "go to the green cone", 1.5, "go to the red box", 0.7),
    ]
    (tmp_path / "config.yaml").write_text("kind: demo\n")
    (tmp_path / "metrics.csv").write_text("cpu_seconds,loss\n1,2\n2,1\n")
    outcomes, description = drive(artifact, ROBOT, tmp_path, orders, Reporter(quiet=True))
    assert "real rclpy" in description
    assert [o.instruction for o in outcomes] == [o.title for o in orders]
    assert all(o.tick_p50_ms > 0 and o.oldest_observation_ms > 0 for o in outcomes)
    for name in ("demo.mp4", "trajectories.png", "telemetry.jsonl", "telemetry.png", "curve.png"):
        assert (tmp_path / name).stat().st_size > 1000, name
    assert not processes_of(tmp_path)


def processes_of(folder: Path) -> list[psutil.Process]:
    """Processes that write to `folder` or were started for it."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        try:
            files = [f.path for f in process.open_files()]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(
            str(folder) in text for text in [*files, *(process.info["cmdline"] or [])]
        ):
            found.append(process)
    return found


@pytest.mark.thorough
@needs_ros
@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_demo_leaves_no_process_behind(tmp_path, how):
    config = tmp_path / "tiny.yaml"
    config.write_text(
        "record: {env: mcsd/Nav-v0, episodes: 20, processes: 1}\n"
        "policy: {width: 16, layers: 1, head: binned}\n"
        "imitation: {updates: 3, dagger_rounds: 0}\n"
        "evaluation: {episodes: 0}\n"
    )
    out = tmp_path / "run"
    command = [sys.executable, "-m", "mcsd_agent", "demo", "--config", str(config), "--out", str(out)]
    with (tmp_path / "log").open("wb") as log:
        demo = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and not (out / "telemetry.jsonl").is_file():
        assert demo.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.1)
    time.sleep(1.0)
    assert len(processes_of(out)) >= 3
    demo.send_signal(how)
    assert demo.wait(timeout=30) == 130
    assert not processes_of(out)
