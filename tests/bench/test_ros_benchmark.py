"""The ROS benchmark measures both paths, loses nothing without saying so, and refuses what cannot be measured."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from mcsd_agent.bench import ros
from mcsd_agent.errors import UserError
from ros_bridge.server import available


def run(*arguments: str) -> dict:
    parser = argparse.ArgumentParser()
    ros.add_arguments(parser)
    return ros.run(argparse.Namespace(quiet=True, **vars(parser.parse_args(arguments))))


def test_both_paths_are_measured_in_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    usable, reason = available()
    if not usable and "wheels exist for" in reason:
        pytest.skip(reason)
    few = ["--rates", "200", "--seconds", "0.3", "--repeats", "1", "--messages", "JointState", "CompressedImage"]
    result = run(*few, "--out", str(tmp_path))
    rows = result["rows"]
    assert [(row["path"], row["message"]) for row in rows] == [
        (path, message) for message in ("JointState", "CompressedImage") for path in ("native", "bridge")
    ]
    for row in rows:
        assert row["sent"] == 60
        assert 0 <= row["lost"] < 60
        assert 0 < row["p50_ms"] <= row["p99_ms"] <= row["p99_worst_ms"]
        assert 0 < row["back_p50_ms"] < row["p99_ms"]
        assert row["rate_hz"] == 200
    assert rows[2]["picture_bytes"] > 10_000
    assert json.loads((tmp_path / "ros_cpu.json").read_text()) == result
    assert (tmp_path / "ros_cpu.png").read_bytes().startswith(b"\x89PNG")
    assert "added p50" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--repeats", "0"], "repeats=0 must be at least 1"),
        (["--rates", "0.5"], "rate 0.5 Hz must be from 1 to 2000"),
        (["--rates", "10", "--seconds", "1"], "50 are needed"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments, part):
    with pytest.raises(UserError, match=part):
        run(*arguments)
