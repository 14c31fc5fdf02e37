"""Ends what a process has started when that process is gone, even by `kill -9`, which closes its pipes all the same.

    with Keeper() as keeper:
        keeper.watch(child.pid)  # the leader of a session of its own

The keeper is a process that reads the groups from a pipe. At the pipe's end it ends those that are still there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Self

_GRACE_S = 2.0
_POLL_S = 0.05


class Keeper:
    """Watches until its block is left, or the process dies."""

    def __enter__(self) -> Self:
        # In a session of its own: what a terminal sends must not end it first.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ros_bridge.orphans"], stdin=subprocess.PIPE, text=True, start_new_session=True
        )
        return self

    def __exit__(self, *failure: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def watch(self, group: int) -> None:
        """End the process group `group` too."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{group}\n")
        self._process.stdin.flush()


def end_groups(groups: Iterable[int]) -> None:
    """End process groups, politely, then by force; those that are gone already are no matter."""
    left = _signalled(groups, signal.SIGTERM)
    end = time.monotonic() + _GRACE_S
    while left and time.monotonic() < end:
        time.sleep(_POLL_S)
        left = [group for group in left if _signalled([group], 0)]
    _signalled(left, signal.SIGKILL)


def _signalled(groups: Iterable[int], number: int) -> list[int]:
    """The groups that are there, which have got the signal."""
    there = []
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)
            there.append(group)
    return there


if __name__ == "__main__":
    end_groups([int(line) for line in sys.stdin])
