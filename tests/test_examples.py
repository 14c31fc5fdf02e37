"""The examples run as they are, each in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from mcsd_agent.artifact import export_policy
from mcsd_agent.bench.language_models import ByteModelConfig, build
from mcsd_agent.policy import PolicyConfig
from mcsd_agent.runtime import read_package
from mcsd_agent.training.runs import policy_for
from ros_bridge.messages import load

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_example_is_tested_here():
    tested = {"stream_policy.py", "train_cartpole.py", "own_node.py", "language_model.py"}
    assert {p.name for p in EXAMPLES.glob("*.py")} == tested


@pytest.mark.thorough
def test_stream_policy_drives_an_episode_with_constant_memory(tmp_path):
    policy = policy_for("mcsd/Nav-v0", {}, PolicyConfig(width=16, layers=1), seed=0)
    export_policy(policy, tmp_path / "nav.mcsd", rate_hz=10.0)
    done = run("stream_policy.py", str(tmp_path / "nav.mcsd"), "--instruction", "stop")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("'stop': ")
    assert f"{policy.initial_state().nbytes} bytes of memory" in done.stdout


@pytest.mark.thorough
def test_train_cartpole_trains_evaluates_and_exports(tmp_path):
    artifact = tmp_path / "cartpole.mcsd"
    done = run("train_cartpole.py", "--steps", "1024", "--out", str(artifact))
    assert done.returncode == 0, done.stderr
    assert "over 20 episodes" in done.stdout
    assert read_package(artifact).spec.rate_hz == 50.0


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def own_node() -> ModuleType:
    return loaded("own_node")


@pytest.fixture(scope="module")
def language_model() -> ModuleType:
    return loaded("language_model")


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    for i in range(60):
        (folder / f"{i}.txt").write_text("To be, or not to be, that is the question.\n" * 20)
    return folder


LITTLE = ["--width", "16", "--layers", "1", "--context", "32", "--batch", "4", "--tokens", "4e3"]


def test_language_model_learns_and_writes_with_constant_memory(texts, tmp_path):
    done = run("language_model.py", *LITTLE, "--folder", str(texts), "--out", str(tmp_path / "weights.pt"))
    assert done.returncode == 0, done.stderr
    first, second, *sample = done.stdout.splitlines()
    bits = float(first.split(": ")[1].split()[0])
    assert 0 < bits < 6
    assert second == "300 bytes written with 128 bytes of memory:"
    assert sample[0].startswith("def ")
    assert (tmp_path / "weights.pt").stat().st_size > 1000


@pytest.mark.thorough
def test_language_model_compares_equals(texts, tmp_path):
    tuning = ["--compare", "--seeds", "2", "--lrs", "1e-3", "1e-2", "--tune-tokens", "1e3"]
    done = run("language_model.py", *LITTLE, *tuning, "--folder", str(texts), "--out", str(tmp_path / "lm"))
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "lm.json").read_text())
    assert [(r["model"], r["lr"]) for r in result["tuning"]] == [
        (m, lr) for m in ("mcsd", "mcsd, conv", "transformer") for lr in (1e-3, 1e-2)
    ]
    assert [(r["model"] == "transformer", r["seed"]) for r in result["rows"]] == [
        (False, 0), (True, 0), (False, 1), (True, 1)
    ]  # fmt: skip
    assert len({r["tokens"] for r in result["rows"]}) == 1
    parameters = [r["parameters"] for r in result["rows"]]
    assert max(parameters) <= 1.01 * min(parameters)
    means = list(result["bits_per_byte"].values())
    assert result["ratio"] == means[0] / means[1]
    assert (tmp_path / "lm.png").read_bytes().startswith(b"\x89PNG")


def test_language_model_holds_files_out_by_their_path_alone(language_model, texts, tmp_path):
    before = language_model.read_text(texts)
    assert before.files == 60
    assert len(before.train) + len(before.held_out) == sum(p.stat().st_size + 1 for p in texts.iterdir())
    assert len(before.held_out) > 0
    for path in texts.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "0.txt").write_text("x" * 100)
    after = language_model.read_text(tmp_path)
    assert len(after.train) - len(before.train) in (0, 101)
    assert len(after.held_out) - len(before.held_out) in (0, 101)


def test_language_model_draws_the_same_bytes_for_every_model(language_model, texts):
    text = language_model.read_text(texts)
    recipe = language_model.Recipe(tokens=400, context=20, batch=4, lr=1e-3, seed=3, device="cpu", judged=100)
    drawn = [[x for pair in language_model.batches(text, recipe) for x in pair] for _ in range(2)]
    assert len(drawn[0]) == 2 * recipe.steps == 10
    assert all(torch.equal(a, b) for a, b in zip(*drawn, strict=True))
    inputs, targets = drawn[0][:2]
    assert torch.equal(inputs[:, 1:], targets[:, :-1])


def test_language_model_decays_no_rate_angle_or_norm(language_model):
    model = build(ByteModelConfig(width=16, conv=True))
    decayed, free = (g["params"] for g in language_model.optimiser(model).param_groups)
    names = {id(p): n for n, p in model.named_parameters()}
    assert {names[id(p)].split(".")[-1] for p in free} == {
        *("weight", "log_decay_rate", "angle", "taps", "norm_weight", "rate_bias")
    }  # fmt: skip
    assert all(p.numel() >= 16 * 16 for p in decayed)
    assert len(decayed) + len(free) == len(names)


def test_language_model_refuses_too_little_text_in_one_line(tmp_path):
    (tmp_path / "a.txt").write_text("short")
    done = run("language_model.py", "--folder", str(tmp_path))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "too little text" in done.stderr


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
