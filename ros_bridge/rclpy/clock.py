"""`Clock`, as in `rclpy.clock`: system time, steady time, or ROS time, which a simulator may set."""

from __future__ import annotations

import threading
import time as _time
from collections.abc import Callable
from enum import IntEnum
from typing import Any

from ros_bridge.rclpy.clock_type import ClockType
from ros_bridge.rclpy.context import Context, get_default_context
from ros_bridge.rclpy.duration import Duration
from ros_bridge.rclpy.exceptions import NotInitializedException
from ros_bridge.rclpy.time import Time


class ClockChange(IntEnum):
    """What a jump changed about the source of time."""

    ROS_TIME_NO_CHANGE = 1
    ROS_TIME_ACTIVATED = 2
    ROS_TIME_DEACTIVATED = 3
    SYSTEM_TIME_NO_CHANGE = 4


class JumpThreshold:
    """The jumps that matter to a callback."""

    def __init__(
        self, *, min_forward: Duration | None, min_backward: Duration | None, on_clock_change: bool = True
    ) -> None:
        if min_forward is not None and min_forward.nanoseconds <= 0:
            raise ValueError("min_forward must be a positive non-zero duration")
        if min_backward is not None and min_backward.nanoseconds >= 0:
            raise ValueError("min_backward must be a negative non-zero duration")
        if min_forward is None and min_backward is None and not on_clock_change:
            raise ValueError("At least one jump threshold must be enabled")
        self.min_forward = min_forward
        self.min_backward = min_backward
        self.on_clock_change = on_clock_change

    def matters(self, jump: TimeJump) -> bool:
        """Whether `jump` is large enough; not part of rclpy's interface."""
        if jump.clock_change in (ClockChange.ROS_TIME_ACTIVATED, ClockChange.ROS_TIME_DEACTIVATED):
            return self.on_clock_change
        forward, backward = self.min_forward, self.min_backward
        return bool(
            (forward is not None and jump.delta >= forward) or (backward is not None and jump.delta <= backward)
        )


class TimeJump:
    """What a post-jump callback is told."""

    def __init__(self, clock_change: ClockChange, delta: Duration) -> None:
        if not isinstance(clock_change, ClockChange):
            raise TypeError("clock_change must be an instance of rclpy.clock.ClockChange")
        self._clock_change = clock_change
        self._delta = delta

    @property
    def clock_change(self) -> ClockChange:
        """Whether ROS time was activated or deactivated."""
        return self._clock_change

    @property
    def delta(self) -> Duration:
        """New time less old time."""
        return self._delta


class JumpHandle:
    """Keeps jump callbacks registered until `unregister`, or the end of a `with` block."""

    def __init__(
        self,
        *,
        clock: Clock,
        threshold: JumpThreshold,
        pre_callback: Callable[[], Any] | None,
        post_callback: Callable[[Any], Any] | None,
    ) -> None:
        if pre_callback is None and post_callback is None:
            raise ValueError("One of pre_callback or post_callback must be callable")
        for name, callback in (("pre", pre_callback), ("post", post_callback)):
            if callback is not None and not callable(callback):
                raise ValueError(f"{name}_callback must be callable if given")
        self.threshold, self.pre_callback, self.post_callback = threshold, pre_callback, post_callback
        self._clock: Clock | None = clock
        clock._handles.append(self)

    def unregister(self) -> None:
        """Call nothing any more."""
        if self._clock is not None:
            self._clock._handles.remove(self)
            self._clock = None

    def __enter__(self) -> JumpHandle:
        return self

    def __exit__(self, *failure: object) -> None:
        self.unregister()


