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


def test_negative_seed_is_refused(capsys):
    assert main(["sim", "--seed", "-1"]) == 2
    assert capsys.readouterr().err == "error: --seed -1 must be 0 or more, such as --seed 7\n"


def test_time_that_makes_sense_is_kept(capsys):
    assert main([*RUN, "--seconds", "0.5"]) == 2
    assert "none.yaml" in capsys.readouterr().err, "the next thing that is wrong"
