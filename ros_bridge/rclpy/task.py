"""`Future` and `Task`, as in `rclpy.task`. A task that awaits a future runs again when that is done."""

from __future__ import annotations

import inspect
import threading
import warnings
from collections.abc import Callable, Generator
from enum import Enum
from typing import Any


class FutureState(Enum):
    """What a future can be."""

    PENDING = "PENDING"
    CANCELLED = "CANCELLED"
    FINISHED = "FINISHED"


class Future:
    """A result to come. Thread-safe; the first outcome stays. Done callbacks run on the executor, if there is one."""

    def __init__(self, *, executor: Any = None) -> None:
        self._lock = threading.Lock()
        self._state = FutureState.PENDING
        self._result: Any = None
        self._exception: BaseException | None = None
        self._callbacks: list[Callable[[Future], Any]] = []
        self._waiters: list[Callable[[], Any]] = []
        self._executor = executor

    def __await__(self) -> Generator[Future, None, Any]:
        while self._state is FutureState.PENDING:
            yield self
        return self.result()

    def cancel(self) -> None:
        """Give up waiting; the request itself is not withdrawn."""
        self._finish(FutureState.CANCELLED)

    def cancelled(self) -> bool:
        """Whether `cancel` came first."""
        return self._state is FutureState.CANCELLED

    def done(self) -> bool:
        """Whether a result or an exception is there."""
        return self._state is FutureState.FINISHED

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
        self._finish(FutureState.FINISHED, result=result)

    def set_exception(self, exception: BaseException) -> None:
        """Finish with `exception`."""
        self._finish(FutureState.FINISHED, exception=exception)

    def add_done_callback(self, callback: Callable[[Future], Any]) -> None:
        """Call `callback(self)` when done; at once if that is so already and there is no executor."""
        with self._lock:
            if self._state is FutureState.PENDING:
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

    def on_finish(self, waiter: Callable[[], Any]) -> None:
        """Call `waiter()` on whichever thread finishes this, or now; not part of rclpy's interface."""
        with self._lock:
            if self._state is FutureState.PENDING:
                self._waiters.append(waiter)
                return
        waiter()

    def _set_executor(self, executor: Any) -> None:
        self._executor = executor

    def _finish(self, state: FutureState, *, result: Any = None, exception: BaseException | None = None) -> None:
        with self._lock:
            if self._state is not FutureState.PENDING:
                return
            self._state, self._result, self._exception = state, result, exception
            callbacks, self._callbacks = self._callbacks, []
            waiters, self._waiters = self._waiters, []
        for callback in callbacks:
            if self._executor is not None:
                self._executor.create_task(callback, self)
                continue
            try:
                callback(self)
            except Exception as error:
                warnings.warn(f"Unhandled exception in done callback: {error}", stacklevel=2)
        for waiter in waiters:
            waiter()


class Task(Future):
    """A function or coroutine that an executor runs; calling it runs it until it ends or awaits."""

    def __init__(self, handler: Callable[..., Any], args: Any = None, kwargs: Any = None, executor: Any = None) -> None:
        super().__init__(executor=executor)
        args, kwargs = args or (), kwargs or {}
        self._handler: Any = handler(*args, **kwargs) if inspect.iscoroutinefunction(handler) else handler
        self._args, self._kwargs = args, kwargs
        self._executing = False
        self._task_lock = threading.Lock()
        #: What the coroutine awaits now; None for a bare `yield`.
        self.awaited: Future | None = None
        #: Whose callback this is, for the executor.
        self.entity: Any = None

    def __call__(self) -> None:
        if self._state is not FutureState.PENDING or not self._task_lock.acquire(blocking=False):
            return
        self._executing = True
        try:
            if not inspect.iscoroutine(self._handler):
                self.set_result(self._handler(*self._args, **self._kwargs))
            else:
                awaited = self._handler.send(None)
                self.awaited = awaited if isinstance(awaited, Future) else None
        except StopIteration as end:
            self.set_result(end.value)
        except Exception as error:
            self.set_exception(error)
        finally:
            self._executing = False
            self._task_lock.release()

    def executing(self) -> bool:
        """Whether it runs now."""
        return self._executing

    def cancel(self) -> None:
        """Never run again."""
        if self._state is FutureState.PENDING and inspect.iscoroutine(self._handler) and not self._executing:
            self._handler.close()
        super().cancel()
