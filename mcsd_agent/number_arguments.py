"""Numbers on the command line that are checked where they are read: times and seeds.

They are argparse's actions and not types, because argparse replaces what a type raises by its usage.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from mcsd_agent.errors import UserError

#: Thirty years: what can be waited for on any system.
_LONGEST_S = 1e9
#: Of NumPy's older generators, from which stable-baselines3 draws.
LARGEST_SEED = 2**32 - 1


class Seconds(argparse.Action):
    """A time above 0 that passes."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, type=float, **options)

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        """Keep it, or raise `UserError`."""
        if not 0 < values <= _LONGEST_S:
            raise UserError(f"{option} {values:g} must be seconds, above 0 and at most 1e9, such as {option} 60")
        setattr(namespace, self.dest, values)


class Seed(argparse.Action):
    """A whole number from which everything random follows."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, type=int, **options)

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        """Keep it, or raise `UserError`."""
        if not 0 <= values <= LARGEST_SEED:
            raise UserError(f"{option} {values} must be from 0 to {LARGEST_SEED}, such as {option} 7")
        setattr(namespace, self.dest, values)
