"""The states of a lifecycle node and the transitions between them, with rcl_lifecycle's numbers."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from ros_bridge.rclpy.exceptions import RCLError

#: Id and label of a state.
Labelled = tuple[int, str]
#: Id and label of a transition, of its start and of its goal.
Transition = tuple[int, str, int, str, int, str]


class TransitionCallbackReturn(IntEnum):
    """What `on_configure` and its companions return."""

    SUCCESS = 97
    FAILURE = 98
    ERROR = 99

    def to_label(self) -> str:
        """The transition that follows."""
        return f"transition_{self.name.lower()}"


STATES: dict[int, str] = {
    0: "unknown",
    1: "unconfigured",
    2: "inactive",
    3: "active",
    4: "finalized",
    10: "configuring",
    11: "cleaningup",
    12: "shuttingdown",
    13: "activating",
    14: "deactivating",
    15: "errorprocessing",
}
_OUTCOMES = tuple(outcome.to_label() for outcome in TransitionCallbackReturn)


def _outcomes(
    first_id: int, state: int, success: int, failure: int, error: int = 15
) -> list[tuple[int, str, int, int]]:
    goals = (success, failure, error)
    return [(first_id + i, label, state, goal) for i, (label, goal) in enumerate(zip(_OUTCOMES, goals, strict=True))]


# In rcl_lifecycle's order.
_TRANSITIONS: list[tuple[int, str, int, int]] = [
    (1, "configure", 1, 10),
    *_outcomes(10, 10, success=2, failure=1),
    (2, "cleanup", 2, 11),
    *_outcomes(20, 11, success=1, failure=2),
    (3, "activate", 2, 13),
    *_outcomes(30, 13, success=3, failure=2),
    (4, "deactivate", 3, 14),
    *_outcomes(40, 14, success=2, failure=3),
    (5, "shutdown", 1, 12),
    (6, "shutdown", 2, 12),
    (7, "shutdown", 3, 12),
    *_outcomes(50, 12, success=4, failure=4),
    *_outcomes(60, 15, success=1, failure=4, error=4),
]


class StateMachine:
    """Where a node is in its life. `notify(start, goal)` is called at every change."""

    def __init__(self, notify: Callable[[Labelled, Labelled], None]) -> None:
        self._notify = notify
        self._state = 1

    @property
    def current_state(self) -> Labelled:
        """Id and label."""
        return self._state, STATES[self._state]

    @property
    def available_states(self) -> list[Labelled]:
        """All there are."""
        return list(STATES.items())

    @property
    def transition_graph(self) -> list[Transition]:
        """All transitions."""
        return [(i, label, start, STATES[start], goal, STATES[goal]) for i, label, start, goal in _TRANSITIONS]

    @property
    def available_transitions(self) -> list[Transition]:
        """Those from the current state."""
        return [transition for transition in self.transition_graph if transition[2] == self._state]

    def get_transition_by_label(self, label: str) -> int:
        """The id of the transition from the current state; `RCLError` when there is none."""
        for transition in self.available_transitions:
            if transition[1] == label:
                return transition[0]
        raise RCLError(f"Failed to get transition from label: no transition {label!r} from {STATES[self._state]}")

    def trigger(self, transition: int | str) -> None:
        """Go along a transition, by id or label; `RCLError` when it does not start here."""
        for found in self.available_transitions:
            if transition in found[:2]:
                start, self._state = self.current_state, found[4]
                self._notify(start, self.current_state)
                return
        raise RCLError("Failed to trigger lifecycle state machine transition: Transition is not registered.")
