from __future__ import annotations

import csv
import json
import math

import pytest
import torch

from mcsd_agent.errors import UserError
from mcsd_agent.training.config import TrainConfig
from mcsd_agent.training.run_folder import RunFolder
from mcsd_agent.training.statistics import Rate, mean_interval
from mcsd_agent.training.stored_policy import load_stored_policy


def test_metrics_keep_every_row_and_column_also_when_columns_appear_later(tmp_path):
    run = RunFolder.create(tmp_path / "run", "train", TrainConfig("x"))
    run.add_metrics({"timesteps": 1, "return": 0.5})
    run.add_metrics({"timesteps": 2, "return": 0.25, "loss": 3.0})
    RunFolder.open(run.path).add_metrics({"timesteps": 3, "loss": 2.0})
    rows = list(csv.DictReader((run.path / "metrics.csv").read_text().splitlines()))
    assert [r["timesteps"] for r in rows] == ["1", "2", "3"]
    assert [r["loss"] for r in rows] == ["", "3", "2"]
    assert [r["return"] for r in rows] == ["0.5", "0.25", ""]


def test_a_checkpoint_with_code_in_it_is_refused(tmp_path):
    run = RunFolder.create(tmp_path / "run", "train", TrainConfig("x"))
    torch.save({"policy": print}, run.checkpoint)
    with pytest.raises(UserError, match="cannot be read"):
        run.load_checkpoint()


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (10, 10), (95, 100), (1, 3)])
def test_wilson_intervals_hold_the_rate_and_stay_within_bounds(successes, trials):
    low, high = Rate(successes, trials).interval
    assert 0.0 <= low <= successes / trials <= high <= 1.0
    z = 1.959964
    for end in (low, high):  # the ends are where the rate is z deviations of that end's own distribution away
        if 0 < end < 1:
            assert abs(successes / trials - end) == pytest.approx(z * math.sqrt(end * (1 - end) / trials), rel=1e-6)


def test_one_value_has_no_interval():
    assert mean_interval([2.0]) == (2.0, 2.0, 2.0)


def test_a_machine_without_git_still_makes_run_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    run = RunFolder.create(tmp_path / "run", "train", TrainConfig("x"))
    assert json.loads((run.path / "versions.json").read_text())["git"] is None


def test_a_folder_that_cannot_be_locked_is_one_line(tmp_path):
    run = RunFolder.create(tmp_path / "run", "train", TrainConfig("x"))
    (run.path / ".lock").mkdir()
    with (
        pytest.raises(UserError, match=r"run' cannot be written to \(Is a directory\); make it writable"),
        run.in_use(),
    ):
        pass


@pytest.mark.parametrize("names", [("seed-0", "seed-1"), ("trials/0000",), tuple(f"seed-{i}" for i in range(5))])
def test_a_folder_of_several_runs_names_them(tmp_path, names):
    run = RunFolder.create(tmp_path / "runs", "train", TrainConfig("x"), written_as="several")
    for name in names:
        RunFolder.create(run.path / name, "train", TrainConfig("x"))
    with pytest.raises(UserError, match=f"holds {len(names)} runs; give one of them: ") as refused:
        load_stored_policy(run.path)
    said = str(refused.value)
    assert all((str(run.path / name) in said) == (i < 3) for i, name in enumerate(names))
    assert "\n" not in said


def test_a_run_without_anything_learnt_says_how_to_go_on(tmp_path):
    run = RunFolder.create(tmp_path / "run", "train", TrainConfig("CartPole-v1"))
    with pytest.raises(UserError, match=r"no checkpoint yet; train --resume it"):
        load_stored_policy(run.path)
