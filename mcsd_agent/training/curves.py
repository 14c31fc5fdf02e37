"""Learning curves of runs in one picture."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from mcsd_agent.errors import UserError
from mcsd_agent.training.run_folder import RunFolder

#: Column for the horizontal axis and column for the vertical axis, the first pair that a run has.
_AXES = (
    ("timesteps", "rollout/success_rate"),
    ("timesteps", "rollout/ep_rew_mean"),
    ("cpu_seconds", "loss"),
)


def plot_runs(runs: Sequence[Path], out: Path) -> None:
    """Write a PNG with one line per run; `UserError` for a folder without metrics."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), constrained_layout=True)
    for path in runs:
        x_name, y_name, xs, ys = _curve(RunFolder.open(path).path)
        axes.plot(xs, ys, label=path.name)
        axes.set_xlabel(x_name.replace("_", " "))
        axes.set_ylabel(y_name.split("/")[-1].replace("_", " "))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(out, dpi=120)
    plt.close(figure)


def _curve(path: Path) -> tuple[str, str, list[float], list[float]]:
    table = path / "metrics.csv"
    if not table.is_file():
        raise UserError(f"run {str(path)!r} has no metrics.csv yet; train it first")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for x_name, y_name in _AXES:
        points = [(float(r[x_name]), float(r[y_name])) for r in rows if r.get(x_name) and r.get(y_name)]
        if points:
            return x_name, y_name, [p[0] for p in points], [p[1] for p in points]
    raise UserError(f"run {str(path)!r}: metrics.csv has none of the columns {', '.join(y for _, y in _AXES)}")
