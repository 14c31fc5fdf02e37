"""The rows of benchmarks/language.py as a picture: success by level and backbone, seeds pooled.

    python benchmarks/language_plot.py benchmarks/results/language.json --out benchmarks/results/language.png

Bars are the most probable action with its 95 % interval, dots the seeds, diamonds drawn actions. Rows of one level that
differ by their number of demonstrations are bars of their own.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from mcsd_agent.training.statistics import Rate

#: The order of bars, and what a model is called.
MODELS = {"mcsd": "MCSD", "gru": "GRU", "none": "no memory"}


def pooled(rows: list[dict[str, Any]], group: int) -> tuple[Rate, list[float]]:
    """The success of all rows together, and of each, in the `group`-th evaluation."""
    judged = [r["evaluation"][group] for r in rows]
    successes = sum(round(e["success"] * e["episodes"]) for e in judged)
    return Rate(successes, sum(e["episodes"] for e in judged)), [e["success"] for e in judged]


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw `rows` into the file `path`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    tasks = list(dict.fromkeys((r["level"], r["demonstrations"]) for r in rows))
    figure, axes = plt.subplots(figsize=(1.6 + 1.3 * len(tasks), 3.8), constrained_layout=True)
    for i, (model, title) in enumerate(MODELS.items()):
        label: str | None = title
        for x, task in enumerate(tasks):
            mine = [r for r in rows if r["model"] == model and (r["level"], r["demonstrations"]) == task]
            if not mine:
                continue
            rate, each = pooled(mine, 0)
            low, high = rate.interval
            at, error = x + 0.27 * (i - 1), [[100 * (rate.value - low)], [100 * (high - rate.value)]]
            axes.bar(at, 100 * rate.value, 0.25, yerr=error, color=f"C{i}", label=label)
            axes.scatter([at] * len(each), [100 * s for s in each], s=8, color="black", zorder=3)
            if all(len(r["evaluation"]) > 1 for r in mine):
                axes.scatter([at], [100 * pooled(mine, 1)[0].value], s=22, marker="D", fc="white", ec="black", zorder=4)
            label = None
    axes.set_xticks(range(len(tasks)), [f"{Path(level).stem}\n{count}" for level, count in tasks])
    axes.set_ylabel("success on unseen seeds, %")
    axes.set_ylim(0, 101)
    axes.legend(loc="upper right")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Parse arguments, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    plot(json.loads(options.rows.read_text())["rows"], options.out)


if __name__ == "__main__":
    main()
