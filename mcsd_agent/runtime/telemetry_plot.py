"""A picture of a telemetry log: actions, times, and why the robot stood still."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.runtime.telemetry import FILE_NAME


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """The ticks in a `telemetry.jsonl`, or in the run folder that holds one.

    A last line that was cut short, as a killed process leaves it, is left out.
    """
    path = Path(path)
    path = path / FILE_NAME if path.is_dir() else path
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise UserError(f"telemetry {str(path)!r}: {reason}; give a run folder or its {FILE_NAME}") from None
    ticks: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            tick = json.loads(line)
            if not isinstance(tick, dict) or not {"index", "time", "reason"} <= tick.keys():
                raise ValueError
        except ValueError:
            if number == len(lines) and ticks:
                break
            raise UserError(f"telemetry {str(path)!r}: line {number} is no tick; give a {FILE_NAME}") from None
        ticks.append(tick)
    if not ticks:
        raise UserError(f"telemetry {str(path)!r} holds no ticks; let the controller run first")
    return ticks


def plot_telemetry(log: str | Path, picture: str | Path, names: tuple[str, ...] = (), title: str = "") -> Path:
    """Draws `log` into the PNG file `picture`. `names` label the action entries."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise UserError("plotting needs matplotlib; pip install matplotlib") from None
    ticks = read_log(log)
    time = np.array([t["time"] for t in ticks], np.float64)
    time -= time[0]
    entries = max((len(t["action_asked"] or t["action_sent"] or ()) for t in ticks), default=0)
    figure = Figure(figsize=(10, 2 * (entries + 3)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(entries + 3, 1, sharex=True, squeeze=False)[:, 0]

    for i in range(entries):
        axis = axes[i]
        # A tick that stopped the robot sent zero.
        axis.step(time, _entry(ticks, "action_asked", i, np.nan), where="post", color="tab:orange", lw=1, label="asked")
        axis.step(time, _entry(ticks, "action_sent", i, 0.0), where="post", color="tab:blue", lw=1.5, label="sent")
        axis.set_ylabel(names[i] if i < len(names) else f"action {i}")
        axis.legend(loc="upper right", fontsize="small")

    latency, lateness, age, reasons = axes[entries], axes[entries], axes[entries + 1], axes[entries + 2]
    latency.plot(time, _milliseconds(ticks, "latency_s"), ".", ms=2, label="latency")
    lateness.plot(time, _milliseconds(ticks, "lateness_s"), ".", ms=2, label="lateness")
    latency.set_ylabel("ms")
    latency.legend(loc="upper right", fontsize="small")
    age.plot(time, _milliseconds(ticks, "oldest_s"), ".", ms=2, color="tab:green")
    age.set_ylabel("oldest observation, ms")
    kinds = sorted({t["reason"] for t in ticks}, key=lambda r: (r != "ok", r))
    reasons.plot(time, [kinds.index(t["reason"]) for t in ticks], "|", color="tab:red")
    reasons.set_yticks(range(len(kinds)), kinds)
    reasons.set_ylim(-0.5, len(kinds) - 0.5)
    reasons.set_xlabel("seconds")
    _mark_instructions(axes[0], ticks, time)
    figure.suptitle(title or f"{len(ticks)} ticks")
    picture = Path(picture)
    try:
        picture.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(picture, dpi=110, format="png")
    except OSError as error:
        raise UserError(f"picture {str(picture)!r}: {error.strerror}; give a path that can be written") from None
    return picture


def _entry(ticks: list[dict[str, Any]], key: str, i: int, missing: float) -> list[float]:
    values = [t.get(key) for t in ticks]
    return [missing if v is None or i >= len(v) or v[i] is None else v[i] for v in values]


def _milliseconds(ticks: list[dict[str, Any]], key: str) -> list[float]:
    return [1e3 * (np.nan if t.get(key) is None else t[key]) for t in ticks]


def _mark_instructions(axis: Any, ticks: list[dict[str, Any]], time: np.ndarray) -> None:
    """A line and the words where a new instruction was heard."""
    last = ""
    for t, when in zip(ticks, time, strict=True):
        said = t.get("instruction") or ""
        if said and said != last:
            axis.axvline(when, color="gray", lw=0.8)
            axis.annotate(said, (when, 1.02), xycoords=("data", "axes fraction"), fontsize="x-small", color="gray")
            last = said
