"""`bench step`: the form of the result, equal parameters, the floor's weights, the table. No times."""

from __future__ import annotations

import argparse
import inspect
import json

import pytest

from mcsd_agent.backbone import MCSDBackbone
from mcsd_agent.bench.step import Settings, _controls, _count, _floor, add_arguments, describe, run, run_step_benchmark
from mcsd_agent.cell import MCSDConfig
from mcsd_agent.errors import UserError
from mcsd_agent.runtime.stream import engines_here

# What measures is used by few, and takes its time.
pytestmark = pytest.mark.thorough

TINY = Settings(width=32, layers=1, context=16, turns=2, steps=3)


@pytest.fixture(scope="module")
def result():
    return run_step_benchmark(TINY)


def test_the_result_has_its_keys(result):
    keys = {"params", "state_bytes", "floor_us", "engines", "ratio_to_floor", "controls_equal_params"}
    assert set(result) == keys
    assert set(result["engines"]) == set(engines_here()) >= {"onnx", "numpy", "torch"}
    assert set(result["controls_equal_params"]) == {"gru", "lstm", "transformer_16"}
    for times in (*result["engines"].values(), *result["controls_equal_params"].values()):
        assert 0 < times["p50_us"] <= times["p99_us"]
    for times in result["engines"].values():
        assert times["ratio_to_floor"] == times["p50_us"] / result["floor_us"]
    assert result["ratio_to_floor"] == result["engines"]["onnx"]["ratio_to_floor"]
    assert result["state_bytes"] == 4 * 64
    assert json.loads(json.dumps(result)) == result


def test_controls_have_as_many_parameters():
    net = MCSDBackbone(MCSDConfig(), 2)
    controls = _controls(Settings(), _count(net))
    assert set(controls) == {"gru", "lstm", "transformer_1024"}
    for control in controls.values():
        assert abs(_count(control) / _count(net) - 1) < 0.05


def test_the_floor_reads_every_matrix():
    net = MCSDBackbone(MCSDConfig(), 2)
    products = inspect.getclosurevars(_floor(net)).nonlocals["products"]
    read = sum(matrix.size for _, matrix, _ in products)
    assert 0.99 < read / _count(net) <= 1


def test_the_table_has_a_line_per_engine_and_control(result):
    lines = describe(result).splitlines()
    assert len(lines) == 2 + len(result["engines"]) + 3 + 1
    assert lines[-1].startswith("floor of mcsd: ")


def test_the_command_measures_in_a_process_of_its_own(capsys):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = parser.parse_args(["--width", "16", "--layers", "1", "--context", "8", "--turns", "1", "--steps", "2"])
    options.quiet = True
    assert set(run(options)["controls_equal_params"]) == {"gru", "lstm", "transformer_8"}
    assert "width 16, 1 layers, batch 1, one thread, 2 steps" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"turns": 0}, "turns=0 must be at least 1"),
        ({"width": 100}, "width=100 must be a positive multiple of 16"),
        ({"width": 0}, "width=0"),
        ({"context": -1}, "context=-1"),
    ],
)
def test_bad_arguments_are_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        Settings(**arguments)
