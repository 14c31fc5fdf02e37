"""Times and seeds on the command line: one line and exit code 2 for what none can be."""

from __future__ import annotations

import pytest

from mcsd_agent.cli import main

RUN = ("run", "none.mcsd", "--robot", "none.yaml")


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "-inf", "1e300"])
@pytest.mark.parametrize(
    "arguments", [("instruct", "go", "--wait"), (*RUN, "--seconds"), ("sim", "--seconds"), ("guard", "--seconds")]
)
def test_time_that_never_ends_or_has_passed_is_refused_before_anything_begins(arguments, value, capsys):
    *command, option = arguments
    assert main([*command, f"{option}={value}"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith(f"error: {option} {float(value):g} must be seconds, above 0 and at most 1e9")


@pytest.mark.parametrize("seed", ["-1", "4294967296", "1" + 30 * "0"])
@pytest.mark.parametrize("command", [("sim",), ("eval", "none"), ("train", "configs/cartpole_novel.yaml")])
def test_a_seed_that_no_generator_takes_is_refused(command, seed, capsys):
    assert main([*command, "--seed", seed]) == 2
    assert capsys.readouterr().err == f"error: --seed {seed} must be from 0 to 4294967295, such as --seed 7\n"


def test_such_a_seed_is_refused_in_a_config_as_well(capsys):
    assert main(["train", "configs/cartpole_novel.yaml", "--set", "seed=4294967296", "--out", "none"]) == 2
    assert capsys.readouterr().err.endswith("seed=4294967296 must be from 0 to 4294967295\n")


def test_time_that_makes_sense_is_kept(capsys):
    assert main([*RUN, "--seconds", "0.5"]) == 2
    assert "none.yaml" in capsys.readouterr().err, "the next thing that is wrong"
