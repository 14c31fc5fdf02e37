"""The one exception that a user can cause.

Everything a user hands in (a config, an artifact, a path, a URL) is checked where it enters. What
fails the check raises `UserError` with one line that names the value, the constraint and the
remedy; the command line prints that line to stderr and exits with code 2.
"""

from __future__ import annotations

from collections.abc import Iterable


class UserError(ValueError):
    """Bad input: the message is one line and says what to do about it."""


def nearest(name: str, candidates: Iterable[str]) -> str:
    """The phrase `"; did you mean 'x'?"` for the closest candidate, else a list of a dozen at most."""
    import difflib  # needed only when something is wrong

    options = sorted(candidates)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    if not options:
        return ""
    more = f" and {len(options) - 12} more" if len(options) > 12 else ""
    return f"; choose from {', '.join(options[:12])}{more}"
