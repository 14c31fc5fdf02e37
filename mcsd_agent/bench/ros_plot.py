"""The picture of `bench ros`: round trips of both paths by rate, one panel for each message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mcsd_agent.errors import UserError


def plot_ros(result: dict[str, Any], path: Path) -> None:
    """Write a PNG of the rows: p50 as a line, p99 dashed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    messages = list(dict.fromkeys(row["message"] for row in result["rows"]))
    figure, panels = plt.subplots(1, len(messages), figsize=(4 * len(messages), 3.6), squeeze=False, sharey=True)
    for panel, message in zip(panels[0], messages, strict=True):
        for color, way in (("C0", "native"), ("C1", "bridge")):
            rows = sorted(
                (row for row in result["rows"] if row["message"] == message and row["path"] == way),
                key=lambda row: row["rate_hz"],
            )
            rates = [row["rate_hz"] for row in rows]
            panel.plot(rates, [row["p50_ms"] for row in rows], "o-", c=color, label=f"{way}, p50")
            panel.plot(rates, [row["p99_ms"] for row in rows], ".--", c=color, lw=1, label=f"{way}, p99")
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xticks(rates, [f"{rate:g}" for rate in rates])
        panel.minorticks_off()
        panel.set_title(message, fontsize=10)
        panel.set_xlabel("messages per second")
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("round trip (ms)")
    panels[0][0].legend(fontsize=8)
    figure.tight_layout()
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise UserError(f"plot {str(path)!r}: {error}; give a folder that can be written") from None
    finally:
        plt.close(figure)
