"""Curves group runs that differ only by their seed, and say what sets the groups apart."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mcsd_agent.errors import UserError
from mcsd_agent.strict import build
from mcsd_agent.training.config import TrainConfig
from mcsd_agent.training.curves import curves_of, plot_own_curve, plot_runs
from mcsd_agent.training.run_folder import RunFolder
from mcsd_agent.training.statistics import seeds_interval


def run(path, returns, every=100, **config):
    folder = RunFolder.create(path, "train", build(TrainConfig, {"env": "CartPole-v1", **config}))
    for i, value in enumerate(returns):
        folder.add_metrics({"timesteps": every * (i + 1), "rollout/ep_rew_mean": float(value)})
    return path


def test_runs_that_differ_only_by_seed_are_one_curve_with_the_mean_and_students_interval(tmp_path):
    folders = [run(tmp_path / f"s{k}", [k, 2 * k, 10 + k], seed=k) for k in (1, 2, 3)]
    (curve,) = curves_of(folders)
    assert curve.runs == 3
    assert curve.x.tolist() == [100, 200, 300]
    assert curve.mean.tolist() == [2, 4, 12]
    half = 4.303 * 1 / math.sqrt(3)  # standard deviation of 1, 2, 3 is 1
    assert curve.high[0] - curve.mean[0] == pytest.approx(half)
    assert curve.mean[0] - curve.low[0] == pytest.approx(half)


def test_labels_say_what_differs_in_the_configs(tmp_path):
    folders = [
        run(tmp_path / "a", [1], seed=0, policy={"backbone": "gru"}),
        run(tmp_path / "b", [1], seed=1, policy={"backbone": "gru"}),
        run(tmp_path / "c", [1], seed=0, policy={"backbone": "mcsd"}, ppo={"gamma": 0.9}),
    ]
    labels = [c.label for c in curves_of(folders)]
    assert labels == ["policy.backbone=gru, ppo.gamma=0.99", "policy.backbone=mcsd, ppo.gamma=0.9"]


def test_a_curve_ends_where_its_shortest_run_ends_and_steps_in_between_are_interpolated(tmp_path):
    folders = [run(tmp_path / "a", [0, 1, 2, 3], seed=0), run(tmp_path / "b", [0, 2], every=150, seed=1)]
    (curve,) = curves_of(folders)
    assert curve.x.tolist() == [150, 200, 300]
    assert curve.mean.tolist() == pytest.approx([0.25, (1 + 2 / 3) / 2, 2.0])


def test_a_folder_of_seeds_stands_for_the_runs_in_it(tmp_path):
    folder = RunFolder.create(tmp_path / "five", "train", TrainConfig("CartPole-v1"), written_as="several")
    for k in range(5):
        run(folder.path / f"seed-{k}", [k], seed=k)
    (curve,) = plot_runs([folder.path], tmp_path / "x.png")
    assert (curve.label, curve.runs) == ("five", 5)
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_a_column_can_be_chosen_and_a_missing_one_is_named_with_the_nearest(tmp_path):
    folder = run(tmp_path / "a", [1, 2])
    assert curves_of([folder], "rollout/ep_rew_mean")[0].mean.tolist() == [1, 2]
    with pytest.raises(UserError, match=r"rollout/ep_rew_meen.*did you mean 'rollout/ep_rew_mean'"):
        curves_of([folder], "rollout/ep_rew_meen")


def test_a_run_without_metrics_has_no_curve_yet_and_plot_says_so(tmp_path):
    folder = RunFolder.create(tmp_path / "a", "train", TrainConfig("CartPole-v1")).path
    plot_own_curve(folder)
    assert not (folder / "curve.png").exists()
    with pytest.raises(UserError, match=r"no metrics\.csv yet"):
        plot_runs([folder], tmp_path / "x.png")


def test_one_run_has_no_interval(tmp_path):
    (curve,) = curves_of([run(tmp_path / "a", [1, 2])])
    assert curve.to_json()["interval_95"] is None
    (curve,) = curves_of([run(tmp_path / "b", [1, 2], seed=1), run(tmp_path / "c", [1, 3], seed=2)])
    low, high = curve.to_json()["interval_95"]
    assert low < 2.5 < high


@pytest.mark.parametrize(
    ("out", "words"), [("curves.xyz", "xyz"), ("file/curves.png", "file"), ("folder.png", "Is a directory")]
)
def test_a_picture_that_cannot_be_written_is_one_line(tmp_path, out, words):
    folder = run(tmp_path / "a", [1, 2])
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match=rf"plot .*{words}.* give the path of a PNG") as error:
        plot_runs([folder], tmp_path / out)
    assert "\n" not in str(error.value)


def test_a_picture_has_the_name_that_was_given_also_without_a_suffix(tmp_path):
    plot_runs([run(tmp_path / "a", [1, 2])], tmp_path / "new" / "curves")
    assert (tmp_path / "new" / "curves").read_bytes().startswith(b"\x89PNG")


def test_a_runs_own_curve_that_cannot_be_written_is_no_silence(tmp_path):
    folder = run(tmp_path / "a", [1, 2])
    (folder / "curve.png").mkdir()
    with pytest.raises(OSError, match="directory"):
        plot_own_curve(folder)


def test_students_interval_holds_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    for n in (2, 5, 40):
        hits = [low <= 1.0 <= high for _, low, high in (seeds_interval(rng.normal(1, 3, n)) for _ in range(4000))]
        assert np.mean(hits) == pytest.approx(0.95, abs=0.015)
    assert seeds_interval([4.0]) == (4.0, 4.0, 4.0)
