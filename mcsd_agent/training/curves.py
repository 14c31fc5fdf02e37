"""Learning curves: runs that differ only by their seed are one curve, with its mean and a 95 % interval."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcsd_agent.errors import UserError, nearest
from mcsd_agent.training.run_folder import RunFolder
from mcsd_agent.training.statistics import seeds_interval

#: Column for the horizontal axis and column for the vertical axis, the first pair that all runs have.
_AXES = (
    ("timesteps", "rollout/success_rate"),
    ("timesteps", "rollout/ep_rew_mean"),
    ("timesteps", "eval/return_mean"),
    ("cpu_seconds", "loss"),
)
_DIFFERENCES_IN_LABEL = 4


@dataclass(frozen=True)
class Curve:
    """Arrays `(points,)`: the mean over the runs of a group, and the ends of its 95 % interval."""

    label: str
    runs: int
    x_name: str
    y_name: str
    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def final_text(self) -> str:
        """The last mean, with its interval when there are several runs."""
        interval = f" [{self.low[-1]:.4g}, {self.high[-1]:.4g}]" if self.runs > 1 else ""
        return f"{self.mean[-1]:.4g}{interval}"

    def to_json(self) -> dict[str, Any]:
        """Its end, as plain values."""
        return {
            "label": self.label,
            "runs": self.runs,
            self.x_name: float(self.x[-1]),
            self.y_name: float(self.mean[-1]),
            "interval_95": [float(self.low[-1]), float(self.high[-1])] if self.runs > 1 else None,
        }


@dataclass(frozen=True)
class _Run:
    name: str
    config: dict[str, Any]  # flat: dotted key to value
    rows: list[dict[str, str]]

    def points(self, x_name: str, y_name: str) -> list[tuple[float, float]]:
        return [(float(r[x_name]), float(r[y_name])) for r in self.rows if r.get(x_name) and r.get(y_name)]


def plot_runs(folders: Sequence[Path], out: Path, y: str | None = None) -> list[Curve]:
    """Write a PNG with one curve per group of runs; a folder of several seeds stands for the runs in it.

    `y` is the column of metrics.csv to draw. `UserError` for a folder without metrics, or without that column, and
    for a picture that cannot be written.
    """
    curves = curves_of(folders, y)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _draw(curves, out)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"plot {str(out)!r}: {reason}; give the path of a PNG that can be written") from None
    return curves


def plot_own_curve(folder: Path) -> None:
    """curve.png in a run's folder, where there is anything to draw yet; `OSError` where it cannot be written."""
    with suppress(UserError):
        curves = curves_of([folder])
        _draw(curves, folder / "curve.png")


def _draw(curves: list[Curve], out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), constrained_layout=True)
    for curve in curves:
        (line,) = axes.plot(
            curve.x, curve.mean, label=f"{curve.label} ({curve.runs} runs)" if curve.runs > 1 else curve.label
        )
        if curve.runs > 1:
            axes.fill_between(curve.x, curve.low, curve.high, alpha=0.2, color=line.get_color(), linewidth=0)
    axes.set_xlabel(curves[0].x_name.replace("_", " "))
    axes.set_ylabel(curves[0].y_name.split("/")[-1].replace("_", " "))
    axes.grid(alpha=0.3)
    axes.legend()
    try:
        figure.savefig(out, dpi=120, format=out.suffix[1:] or "png")  # else Matplotlib appends .png to the name
    finally:
        plt.close(figure)


def curves_of(folders: Sequence[Path], y: str | None = None) -> list[Curve]:
    """One curve per group, in the order in which the groups were first named."""
    runs = [_read(path) for folder in folders for path in _members(folder)]
    x_name, y_name = _axes(runs, y)
    groups: dict[str, list[_Run]] = {}
    for run in runs:
        key = json.dumps({k: v for k, v in run.config.items() if k != "seed"}, sort_keys=True, default=str)
        groups.setdefault(key, []).append(run)
    labels = _labels([members[0] for members in groups.values()])
    return [_curve(label, g, x_name, y_name) for label, g in zip(labels, groups.values(), strict=True)]


def _members(folder: Path) -> list[Path]:
    """The run itself, or the runs of several seeds below it that have begun."""
    path = RunFolder.open(folder).path
    seeds = sorted(p.parent for p in path.glob("seed-*/metrics.csv"))
    return seeds if seeds and not (path / "metrics.csv").is_file() else [path]


def _read(path: Path) -> _Run:
    table = path / "metrics.csv"
    if not table.is_file():
        raise UserError(f"run {str(path)!r} has no metrics.csv yet; train it first")
    kind, config = RunFolder.open(path).stored_config()
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    name = path.parent.name if path.name.startswith("seed-") else path.name
    return _Run(name, {"kind": kind, **_flat(config)}, rows)


def _axes(runs: list[_Run], y: str | None) -> tuple[str, str]:
    candidates = _AXES if y is None else (("timesteps", y), ("cpu_seconds", y))
    for x_name, y_name in candidates:
        if all(run.points(x_name, y_name) for run in runs):
            return x_name, y_name
    missing = next(r for r in runs if not any(r.points(*axes) for axes in candidates) or r is runs[-1])
    if y is not None:
        columns = [c for c in (missing.rows[0] if missing.rows else {}) if c]
        raise UserError(f"run {missing.name!r}: metrics.csv has no values in column {y!r}{nearest(y, columns)}")
    names = ", ".join(n for _, n in _AXES)
    raise UserError(f"run {missing.name!r}: metrics.csv has none of the columns {names} that the others have")


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return flat


def _labels(first: list[_Run]) -> list[str]:
    """What sets each group apart from the others: the keys of the config that differ, else the folder's name."""
    if len(first) == 1:
        return [first[0].name]
    keys = dict.fromkeys(k for run in first for k in run.config if k != "seed")
    differing = [k for k in keys if len({json.dumps(run.config.get(k), default=str) for run in first}) > 1]
    labels = []
    for run in first:
        shown = [f"{k}={run.config[k]}" for k in differing if k in run.config]
        more = ", …" if len(shown) > _DIFFERENCES_IN_LABEL else ""
        labels.append(", ".join(shown[:_DIFFERENCES_IN_LABEL]) + more)
    unique = len(set(labels)) == len(labels) and all(labels)
    return (
        labels
        if unique
        else [f"{run.name}: {label}" if label else run.name for run, label in zip(first, labels, strict=True)]
    )


def _curve(label: str, runs: list[_Run], x_name: str, y_name: str) -> Curve:
    series = [np.array(run.points(x_name, y_name)).T for run in runs]
    # only where all runs have been, so that the mean is of the same runs everywhere
    start, end = max(s[0][0] for s in series), min(s[0][-1] for s in series)
    x = np.unique(np.concatenate([s[0][(s[0] >= start) & (s[0] <= end)] for s in series]))
    if not x.size:
        raise UserError(f"the runs of {label!r} have no steps in common; plot them one by one")
    values = np.array([np.interp(x, *s) for s in series])
    intervals = np.array([seeds_interval(column) for column in values.T])
    return Curve(label, len(runs), x_name, y_name, x, *intervals.T)
