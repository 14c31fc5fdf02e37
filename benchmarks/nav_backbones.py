"""Policies with different backbones for one Nav config, equal budgets, several seeds.

    python benchmarks/nav_backbones.py configs/nav/memory.yaml --models mcsd none --out benchmarks/results/nav_memory
    python benchmarks/nav_backbones.py configs/nav/demo.yaml --models mcsd gru:policy.width=116

Runs `mcsd-agent imitate CONFIG` once per model and seed, `--workers` at a time, and writes a table (JSON)
and a picture. A model is a backbone, with settings of its own after a colon. Every run has the same
CPU-seconds, DAgger and evaluation.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcsd_agent.training.statistics import Rate


@dataclass(frozen=True)
class Job:
    """One training run."""

    config: str
    model: str
    seed: int
    folder: Path
    settings: list[str]

    @property
    def out(self) -> Path:
        """Its run folder."""
        return self.folder / f"{self.model.replace(':', '-').replace('=', '-').replace(',', '-')}-{self.seed}"


def run(job: Job) -> dict[str, Any]:
    """Train in a process of its own; a run that is complete already is only read."""
    if not (job.out / "evaluation.json").is_file():
        train(job)
    evaluation = json.loads((job.out / "evaluation.json").read_text())
    row = {"model": job.model, "seed": job.seed, **{e["group"]: e["success"] for e in evaluation}}
    row["episodes"] = evaluation[0]["episodes"]
    with (job.out / "metrics.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    row |= {"updates": int(last["update"]), "updates_per_cpu_second": round(float(last["updates_per_cpu_second"]), 2)}
    print(json.dumps(row), flush=True)
    return row


def train(job: Job) -> None:
    """The command that makes one run."""
    backbone, _, own = job.model.partition(":")
    settings = [f"policy.backbone={backbone}", f"seed={job.seed}", "record.processes=1"]
    settings += [*own.split(","), *job.settings] if own else job.settings
    command = [sys.executable, "-m", "mcsd_agent", "imitate", job.config, "--out", str(job.out)]
    command += [x for s in settings for x in ("--set", s)]
    # One thread per run: runs go on side by side.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr.strip().splitlines()[-1]}")


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Success per model and group, seeds pooled, with 95 % intervals."""
    summary = []
    for model in dict.fromkeys(r["model"] for r in rows):
        mine = [r for r in rows if r["model"] == model]
        for group in ("one_part", "two_parts"):
            rate = Rate(round(sum(r[group] * r["episodes"] for r in mine)), sum(r["episodes"] for r in mine))
            summary.append(
                {
                    "model": model,
                    "group": group,
                    "seeds": [r[group] for r in mine],
                    "success": rate.value,
                    "interval_95": list(rate.interval),
                }
            )
    return summary


def plot(summary: list[dict[str, Any]], path: Path) -> None:
    """Bars with intervals, one dot per seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.5), constrained_layout=True)
    models = list(dict.fromkeys(s["model"] for s in summary))
    for i, entry in enumerate(summary):
        x = models.index(entry["model"]) + (0.2 if entry["group"] == "two_parts" else -0.2)
        low, high = entry["interval_95"]
        value = entry["success"]
        colour = "tab:blue" if entry["group"] == "one_part" else "tab:orange"
        label = entry["group"].replace("_", " ") if i < 2 else None
        axes.bar(x, 100 * value, 0.36, yerr=[[100 * (value - low)], [100 * (high - value)]], color=colour, label=label)
        axes.scatter([x] * len(entry["seeds"]), [100 * s for s in entry["seeds"]], s=12, color="black", zorder=3)
    axes.set_xticks(range(len(models)), [{"none": "no memory"}.get(m, m).replace(":", "\n") for m in models])
    axes.set_ylabel("success on unseen seeds, %")
    axes.set_ylim(0, 100)
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Parse arguments, run, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--models", nargs="+", default=["mcsd", "none", "gru"], metavar="BACKBONE[:KEY=VALUE,...]")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/nav_backbones"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/nav_backbones"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    seeds = range(options.seeds)
    jobs = [Job(options.config, m, s, options.runs, options.set) for s in seeds for m in options.models]
    with ThreadPoolExecutor(options.workers) as pool:
        rows = list(pool.map(run, jobs))
    summary = summarise(rows)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    result = {"config": options.config, "settings": options.set, "rows": rows, "summary": summary}
    options.out.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    plot(summary, options.out.with_suffix(".png"))
    for entry in summary:
        low, high = entry["interval_95"]
        print(f"{entry['model']:>6} {entry['group']:>9}: {entry['success']:.3f} [{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    main()
