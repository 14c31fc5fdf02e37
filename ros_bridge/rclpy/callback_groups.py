"""Callback groups, as in `rclpy.callback_groups`: which callbacks may run at the same time."""

from __future__ import annotations

import threading
import weakref
from typing import Any


class CallbackGroup:
    """Use `MutuallyExclusiveCallbackGroup` or `ReentrantCallbackGroup`, or write `can_execute` and its companions."""

    def __init__(self) -> None:
        super().__init__()
        self.entities: set[Any] = set()

    def add_entity(self, entity: Any) -> None:
        """Put a timer, subscription, client, service or guard condition into this group."""
        self.entities.add(weakref.ref(entity))

    def has_entity(self, entity: Any) -> bool:
        """Whether it is in this group."""
        return weakref.ref(entity) in self.entities

    def can_execute(self, entity: Any) -> bool:
        """Whether `entity`'s callback may run now."""
        raise NotImplementedError()

    def beginning_execution(self, entity: Any) -> bool:
        """The permission to run `entity`'s callback; `ending_execution` gives it back."""
        raise NotImplementedError()

    def ending_execution(self, entity: Any) -> None:
        """The callback has ended."""
        raise NotImplementedError()


class ReentrantCallbackGroup(CallbackGroup):
    """Any callbacks may run at the same time, also one beside itself."""

    def can_execute(self, entity: Any) -> bool:
        """Always."""
        return True

    def beginning_execution(self, entity: Any) -> bool:
        """Always."""
        return True

    def ending_execution(self, entity: Any) -> None:
        """Nothing to give back."""


class MutuallyExclusiveCallbackGroup(CallbackGroup):
    """One callback at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._active_entity: Any = None
        self._lock = threading.Lock()

    def can_execute(self, entity: Any) -> bool:
        """Whether none runs."""
        with self._lock:
            assert self.has_entity(entity)
            return self._active_entity is None

    def beginning_execution(self, entity: Any) -> bool:
        """Whether none ran; now this one does."""
        with self._lock:
            assert self.has_entity(entity)
            if self._active_entity is not None:
                return False
            self._active_entity = entity
            return True

    def ending_execution(self, entity: Any) -> None:
        """Let the next one run."""
        with self._lock:
            assert self._active_entity is entity
            self._active_entity = None
