"""The picture of `bench scan`: tokens per second and peak memory by sequence length, both axes logarithmic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mcsd_agent.errors import UserError


def plot_scan(result: dict[str, Any], path: Path) -> None:
    """Write a PNG of the rows without episode starts."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import NullLocator

    rows = [row for row in result["rows"] if row["starts_every"] is None]
    lengths = sorted({row["T"] for row in rows})
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.2), constrained_layout=True)
    for panel, key, label, unit in (
        (panels[0], "tokens_per_s", "tokens per second, forward and backward", 1.0),
        (panels[1], "peak_bytes", "peak memory (MB)", 1e-6),
    ):
        for i, model in enumerate(dict.fromkeys(row["model"] for row in rows)):
            points = sorted((row["T"], row[key] * unit) for row in rows if row["model"] == model and row[key])
            own = model.startswith("mcsd-")
            panel.plot(*zip(*points, strict=True), "o-" if own else ".--", lw=2 if own else 1, c=f"C{i}", label=model)
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xticks(lengths, [str(t) for t in lengths])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xlabel("sequence length (tokens)")
        panel.set_title(label)
        panel.grid(alpha=0.3, which="both")
    panels[0].legend(fontsize=8)
    first = rows[0]
    figure.suptitle(
        f"{result['device']}: {first['params']:,} parameters, {first['layers']} layers, {first['dtype']}", fontsize=9
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise UserError(f"plot {str(path)!r}: {error}; give the path of a PNG that can be written") from None
    finally:
        plt.close(figure)
