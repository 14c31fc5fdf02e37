"""Pictures of a telemetry log: actions, times, observations, the memory, and why the robot stood still."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, get_args

import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.runtime.controller_mode import Mode
from mcsd_agent.runtime.telemetry_read import read_log

Ticks: TypeAlias = list[dict[str, Any]]
#: Draws something over time on one pair of axes.
_Panel: TypeAlias = Callable[[Any, Ticks, np.ndarray], None]
_MODES = get_args(Mode)


def plot_telemetry(log: str | Path, picture: str | Path, names: tuple[str, ...] = (), title: str = "") -> Path:
    """Draws `log` into one PNG file, `picture`. `names` label the action entries."""
    ticks = read_log(log)
    return _draw(ticks, Path(picture), [*_actions(ticks, names), *_TIMES], title or f"{len(ticks)} ticks")


def plot_page(log: str | Path, folder: str | Path, names: tuple[str, ...] = ()) -> Path:
    """Draws `log` into PNG files in `folder`, and a page that shows them all: `index.html`, which is returned."""
    ticks, folder = read_log(log), Path(folder)
    seen = sorted({name for t in ticks for name in t.get("observation") or ()})
    pictures: dict[str, Sequence[_Panel]] = {
        "actions": _actions(ticks, names),
        "times": _TIMES,
        "observations": [partial(_observation, name=name) for name in seen],
        "memory": [_norm, *([_success] if any(t.get("success") is not None for t in ticks) else []), _modes],
    }
    drawn = [_draw(ticks, folder / f"{name}.png", panels, name) for name, panels in pictures.items() if panels]
    title = html.escape(f"{Path(log).name}: {len(ticks)} ticks")
    images = "".join(f'<p><img src="{path.name}" alt="{path.stem}"></p>\n' for path in drawn)
    page = folder / "index.html"
    page.write_text(f"<!doctype html>\n<meta charset=utf-8>\n<title>{title}</title>\n<h1>{title}</h1>\n{images}")
    return page


def _draw(ticks: Ticks, picture: Path, panels: Sequence[_Panel], title: str) -> Path:
    """One panel below the other, with the instructions above the first."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise UserError("plotting needs matplotlib; pip install matplotlib") from None
    time = np.array([t["time"] for t in ticks], np.float64)
    time -= time[0]
    figure = Figure(figsize=(10, 2 * len(panels)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, panel in zip(axes, panels, strict=True):
        panel(axis, ticks, time)
    axes[-1].set_xlabel("seconds")
    _mark_instructions(axes[0], ticks, time)
    figure.suptitle(title)
    try:
        picture.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(picture, dpi=110, format="png")
    except OSError as error:
        raise UserError(f"picture {str(picture)!r}: {error.strerror}; give a path that can be written") from None
    return picture


# --- panels --------------------------------------------------------------------------------------


def _actions(ticks: Ticks, names: tuple[str, ...]) -> list[_Panel]:
    """A panel per action entry."""
    entries = max((len(t["action_asked"] or t["action_sent"] or ()) for t in ticks), default=0)
    return [partial(_action, i=i, name=names[i] if i < len(names) else f"action {i}") for i in range(entries)]


def _action(axis: Any, ticks: Ticks, time: np.ndarray, *, i: int, name: str) -> None:
    # A tick that stopped the robot sent zero.
    axis.step(time, _entry(ticks, "action_asked", i, np.nan), where="post", color="tab:orange", lw=1, label="asked")
    axis.step(time, _entry(ticks, "action_sent", i, 0.0), where="post", color="tab:blue", lw=1.5, label="sent")
    axis.set_ylabel(name)
    axis.legend(loc="upper right", fontsize="small")


def _latency(axis: Any, ticks: Ticks, time: np.ndarray) -> None:
    for name in ("latency", "policy", "lateness"):
        axis.plot(time, _milliseconds(ticks, f"{name}_s"), ".", ms=2, label=name)
    axis.set_ylabel("ms")
    axis.legend(loc="upper right", fontsize="small")


def _age(axis: Any, ticks: Ticks, time: np.ndarray) -> None:
    axis.plot(time, _milliseconds(ticks, "oldest_s"), ".", ms=2, color="tab:green")
    axis.set_ylabel("oldest observation, ms")


def _reasons(axis: Any, ticks: Ticks, time: np.ndarray) -> None:
    kinds = sorted({t["reason"] for t in ticks}, key=lambda r: (r != "ok", r))
    _levels(axis, time, [t["reason"] for t in ticks], kinds, "tab:red")


def _modes(axis: Any, ticks: Ticks, time: np.ndarray) -> None:
    _levels(axis, time, [t.get("mode", "inactive") for t in ticks], _MODES, "tab:purple")


def _observation(axis: Any, ticks: Ticks, time: np.ndarray, *, name: str) -> None:
    summaries = [(t.get("observation") or {}).get(name) or {} for t in ticks]
    low, mean, high = ([np.nan if s.get(k) is None else s[k] for s in summaries] for k in ("min", "mean", "max"))
    axis.fill_between(time, low, high, step="post", color="tab:blue", alpha=0.25, lw=0)
    axis.step(time, mean, where="post", color="tab:blue", lw=1)
    axis.set_ylabel(name)


def _norm(axis: Any, ticks: Ticks, time: np.ndarray) -> None:
    axis.plot(time, [np.nan if t.get("state_norm") is None else t["state_norm"] for t in ticks], lw=1)
    axis.set_ylabel("norm of the memory")


def _success(axis: Any, ticks: Ticks, time: np.ndarray) -> None:
    axis.plot(time, [np.nan if t.get("success") is None else t["success"] for t in ticks], lw=1, color="tab:green")
    axis.set_ylim(-0.05, 1.05)
    axis.set_ylabel("estimate of success")


_TIMES: list[_Panel] = [_latency, _age, _reasons]


def _levels(axis: Any, time: np.ndarray, values: list[str], kinds: Sequence[str], color: str) -> None:
    axis.plot(time, [kinds.index(value) for value in values], "|", color=color)
    axis.set_yticks(range(len(kinds)), kinds)
    axis.set_ylim(-0.5, len(kinds) - 0.5)


def _entry(ticks: Ticks, key: str, i: int, missing: float) -> list[float]:
    values = [t.get(key) for t in ticks]
    return [missing if v is None or i >= len(v) or v[i] is None else v[i] for v in values]


def _milliseconds(ticks: Ticks, key: str) -> list[float]:
    return [1e3 * (np.nan if t.get(key) is None else t[key]) for t in ticks]


def _mark_instructions(axis: Any, ticks: Ticks, time: np.ndarray) -> None:
    """A line and the words where a new instruction was heard."""
    last = ""
    for t, when in zip(ticks, time, strict=True):
        said = t.get("instruction") or ""
        if said and said != last:
            axis.axvline(when, color="gray", lw=0.8)
            axis.annotate(said, (when, 1.02), xycoords=("data", "axes fraction"), fontsize="x-small", color="gray")
            last = said
