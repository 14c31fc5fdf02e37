"""Executors: the threads that run callbacks.

The network thread only fills bounded queues and calls `wake`. An executor collects what is ready and what its
callback group allows, in rclpy's order (timers, subscriptions, guard conditions, clients, services), and runs it:
one at a time, or on a pool of threads.
"""

from __future__ import annotations

import inspect
import os
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ros_bridge.rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from ros_bridge.rclpy.context import Context, get_default_context
from ros_bridge.rclpy.task import Future, Task

if TYPE_CHECKING:
    from ros_bridge.rclpy.node import Node

#: A coroutine that waits by a bare `yield` is asked again after this long.
POLL_S = 0.001


class TimeoutException(Exception):
    """Nothing was ready in time."""


class ShutdownException(Exception):
    """The executor was shut down while spinning."""


class ExternalShutdownException(Exception):
    """The context was shut down while spinning."""


class ConditionReachedException(Exception):
    """What was waited for has come."""


class TimeoutObject:
    """A timeout that can be changed while somebody waits."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout

    @property
    def timeout(self) -> float:
        """Seconds."""
        return self._timeout

    @timeout.setter
    def timeout(self, timeout: float) -> None:
        self._timeout = timeout


async def await_or_execute(callback: Callable[..., Any], *args: Any) -> Any:
    """The result of a function or of a coroutine function."""
    if inspect.iscoroutinefunction(callback):
        return await callback(*args)
    return callback(*args)


class Executor:
    """What every executor shares; use `SingleThreadedExecutor` or `MultiThreadedExecutor`."""

    def __init__(self, *, context: Context | None = None) -> None:
        self._context = get_default_context() if context is None else context
        self._nodes: list[Node] = []
        self._lock = threading.RLock()
        self._tasks: deque[Task] = deque()
        self._polled: list[Task] = []
        self._ready: deque[tuple[Any, Node]] = deque()
        self._wakeup = threading.Event()
        self._is_shutdown = False
        self._running = threading.local()
        self._context.on_shutdown(self.wake)

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *failure: object) -> None:
        self.shutdown()

    @property
    def context(self) -> Context:
        """The context this executor spins in."""
        return self._context

    def add_node(self, node: Node) -> bool:
        """Run `node`'s callbacks here; False when it was here already."""
        with self._lock:
            if node in self._nodes:
                return False
            self._nodes.append(node)
        node.executor = self
        self.wake()
        return True

    def remove_node(self, node: Node) -> None:
        """Stop running `node`'s callbacks."""
        with self._lock:
            if node in self._nodes:
                self._nodes.remove(node)
        self.wake()

    def get_nodes(self) -> list[Node]:
        """The nodes added and not removed."""
        with self._lock:
            return list(self._nodes)

    def wake(self) -> None:
        """Look again for work. Any thread."""
        self._wakeup.set()

    def create_task(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> Task:
        """Run `callback(*args, **kwargs)`, a function or a coroutine function; the task carries its result."""
        task = Task(callback, args, kwargs, executor=self)
        self._enqueue(task)
        return task

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """Stop spinning."""
        self._is_shutdown = True
        with self._lock:
            self._nodes.clear()
        self.wake()
        return True

    def spin(self) -> None:
        """Execute callbacks until shutdown."""
        while self._context.ok() and not self._is_shutdown:
            self.spin_once()

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Execute one callback, or return after `timeout_sec` (None or negative: wait for ever)."""
        raise NotImplementedError()

    def spin_until_future_complete(self, future: Future, timeout_sec: float | None = None) -> None:
        """Execute callbacks until `future` is done or `timeout_sec` has passed."""
        future.on_finish(self.wake)
        deadline = None if timeout_sec is None or timeout_sec < 0 else time.monotonic() + timeout_sec
        while self._context.ok() and not self._is_shutdown and not future.done() and not future.cancelled():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            self.spin_once_until_future_complete(future, left)

    def spin_once_until_future_complete(self, future: Future, timeout_sec: float | TimeoutObject | None = None) -> None:
        """`spin_once` that also returns when `future` is done."""
        raise NotImplementedError()

    def can_execute(self, entity: Any) -> bool:
        """Whether `entity`'s group lets its callback run now."""
        return bool(entity.callback_group.can_execute(entity))

    def would_wait_for_itself(self, entity: Any) -> bool:
        """Whether a callback that waits here for `entity`'s keeps it from running; not part of rclpy's interface."""
        running = getattr(self._running, "task", None)
        if running is None:
            return False
        group = entity.callback_group
        exclusive = isinstance(group, MutuallyExclusiveCallbackGroup)
        return exclusive and running.entity is not None and running.entity.callback_group is group

    # -- choosing and running --------------------------------------------------------------------

    def wait_for_ready_callbacks(self, *args: Any, **kwargs: Any) -> tuple[Task, Any, Any]:
        """The next task to run, its entity and None, for `(timeout_sec, nodes, condition)`.

        Raises `TimeoutException`, `ConditionReachedException` and the shutdown exceptions when there is none.
        """
        task = self._wait(*args, **kwargs)
        return task, task.entity, None

    def _wait(
        self,
        timeout_sec: float | TimeoutObject | None = None,
        nodes: list[Node] | None = None,
        condition: Callable[[], bool] = lambda: False,
    ) -> Task:
        timeout = timeout_sec.timeout if isinstance(timeout_sec, TimeoutObject) else timeout_sec
        deadline = None if timeout is None or timeout < 0 else time.monotonic() + timeout
        while True:
            # Cleared before looking: what becomes ready afterwards sets it again.
            self._wakeup.clear()
            if self._is_shutdown:
                raise ShutdownException
            if not self._context.ok():
                raise ExternalShutdownException
            with self._lock:
                task = self._tasks.popleft() if self._tasks else self._take(nodes)
            if task is not None:
                return task
            if condition():
                raise ConditionReachedException
            left = self._until_next_timer()
            if deadline is not None:
                left_to_deadline = deadline - time.monotonic()
                if left_to_deadline <= 0:
                    raise TimeoutException
                left = left_to_deadline if left is None else min(left, left_to_deadline)
            self._wakeup.wait(left)
            with self._lock:
                self._tasks.extend(self._polled)
                self._polled.clear()

    def _enqueue(self, task: Task) -> None:
        self._tasks.append(task)
        self.wake()

    def _run(self, task: Task) -> None:
        outer, self._running.task = getattr(self._running, "task", None), task
        try:
            task()
        finally:
            self._running.task = outer
        if task.done() or task.cancelled():
            self.wake()
        elif task.awaited is not None:
            task.awaited.on_finish(lambda: self._enqueue(task))
        else:
            with self._lock:
                self._polled.append(task)
            self.wake()

    def _take(self, nodes: list[Node] | None) -> Task | None:
        # Everything that was ready at one look is served before the next look, so that none starves.
        for _ in range(2):
            while self._ready:
                entity, node = self._ready.popleft()
                if node in self._nodes:
                    task = self._begin(entity)
                    if task is not None:
                        return task
            looked_at = self._nodes if nodes is None else nodes
            self._ready.extend(
                (entity, node)
                for node in looked_at
                for entity in node.entities()
                if entity.is_ready() and self.can_execute(entity)
            )
        return None

    def _begin(self, entity: Any) -> Task | None:
        group = entity.callback_group
        if not entity.is_ready() or not group.beginning_execution(entity):
            return None
        callback = entity.take()
        if callback is None:
            group.ending_execution(entity)
            return None

        async def handler() -> None:
            try:
                await await_or_execute(callback)
            finally:
                group.ending_execution(entity)
                self.wake()

        task = Task(handler, executor=self)
        task.entity = entity
        return task

    def _until_next_timer(self) -> float | None:
        if self._polled:
            return POLL_S
        with self._lock:
            timers = [timer for node in self._nodes for timer in node.timers if not timer.clock.is_simulated]
            waits = [timer.time_until_next_call() for timer in timers if self.can_execute(timer)]
        running = [w for w in waits if w is not None]
        return max(0.0, min(running) / 1e9) if running else None


class SingleThreadedExecutor(Executor):
    """Runs callbacks in the thread that calls `spin`, one at a time."""

    def __init__(self, *, context: Context | None = None) -> None:
        super().__init__(context=context)

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Execute one callback, or return after `timeout_sec` (None or negative: wait for ever)."""
        self._spin_once_impl(timeout_sec, lambda: False)

    def spin_once_until_future_complete(self, future: Future, timeout_sec: float | TimeoutObject | None = None) -> None:
        """`spin_once` that also returns when `future` is done."""
        future.on_finish(self.wake)
        self._spin_once_impl(timeout_sec, lambda: future.done() or future.cancelled())

    def would_wait_for_itself(self, entity: Any) -> bool:
        """Whether the calling thread is inside a callback: nothing else runs before it ends."""
        return getattr(self._running, "task", None) is not None

    def _spin_once_impl(self, timeout_sec: float | TimeoutObject | None, condition: Callable[[], bool]) -> None:
        try:
            task = self._wait(timeout_sec, None, condition)
        except (ShutdownException, TimeoutException, ConditionReachedException):
            return
        self._run(task)
        if task.exception() is not None:
            task.result()


class MultiThreadedExecutor(Executor):
    """Runs callbacks on a pool of threads; their exceptions reach whoever spins."""

    def __init__(self, num_threads: int | None = None, *, context: Context | None = None) -> None:
        super().__init__(context=context)
        if num_threads is None:
            num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
        if num_threads == 1:
            warnings.warn(
                "MultiThreadedExecutor is used with a single thread.\nUse the SingleThreadedExecutor instead.",
                stacklevel=2,
            )
        self._futures: list[Task] = []
        self._executor = ThreadPoolExecutor(num_threads)

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Start one callback, or return after `timeout_sec` (None or negative: wait for ever)."""
        self._spin_once_impl(timeout_sec, lambda: False)

    def spin_once_until_future_complete(self, future: Future, timeout_sec: float | TimeoutObject | None = None) -> None:
        """`spin_once` that also returns when `future` is done."""
        future.on_finish(self.wake)
        self._spin_once_impl(timeout_sec, lambda: future.done() or future.cancelled())

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """Stop spinning; callbacks that run are waited for, those that have not begun are dropped."""
        super().shutdown(timeout_sec)
        self._executor.shutdown(wait=timeout_sec is None, cancel_futures=True)
        for task in self._futures:
            if not task.executing() and task.awaited is None:
                task.cancel()
        return True

    def _spin_once_impl(self, timeout_sec: float | TimeoutObject | None, condition: Callable[[], bool]) -> None:
        def failed() -> list[Task]:
            return [task for task in self._futures if task.done() and task.exception() is not None]

        try:
            task = self._wait(timeout_sec, None, lambda: condition() or bool(failed()))
        except (ExternalShutdownException, ShutdownException, TimeoutException, ConditionReachedException):
            pass
        else:
            self._futures.append(task)
            self._executor.submit(self._run, task)
        failures = failed()
        self._futures = [task for task in self._futures if not task.done() and not task.cancelled()]
        for failure in failures:
            failure.result()
