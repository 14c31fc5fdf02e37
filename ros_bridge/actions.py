"""The action operations of the rosbridge protocol, over a `Connection`.

Nothing is sent later, as everywhere on the link: a goal that cannot leave now is not sent, and goals that were open
when the link was lost are told so and forgotten. What the server says about a goal is handed to its handler on the
network thread; handlers must only copy.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

Frame = Mapping[str, Any]
#: What a goal's handler is told besides the protocol's frames: `{"op": LOST, "reason": ...}`, once, as the last.
LOST = "lost"
#: Goals of this side without a result.
MAX_OPEN_GOALS = 64


class ActionProvider(Protocol):
    """What an advertised action is told, on the network thread."""

    def goal_received(self, operation_id: str, goal: Frame) -> None:
        """The server has accepted a goal on this side's behalf."""

    def cancel_received(self, operation_id: str) -> None:
        """Somebody asks to cancel that goal; the server has told them yes."""

    def link_lost(self) -> None:
        """All goals are gone from the server; ids may be used again."""


class ActionOperations:
    """`Connection` derives from it."""

    # What it has for its other operations.
    _lock: threading.Lock
    _next_id: int
    _factory: Any
    _send: Callable[..., bool]
    _declare: Callable[..., None]
    _withdraw: Callable[..., None]
    _guard: Callable[..., None]
    _count: Callable[[str], None]

    def __init__(self) -> None:
        self._goals: dict[str, Callable[[Frame], None]] = {}
        self._action_providers: dict[str, ActionProvider] = {}

    # -- goals of this side ----------------------------------------------------------------------

    def new_goal_id(self, action: str) -> str:
        """An id for `send_goal` and `cancel_goal`; ROS does not see it."""
        with self._lock:
            self._next_id += 1
            return f"send_action_goal:{action}:{self._next_id}"

    def send_goal(
        self, action: str, ros_type: str, operation_id: str, goal: Frame, handler: Callable[[Frame], None]
    ) -> bool:
        """Whether it was sent; `handler` is not called otherwise.

        `handler` gets the frames `action_feedback`, `action_result` (the last one), `status` (an error about
        this goal), or `LOST`. Raises `ValueError` for NaN and infinity.
        """
        with self._lock:
            if len(self._goals) >= MAX_OPEN_GOALS:
                self._count("dropped_busy")
                return False
            self._goals[operation_id] = handler
        frame = {"op": "send_action_goal", "id": operation_id, "action": action, "action_type": ros_type}
        options = {"args": goal, "feedback": True}
        # Without a deadline: nobody would hear of a goal that was dropped on the network thread.
        try:
            sent = self._send({**frame, **options}, fresh_s=None)
        except ValueError:
            self.forget_goal(operation_id)
            raise
        if not sent:
            self.forget_goal(operation_id)
        return sent

    def cancel_goal(self, action: str, operation_id: str) -> bool:
        """Ask to cancel; whether it was sent."""
        return self._send({"op": "cancel_action_goal", "id": operation_id, "action": action}, fresh_s=None)

    def forget_goal(self, operation_id: str) -> None:
        """Do not call its handler again. The goal itself goes on."""
        with self._lock:
            self._goals.pop(operation_id, None)

    # -- goals of others -------------------------------------------------------------------------

    def advertise_action(self, action: str, ros_type: str, provider: ActionProvider) -> None:
        """Offer an action; again after every reconnect. The server accepts goals and cancellations by itself."""
        with self._lock:
            self._action_providers[action] = provider
        self._declare(("advertise_action", action), type=ros_type)

    def unadvertise_action(self, action: str) -> None:
        """Withdraw `advertise_action`; the server aborts the goals that are open."""
        with self._lock:
            self._action_providers.pop(action, None)
        self._withdraw(("advertise_action", action), {"op": "unadvertise_action", "action": action})

    def send_feedback(self, action: str, operation_id: str, feedback: Frame) -> bool:
        """Whether it was sent. Raises `ValueError` for NaN and infinity."""
        return self._send({"op": "action_feedback", "id": operation_id, "action": action, "values": feedback})

    def send_result(self, action: str, operation_id: str, result: Frame, status: int) -> bool:
        """End a goal with `GoalStatus.STATUS_SUCCEEDED`, `_CANCELED` or `_ABORTED`; whether it was sent."""
        frame = {"op": "action_result", "id": operation_id, "action": action, "values": result}
        # `result: false` would lose the values, whatever the status.
        return self._send({**frame, "status": status, "result": True}, fresh_s=None)

    def call_later(self, delay_s: float, function: Callable[[], None]) -> None:
        """Call `function` on the network thread after `delay_s`."""
        loop = self._factory.loop
        loop.call_soon_threadsafe(loop.call_later, delay_s, function)

    # -- the transport's side (network thread) ---------------------------------------------------

    def _on_goal(self, frame: dict[str, Any]) -> None:
        provider, operation_id = self._provider(frame)
        if provider is not None:
            self._guard(provider.goal_received, operation_id, frame.get("args") or {})

    def _on_cancel(self, frame: dict[str, Any]) -> None:
        provider, operation_id = self._provider(frame)
        if provider is not None:
            self._guard(provider.cancel_received, operation_id)

    def _provider(self, frame: dict[str, Any]) -> tuple[ActionProvider | None, str]:
        operation_id = frame["id"]
        if not isinstance(operation_id, str):
            raise TypeError("id is not a string")
        provider = self._action_providers.get(frame["action"])
        if provider is None:
            self._count("unhandled")
        return provider, operation_id

    def _on_goal_news(self, frame: dict[str, Any]) -> None:
        handler = self._goals.get(frame["id"])
        if handler is None:
            self._count("unhandled")
            return
        if frame["op"] == "action_result":
            self.forget_goal(frame["id"])
        self._guard(handler, frame)

    def _on_goal_status(self, frame: dict[str, Any]) -> None:
        """An `op: status` frame may be about a goal."""
        handler = self._goals.get(frame.get("id", ""))
        if handler is not None:
            self._guard(handler, frame)

    def _actions_lost(self, reason: str) -> None:
        with self._lock:
            lost, self._goals = self._goals, {}
        for handler in lost.values():
            self._guard(handler, {"op": LOST, "reason": reason})
        for provider in list(self._action_providers.values()):
            self._guard(provider.link_lost)

    ACTION_ROUTES = {  # noqa: RUF012
        "send_action_goal": _on_goal,
        "cancel_action_goal": _on_cancel,
        "action_feedback": _on_goal_news,
        "action_result": _on_goal_news,
    }
