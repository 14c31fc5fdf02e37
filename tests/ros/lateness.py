"""How long this machine lets a process wait: the play that tests of other processes' timing need on a busy one."""

from __future__ import annotations

import threading
import time


class Lateness:
    """How late this machine wakes a thread that sleeps, at worst: what every process here has to put up with."""

    def __init__(self) -> None:
        self.worst_s = 0.0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._measure)

    def __enter__(self) -> Lateness:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _measure(self) -> None:
        before = time.monotonic()
        while not self._is_over.wait(0.005):
            now = time.monotonic()
            self.worst_s, before = max(self.worst_s, now - before - 0.005), now
