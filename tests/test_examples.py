"""The examples run as they are, each in a process of its own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mcsd_agent.artifact import export_policy
from mcsd_agent.policy import PolicyConfig
from mcsd_agent.runtime import read_package
from mcsd_agent.training.runs import policy_for
from ros_bridge.messages import load

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_example_is_tested_here():
    assert {p.name for p in EXAMPLES.glob("*.py")} == {"stream_policy.py", "train_cartpole.py", "own_node.py"}


def test_stream_policy_drives_an_episode_with_constant_memory(tmp_path):
    policy = policy_for("mcsd/Nav-v0", {}, PolicyConfig(width=16, layers=1), seed=0)
    export_policy(policy, tmp_path / "nav.mcsd", rate_hz=10.0)
    done = run("stream_policy.py", str(tmp_path / "nav.mcsd"), "--instruction", "stop")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("'stop': ")
    assert f"{policy.initial_state().nbytes} bytes of memory" in done.stdout


def test_train_cartpole_trains_evaluates_and_exports(tmp_path):
    artifact = tmp_path / "cartpole.mcsd"
    done = run("train_cartpole.py", "--steps", "1024", "--out", str(artifact))
    assert done.returncode == 0, done.stderr
    assert "over 20 episodes" in done.stdout
    assert read_package(artifact).spec.rate_hz == 50.0


@pytest.fixture(scope="module")
def own_node() -> ModuleType:
    spec = importlib.util.spec_from_file_location("own_node", EXAMPLES / "own_node.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_own_node_reports_the_nearest_range_that_the_sensor_can_measure(own_node):
    scan = load("sensor_msgs/msg/LaserScan")(range_min=0.1, range_max=4.0)
    scan.ranges = [0.05, 2.5, 0.5, float("nan"), float("inf")]
    assert own_node.nearest(scan) == 0.5
    scan.ranges = [float("inf"), 0.05]
    assert own_node.nearest(scan) == 4.0


def test_own_node_refuses_an_impossible_address_in_one_line():
    done = run("own_node.py", "--url", "http://robot:9090")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "ws://robot:9090" in done.stderr
