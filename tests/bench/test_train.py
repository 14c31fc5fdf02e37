"""`bench train`: equal work and equal parameters for both, clocks that add up, the form of the result. No times."""

from __future__ import annotations

import argparse
import json
import sys

import pytest
from sb3_contrib import RecurrentPPO

from mcsd_agent.bench.train import (
    ALGORITHMS,
    COMPARISONS,
    PARTS,
    Settings,
    add_arguments,
    describe,
    equal_lstm_width,
    run,
    run_train_benchmark,
)
from mcsd_agent.errors import UserError

TINY = Settings(n_envs=2, n_steps=8, batch_size=8, epochs=1, width=32, rollouts=1, repeats=2)


@pytest.fixture(scope="module")
def result():
    return run_train_benchmark(TINY)


def test_the_result_has_speeds_and_ratio_and_parameters_per_comparison(result):
    assert set(result) == {"default", "equal_params", "params", "shares", "settings"}
    for comparison in COMPARISONS:
        found = result[comparison]
        assert set(found) == {*ALGORITHMS, "ratio"}
        assert found["ratio"] == found["sequence_ppo"] / found["recurrent_ppo"] > 0
    assert json.loads(json.dumps(result)) == result


def test_equal_parameters_are_equal_and_the_defaults_are_those_of_the_libraries(result):
    equal = result["params"]["equal_params"]
    assert abs(equal["sequence_ppo"] / equal["recurrent_ppo"] - 1) < 0.05
    default = RecurrentPPO("MlpLstmPolicy", "CartPole-v1", device="cpu")
    assert result["params"]["default"]["recurrent_ppo"] == sum(p.numel() for p in default.policy.parameters())
    assert result["params"]["default"]["sequence_ppo"] > equal["sequence_ppo"], "--width 32 is less than the default"


def test_shares_of_all_parts_are_there_and_add_up(result):
    for comparison in COMPARISONS:
        for shares in result["shares"][comparison].values():
            assert tuple(shares) == PARTS
            assert sum(shares.values()) == pytest.approx(1.0)
            assert min(shares.values()) > 0


@pytest.mark.parametrize("params", [1000, 66_000, 400_000])
def test_the_lstm_width_is_the_one_that_comes_closest(params):
    model = RecurrentPPO("MlpLstmPolicy", "CartPole-v1", n_steps=8, policy_kwargs={"lstm_hidden_size": 8}, device="cpu")

    def off(width: int) -> int:
        kwargs = {"lstm_hidden_size": width}
        policy = RecurrentPPO("MlpLstmPolicy", "CartPole-v1", n_steps=8, policy_kwargs=kwargs, device="cpu").policy
        return abs(sum(p.numel() for p in policy.parameters()) - params)

    if params == 1000:  # the layers behind the LSTM alone have more
        with pytest.raises(UserError, match="choose another --width"):
            equal_lstm_width(RecurrentPPO, model, params)
        return
    width = equal_lstm_width(RecurrentPPO, model, params)
    assert off(width) <= min(off(width - 1), off(width + 1))


def test_the_table_has_a_line_per_algorithm_and_the_ratios(result):
    lines = describe(result).splitlines()
    assert len(lines) == 2 + 4 + 1
    assert lines[-1].startswith("default: ")


def test_the_command_runs_on_other_environments(capsys):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = "--env Pendulum-v1 --n-envs 2 --n-steps 4 --batch-size 8 --epochs 1 --rollouts 1 --repeats 1 --width 32"
    found = run(parser.parse_args(options.split()))
    assert found["settings"]["env"] == "Pendulum-v1"
    assert "Pendulum-v1, 2 environments, n_steps 4, batch 8, 1 epochs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"repeats": 0}, "repeats=0 must be at least 1"),
        ({"n_steps": 1}, "n_steps=1 must be at least 2"),
        ({"width": 0}, "width=0"),
        ({"env": "CartPole-v7"}, "CartPole"),
        ({"batch_size": 7}, "batch_size=7"),
    ],
)
def test_bad_arguments_are_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        run_train_benchmark(Settings(**arguments))


def test_without_sb3_contrib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    with pytest.raises(UserError, match=r"pip install 'mcsd-agent\[bench\]'"):
        run_train_benchmark(TINY)
