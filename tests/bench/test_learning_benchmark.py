"""`benchmarks/learning.py`: controls of equal size, results that survive an interruption, curves."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mcsd_agent.errors import UserError
from mcsd_agent.training.config import TrainConfig, load_config

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / "configs" / "cartpole_novel.yaml")


@pytest.fixture(scope="module")
def learning() -> Any:
    spec = importlib.util.spec_from_file_location("learning", ROOT / "benchmarks" / "learning.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["learning"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["learning"]


def options(folder: Path, **changes: Any) -> argparse.Namespace:
    values = {"set": [], "name": "", "out": folder, "episodes": 3, "resume": False} | changes
    return argparse.Namespace(**values)


def row(seed: int, mean: float) -> dict[str, Any]:
    curve = {"steps": [100, 200, 300], "returns": [mean / 4, mean / 2, mean]}
    return {"seed": seed, "mean_return": mean, "std_return": 1.0, "params": 10, "curve": curve}


@pytest.mark.parametrize("backbone", ["gru", "transformer", "none"])
def test_controls_have_the_parameters_of_the_config(learning, backbone):
    original = load_config(TrainConfig, CONFIG)
    settings = learning.overrides_of(CONFIG, backbone, [])
    config = load_config(TrainConfig, CONFIG, settings)
    assert config.policy.backbone == backbone
    assert config.ppo == original.ppo
    assert abs(learning._parameters(config) / learning._parameters(original) - 1) < 0.05


def test_a_control_may_have_settings_of_its_own(learning):
    settings = learning.overrides_of(CONFIG, "gru:ppo.learning_rate=3e-4,policy.width=40", [])
    config = load_config(TrainConfig, CONFIG, settings)
    assert (config.policy.backbone, config.policy.width, config.ppo.learning_rate) == ("gru", 40, 3e-4)


def test_a_run_gives_its_final_returns_and_its_curve(learning):
    overrides = ("timesteps=512", "seed=3", "policy.width=16", "ppo.n_steps=32", "ppo.n_epochs=1")
    found = learning.train_and_judge(learning.Job(CONFIG, "mcsd", overrides, episodes=3))
    assert found["seed"] == 3
    assert found["steps"] == 512
    assert found["min_return"] <= found["mean_return"] <= 500
    steps = found["curve"]["steps"]
    assert steps == sorted(set(steps))
    assert 0 < len(steps) == len(found["curve"]["returns"]) <= 100
    assert max(found["curve"]["returns"]) == found["best_training_return"]


def test_every_run_is_kept_at_once_and_a_resumed_result_goes_on(learning, tmp_path):
    result = learning.Result(CONFIG, options(tmp_path), {"mcsd": ["a=1"], "gru": []})
    result.add("mcsd", row(1, 10.0))
    result.add("mcsd", row(0, 20.0))
    stored = json.loads(result.file.read_text())
    assert result.file.name == "learning_cartpole_novel.json"
    assert [r["seed"] for r in stored["models"]["mcsd"]["runs"]] == [0, 1]
    assert stored["models"]["mcsd"]["mean"] == 15.0
    assert stored["models"]["mcsd"]["std_over_episodes"] == pytest.approx((25 + 1) ** 0.5)
    low, high = stored["models"]["mcsd"]["interval_95"]
    assert (low + high) / 2 == pytest.approx(15.0)
    assert high - 15.0 == pytest.approx(12.706 * 5.0, rel=1e-3), "two seeds: Student's t with one degree of freedom"

    resumed = learning.Result(CONFIG, options(tmp_path, resume=True), {"mcsd": ["a=1"], "gru": []})
    assert resumed.has("mcsd", 0)
    assert not resumed.has("mcsd", 2)
    assert not resumed.has("gru", 0)
    with pytest.raises(UserError, match="other settings of mcsd"):
        learning.Result(CONFIG, options(tmp_path, resume=True), {"mcsd": ["a=2"]})
    with pytest.raises(UserError, match="other episodes"):
        learning.Result(CONFIG, options(tmp_path, resume=True, episodes=4), {"mcsd": ["a=1"]})


def test_lists_of_numbers_take_one_line(learning, tmp_path):
    result = learning.Result(CONFIG, options(tmp_path), {"mcsd": []})
    result.add("mcsd", row(0, 1.0))
    assert '"steps": [ 100, 200, 300 ]' in result.file.read_text()


def test_curves_are_drawn_from_a_result(learning, tmp_path):
    result = learning.Result(CONFIG, options(tmp_path), {"mcsd": [], "gru": [], "none": []})
    for seed in range(3):
        result.add("mcsd", row(seed, 100.0 + seed))
    result.add("gru", row(0, 50.0))
    learning.plot(json.loads(result.file.read_text()), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_failing_run_reports_its_last_line(learning):
    found = learning.run_in_a_process(learning.Job(CONFIG, "mcsd", ("policy.layers=0",), 3))
    assert found == {"error": f"error: {CONFIG}: layers=0 must be at least 1"}
