"""What the command line shows while it works: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from typing import Any

_SECONDS_BETWEEN_LINES = 10.0


class Reporter:
    """Shows `(stage, fraction, text)` on stderr; a negative fraction is a note that moves no bar."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.stage, self.began, self.printed = "", time.monotonic(), 0.0
        self.bar: Any = None
        self.terminal = sys.stderr.isatty()

    def __call__(self, stage: str, fraction: float, text: str) -> None:
        """Report progress."""
        if self.quiet:
            return
        if stage != self.stage:
            self.close()
            self.stage, self.began, self.printed = stage, time.monotonic(), 0.0
            if self.terminal:
                self.bar = _terminal_bar(stage)
        if self.bar is not None:
            if fraction >= 0:
                self.bar.n = round(100 * min(1.0, fraction))
            self.bar.set_postfix_str(text, refresh=True)
            return
        now = time.monotonic()
        if fraction >= 1.0 or fraction < 0 or now - self.printed >= _SECONDS_BETWEEN_LINES:
            self.printed = now
            share = f"{100 * fraction:3.0f} %  " if fraction >= 0 else "       "
            print(f"[{stage:>8}] {share}{text}  ({now - self.began:.0f} s)", file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the bar under way."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def _terminal_bar(stage: str) -> Any:
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        return None
    return tqdm(total=100, desc=stage, bar_format="{desc:>8} |{bar:30}| {n:3}% [{elapsed}<{remaining}] {postfix}")


def table(header: list[str], rows: list[list[str]]) -> str:
    """A plain text table; numbers are not parsed, columns are as wide as they must be."""
    widths = [max(len(str(r[i])) for r in [header, *rows]) for i in range(len(header))]
    lines = ["  ".join(str(c).ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in [header, *rows]]
    return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])
