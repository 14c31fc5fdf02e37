from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mcsd_agent.errors import UserError
from mcsd_agent.strict import apply_overrides, build, convert, load_yaml, to_dict
from mcsd_agent.training.config import ImitateConfig, TrainConfig, load_config

CONFIGS = sorted(Path("configs").rglob("*.yaml"))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"env": "x", "timestep": 5}, "unknown key 'timestep'; did you mean 'timesteps'"),
        ({"env": "x", "ppo": {"gama": 0.9}}, "unknown key 'ppo.gama'; did you mean 'gamma'"),
        ({}, "missing key 'env'"),
        ({"env": 5}, "env: 5 must be of type str"),
        ({"env": "x", "n_envs": 0}, "n_envs=0 must be at least 1"),
        ({"env": "x", "n_envs": True}, "n_envs: True must be of type int"),
        ({"env": "x", "n_envs": 2.5}, "n_envs: 2.5 must be of type int"),
        ({"env": "x", "n_envs": "1.5e0"}, "n_envs: '1.5e0' must be of type int, a whole number such as 2"),
        ({"env": "x", "n_envs": "1e999"}, "n_envs: '1e999' must be of type int"),
        ({"env": "x", "n_envs": "8"}, "n_envs: '8' must be of type int"),
        ({"env": "x", "n_envs": float("inf")}, "n_envs: inf must be of type int"),
        ({"env": "x", "n_envs": float("nan")}, "n_envs: nan must be of type int"),
        ({"env": "x", "policy": {"backbone": "mcds"}}, "policy.backbone: 'mcds' is not valid; did you mean 'mcsd'"),
        ({"env": "x", "policy": {"bins": 9}}, "policy.bins: 9 must be a list"),
        ({"env": "x", "policy": {"width": 100}}, "width=100 must be a positive multiple of channels=8"),
        ({"env": "x", "ppo": 3}, "ppo: 3 must be a mapping"),
    ],
)
def test_what_is_wrong_is_named_with_value_constraint_and_remedy(data, words):
    with pytest.raises(UserError) as error:
        build(TrainConfig, data)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_numbers_that_yaml_reads_as_text_are_numbers():
    assert build(TrainConfig, {"env": "x", "ppo": {"learning_rate": "1e-3"}}).ppo.learning_rate == 1e-3


@pytest.mark.parametrize(("written", "steps"), [("1e5", 100_000), ("1.5e3", 1500), ("20e-1", 2), ("1.0e+5", 100_000)])
def test_whole_numbers_with_an_exponent_are_integers(written, steps):
    config = build(TrainConfig, apply_overrides({"env": "x"}, [f"timesteps={written}"]))
    assert (config.timesteps, type(config.timesteps)) == (steps, int)


def test_large_integers_stay_exact():
    assert convert(int, 2**60 + 1, "seed") == 2**60 + 1


def test_a_resolved_config_builds_the_same_config():
    config = build(TrainConfig, {"env": "x", "policy": {"bins": [5, 9], "head": "binned", "conv": True}})
    assert build(TrainConfig, to_dict(config)) == config


def test_overrides_reach_nested_keys_and_leave_the_rest():
    data: dict[str, Any] = {"a": {"b": 1, "c": 2}}
    assert apply_overrides(data, ["a.b=[1, 2]", "d.e=text", "f=null"]) == {
        "a": {"b": [1, 2], "c": 2},
        "d": {"e": "text"},
        "f": None,
    }
    assert data == {"a": {"b": 1, "c": 2}}


@pytest.mark.parametrize("override", ["novalue", "=1", "a.b.c=1", "a=[1"])
def test_malformed_overrides_are_refused(override):
    with pytest.raises(UserError):
        apply_overrides({"a": {"b": 1}}, [override])


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file"), (b"\xff\xfe", "UTF-8"), (b"a: [1", "not valid YAML"), (b"- 1\n", "must be a mapping")],
)
def test_unreadable_files_are_one_line(tmp_path, content, words):
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        load_yaml(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


#: Arguments of an environment, not a run.
TASK = Path("configs/sim_task.yaml")


@pytest.mark.parametrize("path", [p for p in CONFIGS if "robots" not in p.parts and p != TASK], ids=str)
def test_every_shipped_config_is_valid(path):
    cls = ImitateConfig if "record" in load_yaml(path) else TrainConfig
    assert load_config(cls, path)


def test_the_file_is_named_when_a_value_in_it_is_wrong(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("env: x\nn_envs: -1\n")
    with pytest.raises(UserError, match=f"{path}: n_envs=-1"):
        load_config(TrainConfig, path)
