"""Executors: the threads that run callbacks.

The network thread only fills bounded queues and calls `wake`. An executor collects what is ready,
in rclpy's order (timers, subscriptions, clients, services), and runs one callback at a time.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ros_bridge.rclpy.context import Context, get_default_context
from ros_bridge.rclpy.task import Future

if TYPE_CHECKING:
    from ros_bridge.rclpy.node import Node

Work = Callable[[], Any]


class ExternalShutdownException(Exception):
    """The context was shut down while spinning."""


class ShutdownException(Exception):
    """The executor was shut down while spinning."""


class Executor:
    """What every executor shares; use `SingleThreadedExecutor`."""

    def __init__(self, *, context: Context | None = None) -> None:
        self._context = context or get_default_context()
        self._nodes: list[Node] = []
        self._lock = threading.RLock()
        self._tasks: deque[Work] = deque()
        self._ready: deque[Any] = deque()
        self._wakeup = threading.Event()
        self._is_shutdown = False
        self._thread: int | None = None
        self._context.on_shutdown(self.wake)

    @property
    def context(self) -> Context:
        """The context this executor spins in."""
        return self._context

    @property
    def is_spinning_here(self) -> bool:
        """Whether the calling thread is inside a callback of this executor; not part of rclpy's interface."""
        return self._thread == threading.get_ident()

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
        if node.executor is self:
            node.executor = None

    def get_nodes(self) -> list[Node]:
        """The nodes added and not removed."""
        with self._lock:
            return list(self._nodes)

    def wake(self) -> None:
        """Look again for work. Any thread."""
        self._wakeup.set()

    def create_task(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> Future:
        """Run `callback(*args, **kwargs)` on the executor's thread; the future carries its result."""
        future = Future()

        def work() -> None:
            future.set_result(callback(*args, **kwargs))

        self._tasks.append(work)
        self.wake()
        return future

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
        self._execute_one(timeout_sec, lambda: False)

    def spin_until_future_complete(self, future: Future, timeout_sec: float | None = None) -> None:
        """Execute callbacks until `future` is done or `timeout_sec` has passed."""
        future.add_done_callback(lambda _: self.wake())
        deadline = None if timeout_sec is None or timeout_sec < 0 else time.monotonic() + timeout_sec
        while self._context.ok() and not self._is_shutdown and not future.done() and not future.cancelled():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            self.spin_once_until_future_complete(future, left)

    def spin_once_until_future_complete(self, future: Future, timeout_sec: float | None = None) -> None:
        """`spin_once` that also returns when `future` is done."""
        self._execute_one(timeout_sec, lambda: future.done() or future.cancelled())

    def _execute_one(self, timeout_sec: float | None, is_enough: Callable[[], bool]) -> None:
        try:
            work = self._wait_for_work(timeout_sec, is_enough)
        except ShutdownException:
            return
        if work is None:
            return
        outer, self._thread = self._thread, threading.get_ident()
        try:
            work()
        finally:
            self._thread = outer

    def _wait_for_work(self, timeout_sec: float | None, is_enough: Callable[[], bool]) -> Work | None:
        deadline = None if timeout_sec is None or timeout_sec < 0 else time.monotonic() + timeout_sec
        while True:
            # Cleared before looking: what becomes ready afterwards sets it again.
            self._wakeup.clear()
            if self._is_shutdown:
                raise ShutdownException
            if not self._context.ok():
                raise ExternalShutdownException
            if self._tasks:
                return self._tasks.popleft()
            work = self._take()
            if work is not None:
                return work
            if is_enough():
                return None
            left = self._until_next_timer()
            if deadline is not None:
                left_to_deadline = deadline - time.monotonic()
                if left_to_deadline <= 0:
                    return None
                left = left_to_deadline if left is None else min(left, left_to_deadline)
            self._wakeup.wait(left)

    def _take(self) -> Work | None:
        # Everything that was ready at one look is served before the next look, so that none starves.
        for _ in range(2):
            while self._ready:
                work = self._ready.popleft().take()
                if work is not None:
                    return work
            with self._lock:
                self._ready.extend(e for node in self._nodes for e in node.entities() if e.is_ready())
        return None

    def _until_next_timer(self) -> float | None:
        with self._lock:
            waits = [timer.time_until_next_call() for node in self._nodes for timer in node.timers]
        running = [w for w in waits if w is not None]
        return max(0.0, min(running) / 1e9) if running else None


class SingleThreadedExecutor(Executor):
    """Runs callbacks in the thread that calls `spin`, one at a time."""


class MultiThreadedExecutor(Executor):
    """Not here yet."""

    def __init__(self, num_threads: int | None = None, *, context: Context | None = None) -> None:
        raise NotImplementedError("MultiThreadedExecutor is not here yet; use SingleThreadedExecutor")
