"""Does the memory do anything? NavMemory with and without it, equal budgets, several seeds.

    python benchmarks/nav_memory.py --seeds 3 --out benchmarks/results/nav_memory

Runs `mcsd-agent imitate configs/nav/memory.yaml` once per backbone and seed, `--workers` at a time, and
writes a table (JSON) and a picture. Every run has the same CPU-seconds, DAgger and evaluation.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mcsd_agent.training.statistics import Rate

CONFIG = "configs/nav/memory.yaml"


def run(job: tuple[str, int, Path, list[str]]) -> dict[str, Any]:
    """One training run in its own process; a run that is complete already is only read."""
    backbone, seed, folder, extra = job
    out = folder / f"{backbone}-{seed}"
    if not (out / "evaluation.json").is_file():
        train(backbone, seed, out, extra)
    evaluation = json.loads((out / "evaluation.json").read_text())
    row = {"backbone": backbone, "seed": seed, **{e["group"]: e["success"] for e in evaluation}}
    row["episodes"] = evaluation[0]["episodes"]
    print(json.dumps(row), flush=True)
    return row


def train(backbone: str, seed: int, out: Path, extra: list[str]) -> None:
    """The command that makes one run."""
    settings = [f"policy.backbone={backbone}", f"seed={seed}", "record.processes=1", *extra]
    command = [sys.executable, "-m", "mcsd_agent", "imitate", CONFIG, "--out", str(out)]
    command += [x for s in settings for x in ("--set", s)]
    # One thread per run: runs go on side by side.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr.strip().splitlines()[-1]}")


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Success per backbone and group, seeds pooled, with 95 % intervals."""
    summary = []
    for backbone in dict.fromkeys(r["backbone"] for r in rows):
        mine = [r for r in rows if r["backbone"] == backbone]
        for group in ("one_part", "two_parts"):
            rate = Rate(round(sum(r[group] * r["episodes"] for r in mine)), sum(r["episodes"] for r in mine))
            summary.append(
                {
                    "backbone": backbone,
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
    backbones = list(dict.fromkeys(s["backbone"] for s in summary))
    for i, entry in enumerate(summary):
        x = backbones.index(entry["backbone"]) + (0.2 if entry["group"] == "two_parts" else -0.2)
        low, high = entry["interval_95"]
        value = entry["success"]
        colour = "tab:blue" if entry["group"] == "one_part" else "tab:orange"
        label = entry["group"].replace("_", " ") if i < 2 else None
        axes.bar(x, 100 * value, 0.36, yerr=[[100 * (value - low)], [100 * (high - value)]], color=colour, label=label)
        axes.scatter([x] * len(entry["seeds"]), [100 * s for s in entry["seeds"]], s=12, color="black", zorder=3)
    axes.set_xticks(range(len(backbones)), [{"none": "no memory"}.get(b, b) for b in backbones])
    axes.set_ylabel("success on unseen seeds, %")
    axes.set_ylim(0, 100)
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Parse arguments, run, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", default="mcsd,none,gru")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/nav_memory"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/nav_memory"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    jobs = [(b, s, options.runs, options.set) for s in range(options.seeds) for b in options.backbones.split(",")]
    with ThreadPoolExecutor(options.workers) as pool:
        rows = list(pool.map(run, jobs))
    summary = summarise(rows)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    result = {"config": CONFIG, "settings": options.set, "rows": rows, "summary": summary}
    options.out.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    plot(summary, options.out.with_suffix(".png"))
    for entry in summary:
        low, high = entry["interval_95"]
        print(f"{entry['backbone']:>6} {entry['group']:>9}: {entry['success']:.3f} [{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    main()
