"""`GuardCondition`, as in `rclpy.guard_condition`: a callback that any thread can ask the executor to run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ros_bridge.rclpy.context import Context, get_default_context
from ros_bridge.rclpy.exceptions import InvalidHandle


class GuardCondition:
    """Made by `Node.create_guard_condition`."""

    def __init__(
        self, callback: Callable[..., Any] | None, callback_group: Any, context: Context | None = None
    ) -> None:
        self._context = get_default_context() if context is None else context
        self.callback = callback
        self.callback_group = callback_group
        #: Set by the node, which knows the executor.
        self.wake: Callable[[], None] = lambda: None
        self._is_triggered = self._is_destroyed = False

    def trigger(self) -> None:
        """Let the executor call the callback once."""
        if self._is_destroyed:
            raise InvalidHandle("cannot use Destroyable because destruction was requested")
        self._is_triggered = True
        self.wake()

    def is_ready(self) -> bool:
        """Whether it was triggered."""
        return self._is_triggered

    def take(self) -> Callable[[], Any] | None:
        """The callback, once for each time it was found triggered. For the executor."""
        if not self._is_triggered:
            return None
        self._is_triggered = False
        return self.callback

    def destroy(self) -> None:
        """Use `Node.destroy_guard_condition`."""
        self._is_destroyed, self._is_triggered = True, False
