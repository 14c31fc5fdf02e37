"""Several seeds of one run: each in its own folder, resumable, with a summary."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from test_resume import Notes, tiny

from mcsd_agent.cli import main
from mcsd_agent.training.run_folder import RunFolder
from mcsd_agent.training.seeds import SEEDS_KIND, resume_seeds
from mcsd_agent.training.statistics import seeds_interval
from mcsd_agent.training.training_run import train


@pytest.mark.thorough
def test_finished_seeds_are_not_run_again_and_the_summary_is_over_all(tmp_path):
    config = tiny("timesteps=256", "eval_every=0")
    run = RunFolder.create(tmp_path / "runs", "train", config, written_as=SEEDS_KIND)
    returns = []
    for seed in (3, 4):
        own = tiny("timesteps=256", "eval_every=0", f"seed={seed}")
        member = RunFolder.create(run.path / f"seed-{seed}", "train", own)
        _, (evaluation,), _ = train(own, member, Notes())
        returns.append(evaluation.mean_return)
    summary = resume_seeds(run, [], 2, Notes())
    assert [row["seed"] for row in summary["runs"]] == [3, 4]
    mean, low, high = seeds_interval(returns)
    assert summary["return"] == {"mean": mean, "interval_95": [low, high], "seeds": 2}
    assert json.loads((run.path / "summary.json").read_text()) == summary
    assert (run.path / "curve.png").is_file()
    assert not list(run.path.glob("seed-*/log.txt"))  # no process was started


def write(path: Path, *overrides: str) -> str:
    return str(RunFolder.create(path, "train", tiny(*overrides)).path / "config.yaml")


@pytest.mark.slow
def test_seeds_killed_with_their_parent_are_gone_and_resume_to_the_same_results(tmp_path):
    config = write(tmp_path / "config", "timesteps=6000")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(["train", config, "--seeds", "2", "--jobs", "2", "--out", str(whole), "--quiet"]) == 0
    command = [sys.executable, "-m", "mcsd_agent", "train", config, "--seeds", "2", "--out", str(killed), "--quiet"]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 120
    while len(list(killed.glob("seed-*/checkpoint.previous.pt"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    time.sleep(1.0)
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(killed) in " ".join(p.info["cmdline"] or [])]
    assert main(["train", "--resume", "--out", str(killed), "--quiet"]) == 0
    a, b = (json.loads((path / "summary.json").read_text()) for path in (whole, killed))
    assert a["return"] == b["return"]
    assert a["best"] == b["best"]
    for seed in (0, 1):
        tables = [(path / f"seed-{seed}" / "metrics.csv").read_text() for path in (whole, killed)]
        assert tables[0] == tables[1]
    assert tables[0] != (whole / "seed-0" / "metrics.csv").read_text()


@pytest.mark.slow
def test_a_seed_that_fails_is_named_and_the_others_are_finished(tmp_path, capsys):
    config = write(tmp_path / "config", "timesteps=256")
    out = tmp_path / "runs"
    assert main(["train", config, "--seeds", "1", "--out", str(out), "--quiet"]) == 0
    RunFolder.create(out / "seed-1", "train", tiny("timesteps=256", "seed=1", "ppo.n_minibatches=3"))
    assert main(["train", "--resume", "--out", str(out), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "1 of 2 seeds failed" in said
    assert "n_minibatches=3" in said
    assert os.path.exists(out / "seed-0" / "finished.json")
