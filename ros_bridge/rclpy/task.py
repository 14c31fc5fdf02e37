"""`Future`, as in `rclpy.task`: done callbacks run on the executor's thread."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any


class Future:
    """The outcome of a service call. Thread-safe."""

    def __init__(self, *, executor: Any = None) -> None:
        self._lock = threading.Lock()
        self._state = "pending"
        self._result: Any = None
        self._exception: BaseException | None = None
        self._callbacks: list[Callable[[Future], Any]] = []
        self._executor = executor

    def cancel(self) -> None:
        """Give up waiting; the request itself is not withdrawn."""
        self._finish("cancelled")

    def cancelled(self) -> bool:
        """Whether `cancel` came first."""
        return self._state == "cancelled"

    def done(self) -> bool:
        """Whether a result or an exception is there."""
        return self._state == "finished"

    def result(self) -> Any:
        """The result, or None while there is none; raises the exception if that is the outcome."""
        if self._exception is not None:
            raise self._exception
        return self._result

    def exception(self) -> BaseException | None:
        """The exception, or None."""
        return self._exception

    def set_result(self, result: Any) -> None:
        """Finish with `result`."""
        self._finish("finished", result=result)

    def set_exception(self, exception: BaseException) -> None:
        """Finish with `exception`."""
        self._finish("finished", exception=exception)

    def add_done_callback(self, callback: Callable[[Future], Any]) -> None:
        """Call `callback(self)` when done; at once if that is so already and there is no executor."""
        with self._lock:
            if self._state == "pending":
                self._callbacks.append(callback)
                return
        if self._executor is not None:
            self._executor.create_task(callback, self)
        else:
            callback(self)

    def remove_done_callback(self, callback: Callable[[Future], Any]) -> bool:
        """Whether `callback` was found and removed."""
        with self._lock:
            if callback in self._callbacks:
                self._callbacks.remove(callback)
                return True
            return False

    def __await__(self) -> Any:
        raise NotImplementedError("await: coroutine callbacks are not here yet; use add_done_callback")

    def _finish(self, state: str, *, result: Any = None, exception: BaseException | None = None) -> None:
        with self._lock:
            if self._state != "pending":
                return
            self._state, self._result, self._exception = state, result, exception
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            if self._executor is not None:
                self._executor.create_task(callback, self)
                continue
            try:
                callback(self)
            except Exception as error:
                warnings.warn(f"Unhandled exception in done callback: {error}", stacklevel=2)
