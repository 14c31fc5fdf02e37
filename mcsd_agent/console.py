"""What the command line shows while it works: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from typing import Any

_SECONDS_BETWEEN_LINES = 10.0


class Reporter:
    """Shows `(stage, fraction, text)` on stderr; a negative fraction moves no bar; "note" is never quiet."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.stage, self.began, self.printed = "", time.monotonic(), 0.0
        self.bar: Any = None
        self.first: float | None = None  # fraction at the stage's first report
        self.terminal = sys.stderr.isatty()

    def __call__(self, stage: str, fraction: float, text: str) -> None:
        """Report progress."""
        if stage == "note":
            self._say(f"note: {text}")
            return
        if self.quiet:
            return
        if stage != self.stage:
            self.close()
            self.stage, self.began, self.printed, self.first = stage, time.monotonic(), 0.0, None
            if self.terminal:
                self.bar = _terminal_bar(stage)
        if self.bar is not None:
            if fraction >= 0:
                if self.first is None:  # what remains is estimated from here: a resumed run does not begin at 0
                    self.first = self.bar.initial = 100 * min(1.0, fraction)
                self.bar.n = 100 * min(1.0, fraction)
            self.bar.set_postfix_str(text, refresh=True)
            return
        now = time.monotonic()
        if fraction >= 1.0 or fraction < 0 or now - self.printed >= _SECONDS_BETWEEN_LINES:
            self.printed = now
            share = f"{100 * fraction:3.0f} %  " if fraction >= 0 else "       "
            left = self._left(fraction, now - self.began)
            print(f"[{stage:>8}] {share}{text}  ({now - self.began:.0f} s{left})", file=sys.stderr, flush=True)

    def _left(self, fraction: float, elapsed: float) -> str:
        """How much longer, from the rate since this process began: a resumed run does not begin at 0."""
        if fraction < 0 or fraction >= 1.0:
            return ""
        if self.first is None:
            self.first = fraction
        gained = fraction - self.first
        return f", {elapsed * (1.0 - fraction) / gained:.0f} s left" if gained > 0 else ""

    def _say(self, line: str) -> None:
        if self.bar is not None:
            self.bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)

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
    return tqdm(total=100, desc=stage, bar_format="{desc:>8} |{bar:30}| {n:3.0f}% [{elapsed}<{remaining}] {postfix}")


def table(header: list[str], rows: list[list[str]]) -> str:
    """A plain text table; numbers are not parsed, columns are as wide as they must be."""
    widths = [max(len(str(r[i])) for r in [header, *rows]) for i in range(len(header))]
    lines = ["  ".join(str(c).ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in [header, *rows]]
    return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])
