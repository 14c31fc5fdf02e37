"""`bench stream`: the figures are of what ran, and what is wrong with a stream shows."""

from __future__ import annotations

import json
import mmap
from pathlib import Path

import numpy as np
import pytest
from runtime.onnx_models import tiny_artifact, tiny_spec

from mcsd_agent.bench import endurance, pacing
from mcsd_agent.bench.stream_inputs import observations, write_default_artifact
from mcsd_agent.cli import main
from mcsd_agent.errors import UserError
from mcsd_agent.runtime import Stream
from mcsd_agent.spaces import BoxSpec, DiscreteSpec, MultiDiscreteSpec

# What measures is used by few, and takes its time.
pytestmark = pytest.mark.thorough

KEYS = {"p50_first_us", "p50_last_us", "ratio", "rss_growth_bytes", "state_bytes", "ticks"}


def quiet(stage: str, fraction: float, text: str) -> None:
    pass


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_default_artifact(tmp_path_factory.mktemp("bench") / "default.mcsd", 100.0, seed=0)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.mcsd"
    path.write_bytes(tiny_artifact())
    return path


def test_long_stream_stays_with_torch(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", "stream", str(artifact), "--ticks", "1500", "--check-every", "500", "--json", "--quiet"]
    assert main(arguments) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(result) >= KEYS
    assert (result["ticks"], result["checks"], result["state_finite"]) == (1500, 3, True)
    assert result["state_bytes"] == Stream.load(artifact).spec.state_bytes
    assert 0 <= result["max_action_deviation"] < 1e-4
    assert 0 <= result["max_state_deviation"] < 1e-4
    assert 0 <= result["max_step_deviation"] < 1e-5
    assert result["p50_first_us"] > 0
    assert result["ratio"] == pytest.approx(result["p50_last_us"] / result["p50_first_us"])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_many_ticks_take_no_memory_and_do_not_drift(artifact: Path) -> None:
    result = endurance.endure(artifact, "onnx", 50_000, 1000, 1, quiet)
    assert result["state_finite"]
    assert result["rss_growth_bytes"] <= 2**20
    assert max(result["max_action_deviation"], result["max_state_deviation"]) < 1e-4


def test_deviation_from_torch_is_seen(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Stream.step

    def drifting(self, observation, state):
        action, state = step(self, observation, state)
        return action + np.float32(0.01), state

    monkeypatch.setattr(Stream, "step", drifting)
    result = endurance.endure(artifact, "numpy", 1000, 500, 0, quiet)
    assert result["max_action_deviation"] == pytest.approx(0.01, rel=0.1)
    assert result["max_state_deviation"] < 1e-4


def test_growth_of_memory_is_seen(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, step = [], Stream.step

    def leaking(self, observation, state):
        # Pages of its own: a small array may come from memory that an earlier test gave back to the process's heap.
        page = mmap.mmap(-1, 40_960)
        page[:] = bytes(40_960)
        kept.append(page)
        return step(self, observation, state)

    monkeypatch.setattr(Stream, "step", leaking)
    assert endurance.endure(tiny, "numpy", 2000, 0, 0, quiet)["rss_growth_bytes"] > 20e6


def test_broken_policy_is_said_to_be_broken(tiny: Path) -> None:
    # The tiny policy computes NaN where a root is negative, and random ones are.
    with pytest.raises(UserError, match="computed NaN or infinity by tick"):
        endurance.endure(tiny, "numpy", 1000, 1, 0, quiet)


def test_policy_that_torch_cannot_load_is_said_to_be_so(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stream, "step", lambda self, observation, state: (np.zeros(2, np.float32), state))
    with pytest.raises(UserError, match="the process with torch has ended"):
        endurance.endure(tiny, "numpy", 1000, 500, 0, quiet)


def test_observations_are_varied_and_the_same_for_the_same_seed() -> None:
    spec = tiny_spec(
        observation={
            "box": BoxSpec((3,), low=(-1.0,), high=(1.0,)),
            "image": BoxSpec((2, 2, 3), "uint8"),
            "one": DiscreteSpec(3),
            "many": MultiDiscreteSpec((2, 5)),
            "instruction": tiny_spec().observation["instruction"],
        }
    )
    streams = [observations(spec, seed) for seed in (1, 1, 2)]
    ticks = [[next(s) for _ in range(2500)] for s in streams]
    for name in spec.observation:
        columns = [[np.array(t[name]).tolist() for t in run] for run in ticks]
        assert columns[0] == columns[1] != columns[2]
        distinct = len({str(value) for value in columns[0]})
        assert distinct == {"one": 3, "many": 10, "instruction": 3}.get(name, distinct)
        assert distinct > 2
    box = np.array([t["box"] for t in ticks[0]])
    assert np.abs(box).max() <= 1


def test_controller_keeps_its_rate_without_bursts(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "bench",
        "stream",
        str(artifact),
        "--rate",
        "100",
        "--seconds",
        "0.5",
        "--load",
        "1",
        "--json",
        "--quiet",
    ]
    assert main(arguments) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    for way in ("default", "fifo"):
        figures = result[way]
        assert figures["ticks"] == 50
        assert figures["bursts"] == 0
        assert sum(figures["reasons"].values()) == 50
        assert figures["late"] == figures["reasons"].get("late", 0)
    assert result["fifo"]["fifo"] == (result["fifo"]["notes"] == [])
    assert not result["default"]["fifo"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ticks", "10"], "ticks=10 must be at least 1000"),
        (["--check-every", "-1"], "check_every=-1"),
        (["--rate", "50"], "--rate 50 differs from the artifact's 100 Hz"),
        (["--rate", "100", "--seconds", "0"], "seconds=0 must be above 0"),
        (["--rate", "100", "--load", "-1"], "load=-1"),
        (["--engine", "onix"], "did you mean 'onnx'"),
    ],
)
def test_bad_arguments_are_refused(
    artifact: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "stream", str(artifact), "--quiet", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_load_ends_with_the_measurement() -> None:
    with pytest.raises(RuntimeError), pacing._busy(2):
        raise RuntimeError
    import psutil

    commands = [" ".join(p.cmdline()) for p in psutil.Process().children(recursive=True)]
    assert not any("while True: pass" in command for command in commands)
