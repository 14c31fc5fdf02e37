"""BabyAI from the bot to the judged policy, as commands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mcsd_agent.cli import main
from mcsd_agent.errors import UserError
from mcsd_agent.policy import Policy, PolicyConfig
from mcsd_agent.spaces import BoxSpec, DiscreteSpec
from mcsd_agent.training.config import ImitateConfig, load_config
from mcsd_agent.training.demos import RecordConfig, load_demonstrations, record
from mcsd_agent.training.imitation import ImitationConfig, train_by_imitation
from mcsd_agent.training.leakage import Beginnings
from mcsd_agent.training.runs import demonstrations

CONFIG = "configs/babyai/goto_local.yaml"
TINY = ["record.episodes=30", "record.processes=1", "imitation.updates=4", "policy.width=32", "evaluation.episodes=6"]


@pytest.mark.thorough
def test_one_command_records_what_is_missing_trains_and_judges(tmp_path, capsys):
    demos = tmp_path / "demos"
    settings = [x for s in (*TINY, f"demonstrations={demos}") for x in ("--set", s)]
    assert main(["imitate", CONFIG, "--out", str(tmp_path / "run"), "--json", "--quiet", *settings]) == 0
    lines = capsys.readouterr().out.splitlines()
    argmax, sampled = json.loads(lines[-1])["evaluation"]
    assert (argmax["group"], sampled["group"]) == ("all", "all sampled")
    assert argmax["kinds"]["go to"]["episodes"] == argmax["episodes"] == 6
    assert argmax["unlike_demonstrations"]["episodes"] <= 6
    assert any("began like a demonstration" in line for line in lines)
    assert len(load_demonstrations(demos)) == 30


def test_demonstrations_that_are_there_are_not_recorded_again(tmp_path):
    config = load_config(ImitateConfig, CONFIG, [*TINY, f"demonstrations={tmp_path / 'demos'}"])
    first = demonstrations(config, lambda *_: None)
    second = demonstrations(replace(config, record=replace(config.record, episodes=7)), lambda *_: None)
    assert [e.seed for e in first] == [e.seed for e in second]


def test_only_the_same_instruction_and_first_view_are_alike():
    task = RecordConfig("BabyAI-GoToLocal-v0", expert="babyai-bot", episodes=10, processes=1)
    episodes = record(task)
    known = Beginnings(episodes[:5])
    assert [known(e) for e in episodes] == [True] * 5 + [False] * 5


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("imitation.augment=[mirors]", "did you mean 'mirror'"),
        ("device=gpu", "device"),
        ("policy.encoder.conditioning=flim", "conditioning"),
        ("record.expert=bot", "choose 'scripted', 'babyai-bot' or 'metaworld'"),
        ("record.env=BabyAI-GoToLocl-v0", "did you mean 'BabyAI-GoToLocal-v0'"),
    ],
)
def test_bad_values_are_one_line(tmp_path, capsys, setting, words):
    settings = [x for s in (*TINY, f"demonstrations={tmp_path / 'demos'}", setting) for x in ("--set", s)]
    assert main(["imitate", CONFIG, "--out", str(tmp_path / "run"), "--quiet", *settings]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in error
    assert not (tmp_path / "demos").exists()


def test_exchanges_without_a_view_of_cells_are_refused():
    policy = Policy({"observation": BoxSpec((2,))}, DiscreteSpec(3), PolicyConfig(width=16, channels=4, layers=1))
    with pytest.raises(UserError, match="leave it empty"):
        train_by_imitation(policy, record(RecordConfig(episodes=1, processes=1)), ImitationConfig(augment=("mirror",)))


@pytest.mark.slow
def test_a_thousand_demonstrations_teach_to_go_to_what_is_named(tmp_path, capsys):
    settings = [f"demonstrations={tmp_path / 'demos'}", "record.episodes=1000", "imitation.updates=1500"]
    settings = [x for s in (*settings, "evaluation.episodes=256") for x in ("--set", s)]
    assert main(["imitate", CONFIG, "--out", str(tmp_path / "run"), "--json", "--quiet", *settings]) == 0
    argmax, sampled = json.loads(capsys.readouterr().out.splitlines()[-1])["evaluation"]
    assert min(argmax["success"], sampled["success"]) >= 0.95
    assert Path(tmp_path / "run" / "policy.mcsd").is_file()
