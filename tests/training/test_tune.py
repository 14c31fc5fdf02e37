"""A search: what it may try, what it leaves behind, and that it goes on after it was killed."""

from __future__ import annotations

import csv

import pytest
from test_resume import Notes, tiny

from mcsd_agent.errors import UserError
from mcsd_agent.training.config import TrainConfig, load_config
from mcsd_agent.training.run_folder import RunFolder
from mcsd_agent.training.tune import TUNE_KIND, _study, tune
from mcsd_agent.training.tune_config import TuneConfig

SPACE = "tune.space={ppo.n_epochs: {low: 1, high: 2}, policy.width: [16], policy.horizon: null, ppo.n_steps: null}"


def searching(trials: int, *overrides: str) -> TrainConfig:
    small = ("timesteps=256", f"tune.trials={trials}", "tune.evaluations=2", SPACE)
    return tiny(*small, *overrides)


def trials(run: RunFolder) -> list[dict[str, str]]:
    return list(csv.DictReader((run.path / "trials.csv").read_text().splitlines()))


def test_a_search_leaves_a_config_that_train_accepts_and_goes_on_from_where_it_was(tmp_path):
    run = RunFolder.create(tmp_path / "search", TUNE_KIND, searching(2))
    first = tune(searching(2), run, Notes())
    assert len(trials(run)) == 2
    best = load_config(TrainConfig, run.path / "best.yaml")
    assert best.ppo.learning_rate == first["best_params"]["ppo.learning_rate"]
    assert best.policy.horizon == searching(2).policy.horizon
    assert (run.path / "trials.png").read_bytes().startswith(b"\x89PNG")

    # what a kill in the middle of a trial leaves behind
    killed = _study(searching(3), run).ask()
    rate = killed.suggest_float("ppo.learning_rate", 2e-4, 1e-2, log=True)
    tune(searching(3), RunFolder.open(run.path), Notes())
    rows = trials(run)
    assert len(rows) == 3
    assert [r["trial"] for r in rows[:2]] == ["0", "1"]
    assert int(rows[2]["trial"]) == killed.number + 1
    assert float(rows[2]["ppo.learning_rate"]) == rate
    assert len({r["ppo.learning_rate"] for r in rows}) == 3


def test_values_that_do_not_go_together_are_a_failed_trial_and_not_the_end(tmp_path):
    config = searching(3, "tune.space.ppo.n_minibatches=[1, 3]", "tune.sampler=random", "seed=2")
    run = RunFolder.create(tmp_path / "search", TUNE_KIND, config)
    result = tune(config, run, Notes())
    states = {row["ppo.n_minibatches"]: row["state"] for row in trials(run)}
    assert states == {"1": "complete", "3": "fail"}
    assert result["best_params"]["ppo.n_minibatches"] == 1


def test_a_search_without_a_finished_trial_says_so(tmp_path):
    run = RunFolder.create(tmp_path / "search", TUNE_KIND, searching(2))
    with pytest.raises(UserError, match="the time was up"):
        tune(searching(2), run, Notes(), timeout_s=0.0)


def test_the_space_of_the_config_adds_to_the_default_changes_it_and_takes_away():
    space = TuneConfig(space={"ppo": {"gamma": None, "vf_coef": [0.5, 1.0]}, "policy.width": [8]}).search_space("ppo")
    assert "ppo.gamma" not in space
    assert space["ppo.vf_coef"] == [0.5, 1.0]
    assert space["policy.width"] == [8]
    assert "ppo.learning_rate" in space


def test_numbers_may_be_written_as_yaml_reads_them_as_text():
    given = {"ppo.ent_coef": {"low": "1e-5", "high": "1e-2", "log": True}, "ppo.gamma": ["9e-1", 0.99, None, "auto"]}
    space = TuneConfig(space=given).search_space("ppo")
    assert space["ppo.ent_coef"] == {"low": 1e-5, "high": 1e-2, "log": True}
    assert space["ppo.gamma"] == [0.9, 0.99, None, "auto"]


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"ppo.gamma": 0.9}, "list of choices or a range"),
        ({"ppo.gamma": []}, "at least one"),
        ({"ppo.gamma": {"low": 1}}, "low < high"),
        ({"ppo.gamma": {"low": 0.5, "high": 0.1}}, "low < high"),
        ({"ppo.gamma": {"low": 0, "high": 1, "log": True}}, "above 0"),
        ({"ppo.gamma": {"low": 0.5, "high": 1, "steps": 3}}, "low < high"),
    ],
)
def test_a_space_that_cannot_be_drawn_from_is_refused(space, words):
    with pytest.raises(UserError, match=words):
        TuneConfig(space=space)


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["median", "asha"])
def test_bad_trials_are_ended_early_and_the_best_one_is_not(tmp_path, pruner):
    overrides = ("timesteps=4096", "tune.evaluations=8", f"tune.pruner={pruner}", "env=CartPole-v1", "seed=1")
    config = searching(12, *overrides, "tune.space.ppo.learning_rate=[1e-6, 3e-3]")
    run = RunFolder.create(tmp_path / "search", TUNE_KIND, config)
    result = tune(config, run, Notes())
    pruned = [r for r in trials(run) if r["state"] == "pruned"]
    assert pruned
    assert all(int(r["evaluations"]) < 8 for r in pruned)
    assert result["best_params"]["ppo.learning_rate"] == 3e-3
