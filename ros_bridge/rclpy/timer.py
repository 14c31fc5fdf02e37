"""`Timer`, as in `rclpy.timer`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


class Timer:
    """Made by `Node.create_timer`. Keeps to its grid: a late call does not delay the next ones."""

    def __init__(self, callback: Callable[[], Any] | None, timer_period_ns: int, *, autostart: bool = True) -> None:
        self.callback = callback
        self._period_ns = timer_period_ns
        self._last_ns = time.monotonic_ns()
        self._next_ns = self._last_ns + timer_period_ns
        self._canceled = not autostart

    @property
    def timer_period_ns(self) -> int:
        """Period in nanoseconds."""
        return self._period_ns

    @timer_period_ns.setter
    def timer_period_ns(self, value: int) -> None:
        self._period_ns = int(value)

    def is_ready(self) -> bool:
        """Whether the period has passed."""
        return not self._canceled and time.monotonic_ns() >= self._next_ns

    def is_canceled(self) -> bool:
        """Whether `cancel` was called (and not `reset`)."""
        return self._canceled

    def cancel(self) -> None:
        """Stop firing."""
        self._canceled = True

    def reset(self) -> None:
        """Fire again, one period from now."""
        self._canceled = False
        self._next_ns = time.monotonic_ns() + self._period_ns

    def time_since_last_call(self) -> int:
        """Nanoseconds."""
        return time.monotonic_ns() - self._last_ns

    def time_until_next_call(self) -> int | None:
        """Nanoseconds, negative when late; None when cancelled."""
        return None if self._canceled else self._next_ns - time.monotonic_ns()

    def take(self) -> Callable[[], Any] | None:
        """The next callback to run, or None. For the executor."""
        if not self.is_ready():
            return None
        now = time.monotonic_ns()
        self._last_ns = now
        # Missed periods are skipped, not made up for.
        missed = (now - self._next_ns) // self._period_ns if self._period_ns > 0 else 0
        self._next_ns += (missed + 1) * self._period_ns
        return self.callback

    def destroy(self) -> None:
        """Use `Node.destroy_timer`."""
        self._canceled = True
        self.callback = None