class Clock:
    """Tells the time of one `ClockType`."""

    _clock_type: ClockType
    _handles: list[JumpHandle]

    def __new__(cls, *, clock_type: ClockType = ClockType.SYSTEM_TIME) -> Clock:
        if not isinstance(clock_type, ClockType):
            raise TypeError("Clock type must be a ClockType enum")
        self: Clock = super().__new__(ROSClock if clock_type is ClockType.ROS_TIME else cls)
        self._clock_type, self._handles = clock_type, []
        return self

    @property
    def clock_type(self) -> ClockType:
        """What it counts."""
        return self._clock_type

    @property
    def is_simulated(self) -> bool:
        """Whether the time is set by messages; not part of rclpy's interface."""
        return False

    def now(self) -> Time:
        """The time now."""
        return Time(nanoseconds=self._now_ns(), clock_type=self._clock_type)

    def create_jump_callback(
        self,
        threshold: JumpThreshold,
        *,
        pre_callback: Callable[[], Any] | None = None,
        post_callback: Callable[[TimeJump], Any] | None = None,
    ) -> JumpHandle:
        """Call back before and after jumps; unregister the handle when that shall end."""
        return JumpHandle(clock=self, threshold=threshold, pre_callback=pre_callback, post_callback=post_callback)

    def sleep_until(self, until: Time, context: Context | None = None) -> bool:
        """Sleep; False when shutdown or a change of the time source ended it early."""
        context = get_default_context() if context is None else context
        if not context.ok():
            raise NotInitializedException()
        if until.clock_type != self._clock_type:
            raise ValueError("until's clock type does not match this clock's type")
        event = threading.Event()
        has_changed = False

        def on_jump(jump: TimeJump) -> None:
            nonlocal has_changed
            has_changed |= jump.clock_change in (ClockChange.ROS_TIME_ACTIVATED, ClockChange.ROS_TIME_DEACTIVATED)
            event.set()

        context.on_shutdown(event.set)
        threshold = JumpThreshold(min_forward=Duration(nanoseconds=1), min_backward=None, on_clock_change=True)
        with self.create_jump_callback(threshold, post_callback=on_jump):
            while context.ok() and not has_changed:
                left = until.nanoseconds - self._now_ns()
                if left <= 0:
                    return True
                event.wait(None if self.is_simulated else left / 1e9)
                event.clear()
        return False

    def sleep_for(self, rel_time: Duration, context: Context | None = None) -> bool:
        """`sleep_until` so much later."""
        return self.sleep_until(self.now() + rel_time, context)

    def _now_ns(self) -> int:
        return _time.monotonic_ns() if self._clock_type is ClockType.STEADY_TIME else _time.time_ns()

    def __repr__(self) -> str:
        return f"Clock(clock_type={self._clock_type.name})"


class ROSClock(Clock):
    """System time until simulated time is activated, then the time that was set last (0 before that)."""

    _active = False
    _override_ns = 0

    def __new__(cls) -> ROSClock:
        self = super().__new__(cls, clock_type=ClockType.ROS_TIME)
        assert isinstance(self, ROSClock)
        return self

    @property
    def ros_time_is_active(self) -> bool:
        """Whether the time is simulated."""
        return self._active

    @property
    def is_simulated(self) -> bool:
        """Whether the time is set by messages."""
        return self._active

    def set_ros_time_override(self, time: Time) -> None:
        """The time to tell while simulated time is active."""
        if not isinstance(time, Time):
            raise TypeError(f"Time must be specified as rclpy.time.Time. Received type: {type(time)}")
        if not self._active:
            self._override_ns = time.nanoseconds
            return
        delta = Duration(nanoseconds=time.nanoseconds - self._override_ns)
        self._jump(TimeJump(ClockChange.ROS_TIME_NO_CHANGE, delta), override_ns=time.nanoseconds)

    def _set_ros_time_is_active(self, enabled: bool) -> None:
        if enabled == self._active:
            return
        change = ClockChange.ROS_TIME_ACTIVATED if enabled else ClockChange.ROS_TIME_DEACTIVATED
        delta = self._override_ns - _time.time_ns()
        self._jump(TimeJump(change, Duration(nanoseconds=delta if enabled else -delta)), active=enabled)

    def _jump(self, jump: TimeJump, *, override_ns: int | None = None, active: bool | None = None) -> None:
        handles = [handle for handle in list(self._handles) if handle.threshold.matters(jump)]
        for handle in handles:
            if handle.pre_callback is not None:
                handle.pre_callback()
        self._override_ns = self._override_ns if override_ns is None else override_ns
        self._active = self._active if active is None else active
        for handle in handles:
            if handle.post_callback is not None:
                handle.post_callback(jump)

    def _now_ns(self) -> int:
        return self._override_ns if self._active else _time.time_ns()
