"""`Timer` and `Rate`, as in `rclpy.timer`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ros_bridge.rclpy.clock import Clock, ClockChange, JumpThreshold, TimeJump
from ros_bridge.rclpy.context import Context, get_default_context
from ros_bridge.rclpy.duration import Duration
from ros_bridge.rclpy.exceptions import InvalidHandle, ROSInterruptException


class Timer:
    """Made by `Node.create_timer`. Keeps to its grid: a late call does not delay the next ones."""

    def __init__(
        self,
        callback: Callable[..., Any] | None,
        callback_group: Any,
        timer_period_ns: int,
        clock: Clock,
        *,
        context: Context | None = None,
        autostart: bool = True,
    ) -> None:
        if timer_period_ns < 0:
            raise ValueError(f"timer period must be non-negative, not {timer_period_ns} ns")
        self._context = get_default_context() if context is None else context
        self._clock = clock
        self.callback = callback
        self.callback_group = callback_group
        self._period_ns = timer_period_ns
        self._last_ns = clock.now().nanoseconds
        self._next_ns = self._last_ns + timer_period_ns
        self._canceled = not autostart
        self._is_destroyed = False
        self._credit_ns = 0
        every_jump = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1))
        self._jumps = clock.create_jump_callback(
            every_jump, pre_callback=self._before_jump, post_callback=self._after_jump
        )

    @property
    def clock(self) -> Clock:
        """Whose time it counts."""
        return self._clock

    @property
    def is_destroyed(self) -> bool:
        """Whether it was; not part of rclpy's interface."""
        return self._is_destroyed

    @property
    def timer_period_ns(self) -> int:
        """Period in nanoseconds."""
        return self._period_ns

    @timer_period_ns.setter
    def timer_period_ns(self, value: int) -> None:
        self._period_ns = int(value)

    def is_ready(self) -> bool:
        """Whether the period has passed."""
        return not self._canceled and self._now() >= self._next_ns

    def is_canceled(self) -> bool:
        """Whether `cancel` was called (and not `reset`)."""
        return self._canceled

    def cancel(self) -> None:
        """Stop firing."""
        self._canceled = True

    def reset(self) -> None:
        """Fire again, one period from now."""
        self._canceled = False
        self._next_ns = self._now() + self._period_ns

    def time_since_last_call(self) -> int:
        """Nanoseconds."""
        return self._now() - self._last_ns

    def time_until_next_call(self) -> int | None:
        """Nanoseconds, negative when late; None when cancelled."""
        return None if self._canceled else self._next_ns - self._now()

    def take(self) -> Callable[[], Any] | None:
        """The next callback to run, or None. For the executor."""
        if not self.is_ready():
            return None
        now = self._now()
        self._last_ns = now
        # Missed periods are skipped, not made up for.
        missed = (now - self._next_ns) // self._period_ns if self._period_ns > 0 else 0
        self._next_ns = self._next_ns + (missed + 1) * self._period_ns if self._period_ns > 0 else now
        return self.callback

    def destroy(self) -> None:
        """Use `Node.destroy_timer`."""
        self._canceled = self._is_destroyed = True
        self.callback = None
        self._jumps.unregister()

    def _now(self) -> int:
        return self._clock.now().nanoseconds

    def _before_jump(self) -> None:
        self._credit_ns = self._next_ns - self._now()

    def _after_jump(self, jump: TimeJump) -> None:
        now = self._now()
        if jump.clock_change in (ClockChange.ROS_TIME_ACTIVATED, ClockChange.ROS_TIME_DEACTIVATED):
            # What was left of the period is left in the new time, too. A clock that was never set gives no time.
            if now:
                self._next_ns = now + self._credit_ns
                self._last_ns = self._next_ns - self._period_ns
        elif now < self._last_ns and self._next_ns > now:
            self._last_ns, self._next_ns = now, now + self._period_ns


class Rate:
    """Made by `Node.create_rate`: `sleep` returns once a period. Another thread must spin the node."""

    def __init__(self, timer: Timer, *, context: Context) -> None:
        self._timer = timer
        self._is_shutdown = self._is_destroyed = False
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._num_sleepers = 0
        timer.callback = self._event.set
        context.on_shutdown(self._on_shutdown)

    def destroy(self) -> None:
        """Wake whoever sleeps. Use `Node.destroy_rate`."""
        self._is_destroyed = True
        self._event.set()

    def sleep(self) -> None:
        """Until the timer fires; `ROSInterruptException` when shutdown comes first."""
        if self._is_shutdown:
            raise ROSInterruptException()
        if self._is_destroyed:
            raise RuntimeError("Rate cannot sleep because it has been destroyed")
        if self._timer.is_destroyed:
            self.destroy()
            raise InvalidHandle("Rate cannot sleep because the timer has been destroyed")
        with self._lock:
            self._num_sleepers += 1
        try:
            self._event.wait()
        finally:
            with self._lock:
                self._num_sleepers -= 1
                if self._num_sleepers == 0:
                    self._event.clear()
        if self._is_shutdown:
            self.destroy()
            raise ROSInterruptException()

    def _on_shutdown(self) -> None:
        self._is_shutdown = True
        self.destroy()
