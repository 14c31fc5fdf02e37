"""Queues of received messages that keep the newest, with one bound on the memory of all queues of a connection."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

#: Memory that all messages waiting for their callbacks may take, bytes, by `framing`'s estimate.
MAX_WAITING_MEMORY = 64 * 1024 * 1024


class Budget:
    """Bytes that several queues share."""

    def __init__(self, limit: int = MAX_WAITING_MEMORY) -> None:
        self.limit = limit
        self.used = 0
        self.lock = threading.Lock()


class Backlog:
    """At most `depth` messages (None: as many as the budget allows), the newest; `dropped` counts the others.

    Any thread may put and take. A message that finds no room, because other queues hold it all, is dropped.
    """

    def __init__(self, budget: Budget, depth: int | None) -> None:
        self.dropped = 0
        self._budget = budget
        self._depth = depth
        self._waiting: deque[tuple[Any, int]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, message: Any, size: int) -> bool:
        """Keep `message`, of `size` bytes in memory; the oldest make room. False when there is none."""
        budget = self._budget
        with budget.lock:
            while self._waiting and (len(self._waiting) == self._depth or budget.used + size > budget.limit):
                self._remove()
                self.dropped += 1
            if budget.used + size > budget.limit:
                self.dropped += 1
                return False
            self._waiting.append((message, size))
            budget.used += size
            return True

    def take(self) -> Any:
        """The oldest message; `IndexError` when there is none."""
        with self._budget.lock:
            return self._remove()

    def clear(self) -> None:
        """Forget all of them."""
        with self._budget.lock:
            while self._waiting:
                self._remove()

    def _remove(self) -> Any:
        message, size = self._waiting.popleft()
        self._budget.used -= size
        return message
