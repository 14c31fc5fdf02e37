"""Learning, by the shipped configs with smaller budgets: `pytest -m slow`."""

from __future__ import annotations

import json

import pytest

from mcsd_agent.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def evaluation(tmp_path, capsys, *arguments: str) -> dict[str, dict]:
    assert main([*arguments, "--out", str(tmp_path / "run"), "--json", "--quiet"]) == 0
    rows = json.loads(capsys.readouterr().out.strip().splitlines()[-1])["evaluation"]
    return {row["group"]: row for row in rows}


def test_two_minutes_of_cloning_obey_one_part_instructions(tmp_path, capsys):
    settings = [
        "imitation.cpu_seconds=120",
        "imitation.dagger_rounds=2",
        "record.episodes=2000",
        "evaluation.episodes=100",
    ]
    rows = evaluation(
        tmp_path, capsys, "imitate", "configs/nav/demo.yaml", *[x for s in settings for x in ("--set", s)]
    )
    assert rows["one_part"]["success"] > 0.85
    assert rows["two_parts"]["success"] > 0.3


def test_memory_balances_a_pole_whose_velocities_are_hidden_and_no_memory_does_not(tmp_path, capsys):
    def mean_return(backbone: str) -> float:
        settings = ["timesteps=60000", "evaluation.episodes=20", f"policy.backbone={backbone}"]
        arguments = ["train", "configs/cartpole_novel.yaml", *[x for s in settings for x in ("--set", s)]]
        return evaluation(tmp_path / backbone, capsys, *arguments)["all"]["return_mean"]

    with_memory, without = mean_return("mcsd"), mean_return("none")
    assert with_memory > 2 * without
