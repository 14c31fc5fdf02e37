"""The same run with several seeds: processes side by side, each in a folder of its own, and a summary."""

from __future__ import annotations

import csv
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mcsd_agent.errors import UserError
from mcsd_agent.strict import apply_overrides, build
from mcsd_agent.training.config import TrainConfig
from mcsd_agent.training.curves import plot_own_curve
from mcsd_agent.training.run_folder import RunFolder
from mcsd_agent.training.runs import Report
from mcsd_agent.training.statistics import seeds_interval

#: `kind` in the config.yaml of a folder with several seeds.
SEEDS_KIND = "train with several seeds"
_POLL_S = 0.2
_SECONDS_BETWEEN_LOOKS = 1.0
# loaded here: little may be done between fork and exec
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def start_seeds(out: Path | None, config: TrainConfig, count: int, jobs: int | None, report: Report) -> dict[str, Any]:
    """`count` runs with seeds `config.seed, config.seed + 1, …`, up to `jobs` at a time; the summary."""
    run = RunFolder.create(out, "train", config, written_as=SEEDS_KIND)
    for seed in range(config.seed, config.seed + count):
        RunFolder.create(run.path / f"seed-{seed}", "train", replace(config, seed=seed))
    return _go_on(run, jobs, report)


def resume_seeds(run: RunFolder, overrides: Sequence[str], jobs: int | None, report: Report) -> dict[str, Any]:
    """Go on with every seed that is not finished; `overrides` change the config of all of them."""
    if overrides:
        for member in _members(run):
            config = build(TrainConfig, apply_overrides(member.stored_config()[1], overrides))
            if config.seed != member.stored_config()[1]["seed"]:
                raise UserError("the seeds of a folder cannot be changed; leave seed out of --set")
            member.write_config("train", config)
    return _go_on(run, jobs, report)


def _members(run: RunFolder) -> list[RunFolder]:
    folders = [p.parent for p in run.path.glob("seed-*/config.yaml")]
    return [RunFolder.open(p) for p in sorted(folders, key=lambda p: int(p.name.split("-")[1]))]


def _go_on(run: RunFolder, jobs: int | None, report: Report) -> dict[str, Any]:
    members = _members(run)
    print(f"run folder: {run.path}, {len(members)} seeds", file=sys.stderr)
    with run.in_use():
        failed = _work_off(members, jobs or os.cpu_count() or 1, report)
        if failed:
            raise UserError(
                f"{len(failed)} of {len(members)} seeds failed, the others are finished: {failed[0]}; --resume goes on"
            )
        return _summarise(run, members)


def _finished(member: RunFolder) -> bool:
    """Whether it is trained as far as its config says, and judged."""
    finished = member.read_json("finished.json")
    return finished is not None and finished["timesteps"] >= member.stored_config()[1]["timesteps"]


def _steps(member: RunFolder) -> int:
    """Steps in the last row of metrics.csv."""
    table = member.path / "metrics.csv"
    if not table.is_file():
        return 0
    with table.open(newline="") as file:
        steps = [row.get("timesteps") or "" for row in csv.DictReader(file)]
    return int(steps[-1]) if steps and steps[-1].isdigit() else 0


def _work_off(members: list[RunFolder], jobs: int, report: Report) -> list[str]:
    """Run what is not finished, `jobs` at a time; what the failed ones said last."""
    waiting = [m for m in members if not _finished(m)]
    running: list[tuple[RunFolder, subprocess.Popen]] = []
    failed = []
    looked = 0.0
    total = sum(m.stored_config()[1]["timesteps"] for m in members)
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                member = waiting.pop(0)
                running.append((member, _start(member)))
            time.sleep(_POLL_S)
            for member, process in list(running):
                if process.poll() is not None:
                    running.remove((member, process))
                    if process.returncode:
                        failed.append(f"{member.path.name}: {_last_line(member.path / 'log.txt')}")
            if time.monotonic() - looked >= _SECONDS_BETWEEN_LOOKS:
                looked = time.monotonic()
                done, ended = sum(map(_steps, members)), len(members) - len(waiting) - len(running)
                share = 0.99 * min(1.0, done / total)  # the rest is evaluation and artifacts
                report("train", share, f"{done} of {total} steps, {ended} of {len(members)} seeds ended")
    finally:
        for _, process in running:
            process.terminate()
        for _, process in running:
            process.wait()
    return failed


def _start(member: RunFolder) -> subprocess.Popen:
    command = [sys.executable, "-m", "mcsd_agent", "train", "--resume", "--out", str(member.path), "--quiet"]
    with (member.path / "log.txt").open("ab") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent)


def _die_with_parent() -> None:
    """A run whose parent was killed would go on writing into a folder that is about to be resumed."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else "it said nothing"


def _summarise(run: RunFolder, members: list[RunFolder]) -> dict[str, Any]:
    rows = []
    for member in members:
        groups = {row["group"]: row for row in member.read_json("evaluation.json") or []}
        last = next((row for name, row in groups.items() if not name.startswith("best")), None)
        best = next((row for name, row in groups.items() if name.startswith("best")), last)
        rows.append(
            {
                "seed": member.stored_config()[1]["seed"],
                "run": str(member.path),
                "timesteps": _steps(member),
                "return_mean": last and last["return_mean"],
                "best_mean": best and best["return_mean"],
            }
        )
    summary: dict[str, Any] = {"run": str(run.path), "runs": rows}
    for name, key in (("return", "return_mean"), ("best", "best_mean")):
        values = [row[key] for row in rows if row[key] is not None]
        if values:
            mean, low, high = seeds_interval(values)
            interval = [low, high] if len(values) > 1 else None  # of one value nothing is known but itself
            summary[name] = {"mean": mean, "interval_95": interval, "seeds": len(values)}
    run.write_json("summary.json", summary)
    plot_own_curve(run.path)
    return summary
