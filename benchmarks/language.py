"""Policies that carry out instructions: levels × backbones × seeds, with one encoder and one budget per level.

    python benchmarks/language.py --levels goto_local pickup_loc put_next_local --workers 2
    python benchmarks/language.py --levels goto goto_seq --device cuda --processes 16 --workers 3

A level is the name of a config in configs/babyai/ (or a path to one), a model a backbone with settings of its own
after a colon, such as `gru:policy.width=160`. Demonstrations are recorded once per level, by `--processes`, into the
folder that the config names. Then `mcsd-agent imitate` runs once per level, model and seed, `--workers` at a time,
and each run's row is added to `--out` at once: what is there already is not run again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcsd_agent.console import Reporter
from mcsd_agent.training.config import ImitateConfig, load_config
from mcsd_agent.training.recording import record_to


@dataclass(frozen=True)
class Job:
    """One training run."""

    level: str
    model: str
    seed: int
    settings: tuple[str, ...]
    device: str
    runs: Path

    @property
    def key(self) -> dict[str, Any]:
        """What a row is known by."""
        return {"level": self.level, "model": self.model, "seed": self.seed, "settings": list(self.settings)}

    @property
    def out(self) -> Path:
        """Its run folder."""
        words = (self.level, self.model, *self.settings, str(self.seed))
        return self.runs / "-".join("".join(c if c.isalnum() or c in "._" else "-" for c in w) for w in words)

    @property
    def command(self) -> list[str]:
        """What makes it, but for the interpreter."""
        backbone, _, own = self.model.partition(":")
        settings = [f"policy.backbone={backbone}", f"seed={self.seed}", *filter(None, own.split(",")), *self.settings]
        sets = [x for s in settings for x in ("--set", s)]
        return ["imitate", str(config_of(self.level)), "--out", str(self.out), "--device", self.device, *sets]


def config_of(level: str) -> Path:
    """The level's config file."""
    return Path(level) if level.endswith(".yaml") else Path("configs/babyai") / f"{level}.yaml"


def run(job: Job) -> dict[str, Any]:
    """Train in a process of its own; a run that is complete already is only read."""
    seconds = None
    if not (job.out / "evaluation.json").is_file():
        began = time.monotonic()
        command = [sys.executable, "-m", "mcsd_agent", *job.command, "--quiet"]
        # One thread per run: runs go on side by side.
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
        seconds = round(time.monotonic() - began, 1)
    with (job.out / "metrics.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    return {
        **job.key,
        "command": " ".join(["mcsd-agent", *job.command]),
        "device": device_name(job.device),
        "demonstrations": int(last["episodes"]),
        "updates": int(last["update"]),
        "training_cpu_seconds": round(float(last["cpu_seconds"]), 1),
        "wall_seconds": seconds,
        "evaluation": json.loads((job.out / "evaluation.json").read_text()),
    }


def device_name(device: str) -> str:
    """The processor's own name."""
    if device == "cpu":
        lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "cpu")
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


class Rows:
    """The table, rewritten whole after every run."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, json.loads(path.read_text())["rows"] if path.is_file() else []
        self._lock = threading.Lock()

    def has(self, job: Job) -> bool:
        """Whether this run's row is there."""
        return any(all(row[k] == v for k, v in job.key.items()) for row in self.rows)

    def add(self, row: dict[str, Any]) -> None:
        """One more row, on the disk when this returns."""
        with self._lock:
            self.rows.append(row)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = self.path.with_suffix(".part")
            unfinished.write_text(json.dumps({"rows": self.rows}, indent=1) + "\n")
            os.replace(unfinished, self.path)


def record(level: str, settings: list[str], processes: int) -> None:
    """The level's demonstrations, unless they are there."""
    config = load_config(ImitateConfig, config_of(level), [*settings, f"record.processes={processes}"])
    if config.demonstrations is None or config.demonstrations.exists():
        return
    began, report = time.monotonic(), Reporter(quiet=True)
    recorded = record_to(config.demonstrations, config.record, 0, report)
    print(f"{level}: {recorded} in {time.monotonic() - began:.0f} s by {processes} processes", flush=True)


def main() -> int:
    """Parse arguments, run, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--levels", nargs="+", default=["goto_local", "pickup_loc", "put_next_local"])
    parser.add_argument("--models", nargs="+", default=["mcsd", "gru", "none"], metavar="BACKBONE[:KEY=VALUE,...]")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--workers", type=int, default=1, help="training runs at a time")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="that record")
    parser.add_argument("--record-only", action="store_true")
    parser.add_argument("--runs", type=Path, default=Path("runs/language"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/language.json"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of every run; repeatable")
    options = parser.parse_args()
    for level in options.levels:
        record(level, options.set, options.processes)
    if options.record_only:
        return 0
    rows, failed = Rows(options.out), 0
    # Seed by seed, so that a run that is cut off has something of every level and model.
    jobs = [
        Job(level, model, seed, tuple(options.set), options.device, options.runs)
        for seed in range(options.seeds)
        for level in options.levels
        for model in options.models
    ]

    def work(job: Job) -> None:
        nonlocal failed
        try:
            row = run(job)
        except RuntimeError as error:
            failed += 1
            print(error, flush=True)
            return
        rows.add(row)
        success = ", ".join(f"{e['group']} {e['success']:.3f}" for e in row["evaluation"])
        print(f"{job.level} {job.model} seed {job.seed}: {success}, {row['training_cpu_seconds']} CPU-s", flush=True)

    with ThreadPoolExecutor(options.workers) as pool:
        list(pool.map(work, [job for job in jobs if not rows.has(job)]))
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
