"""What the network thread leaves for the executor to do about an action, in the order of arrival."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from ros_bridge.backlog import Budget

_Event = tuple[Callable[..., Any], tuple[Any, ...], int]


class Events:
    """Calls to make. They share the memory bound of all that waits on a connection."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._waiting: deque[_Event] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def count(self, function: Callable[..., Any]) -> int:
        """How many calls of `function` wait."""
        with self._budget.lock:
            return sum(event[0] == function for event in self._waiting)

    def put(self, function: Callable[..., Any], *arguments: Any, size: int = 0, newest: int | None = None) -> bool:
        """Keep a call whose arguments take `size` bytes, and of this function's at most the `newest`.

        False when there is no room.
        """
        with self._budget.lock:
            same = [event for event in self._waiting if event[0] == function] if newest is not None else []
            if newest is not None and len(same) >= newest:
                self._waiting.remove(same[0])
                self._budget.used -= same[0][2]
            if size and self._budget.used + size > self._budget.limit:
                return False
            self._waiting.append((function, arguments, size))
            self._budget.used += size
            return True

    def take(self) -> tuple[Callable[..., Any], tuple[Any, ...]] | None:
        """The oldest call, or None."""
        with self._budget.lock:
            if not self._waiting:
                return None
            function, arguments, size = self._waiting.popleft()
            self._budget.used -= size
            return function, arguments

    def clear(self) -> None:
        """Forget all of them."""
        with self._budget.lock:
            self._budget.used -= sum(event[2] for event in self._waiting)
            self._waiting.clear()
