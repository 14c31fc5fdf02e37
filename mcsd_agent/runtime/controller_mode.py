"""What the controller is doing, in one word, and every change of it with its reason.

    inactive   no loop runs
    ready      the loop runs with an empty memory and waits for what it needs: a link, sensors, an instruction
    running    the last tick sent an action
    holding    `hold()` was called
    stopped    the last tick had to stop the robot; driving goes on by itself when the cause has passed
    faulted    the policy failed; only `reset_memory()` leads out

    inactive -> ready                 the loop starts
    ready -> running                  the first action
    running, holding, stopped         follow each other as ticks have their reasons
    any of these -> faulted -> ready  a fault, and its reset
    all -> ready                      `reset_memory()`
    all -> inactive                   the loop ends

Only the controller's thread changes the mode; whoever else wants to know reads it, or telemetry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Mode = Literal["inactive", "ready", "running", "holding", "stopped", "faulted"]

#: What a controller waits for before its first action: that is no stop of anything that moves.
_WAITING = ("missing", "disconnected", "heartbeat")


@dataclass(frozen=True)
class Transition:
    """One change of mode, at `time` seconds of the controller's clock."""

    time: float
    before: Mode
    after: Mode
    reason: str

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


class ControllerMode:
    """The mode, and who hears of its changes. Only the controller's thread changes it."""

    def __init__(self, heard: Callable[[Transition], None]) -> None:
        self.now: Mode = "inactive"
        self._heard = heard

    def change(self, time: float, mode: Mode, reason: str) -> None:
        """From now on `mode`; nothing happens when it is so already."""
        if mode != self.now:
            before, self.now = self.now, mode
            self._heard(Transition(time, before, mode, reason))

    def after_tick(self, time: float, reason: str, faulted: bool) -> None:
        """The mode that follows from a tick's reason."""
        if reason == "ok":
            mode: Mode = "running"
        elif reason == "held":
            mode = "holding"
        elif faulted:
            mode = "faulted"
        elif self.now == "ready" and reason.partition(":")[0] in _WAITING:
            mode = "ready"
        else:
            mode = "stopped"
        self.change(time, mode, reason)
