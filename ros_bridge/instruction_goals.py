"""Instructions as goals: one at a time, with a time limit, progress, and an end that is told.

The policy itself knows no goals: it hears words. A goal says its words, and ends when

    succeeded  the policy has been sure of it for long enough (`Controller.completion`), or another estimate that the
               node was given reaches `SUCCESS_AT`
    aborted    the time is up, another goal or instruction came, the memory was reset, the emergency stop was pressed
    canceled   whoever sent it asked for that

After its end the words are forgotten and the robot stands still, unless others have taken their place.
Everything here is called on the node's executor.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from mcsd_agent.errors import UserError

#: What an estimate must reach where nobody else says that the goal is done.
SUCCESS_AT = 0.9
DEFAULT_TIMEOUT_S = 60.0
#: Where nobody estimates success, or not now.
NO_CONFIDENCE = -1.0

State = Literal["succeeded", "aborted", "canceled"]


@dataclass(frozen=True)
class Outcome:
    """How a goal ended, and why in words."""

    state: State
    message: str

    @property
    def success(self) -> bool:
        return self.state == "succeeded"


class Goal:
    """One instruction that is being carried out.

    Args:
        instruction: the words.
        timeout_s: of the whole goal; 0 is `DEFAULT_TIMEOUT_S`.
        feedback: called with progress and confidence, both from 0 to 1 (`NO_CONFIDENCE`: there is none).
        ended: called once with the outcome.
        cancel_asked: whether whoever sent it wants it to end; asked at every tick.

    Raises `UserError` for no words, or a time that is no time.
    """

    def __init__(
        self,
        instruction: str,
        timeout_s: float,
        *,
        feedback: Callable[[float, float], None],
        ended: Callable[[Outcome], None],
        cancel_asked: Callable[[], bool] = lambda: False,
    ) -> None:
        self.instruction = " ".join(instruction.split())
        if not self.instruction:
            raise UserError("the goal's instruction is empty; say for example 'go to the red ball'")
        if not 0 <= timeout_s < math.inf:
            raise UserError(f"timeout_s is {timeout_s:g}; it must be 0 or more seconds")
        self.timeout_s = timeout_s or DEFAULT_TIMEOUT_S
        self.feedback, self.ended, self.cancel_asked = feedback, ended, cancel_asked
        self.began_s = 0.0


class InstructionGoals:
    """The goal that is active, if any.

    Args:
        hear: says the words to the policy.
        forget: makes it stand still.
        estimate: how sure it is that the policy has succeeded, 0 to 1, NaN while that is not known; None where nobody
            says.
        done: whether that is enough; None: whether the estimate has reached `SUCCESS_AT`.
        obstacle: why no goal can be carried out now, or None.
    """

    def __init__(
        self,
        *,
        hear: Callable[[str], None],
        forget: Callable[[], None],
        estimate: Callable[[], float] | None = None,
        done: Callable[[], bool] | None = None,
        obstacle: Callable[[], str | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hear, self._forget = hear, forget
        self._estimate, self._done, self._obstacle, self._clock = estimate, done, obstacle, clock
        self.active: Goal | None = None

    def begin(self, goal: Goal) -> None:
        """Say its words; the goal before is aborted."""
        self._end(Outcome("aborted", f"another goal came: {goal.instruction}"), forget=False)
        self.active, goal.began_s = goal, self._clock()
        self._hear(goal.instruction)

    def interrupt(self, why: str) -> None:
        """Something else than a goal has changed what the policy is to do."""
        self._end(Outcome("aborted", why), forget=False)

    def cancel(self) -> None:
        """End the active goal at its sender's wish."""
        self._end(Outcome("canceled", "canceled"))

    def tick(self) -> None:
        """Feedback, or the end. Ten times a second while a goal is active."""
        goal = self.active
        if goal is None:
            return
        if goal.cancel_asked():
            self.cancel()
            return
        obstacle = self._obstacle()
        if obstacle is not None:
            self._end(Outcome("aborted", obstacle))
            return
        confidence = self._confidence()
        if self._done() if self._done is not None else confidence >= SUCCESS_AT:
            sure = f", with confidence {confidence:.2f}" if confidence >= 0 else ""
            self._end(Outcome("succeeded", f"done{sure}"))
            return
        passed = (self._clock() - goal.began_s) / goal.timeout_s
        if passed >= 1:
            judged = "not done" if self._estimate is not None else "nothing here tells whether it is done"
            self._end(Outcome("aborted", f"the {goal.timeout_s:g} s are over; {judged}"))
            return
        goal.feedback(confidence if confidence >= 0 else passed, confidence)

    def _confidence(self) -> float:
        estimate = math.nan if self._estimate is None else self._estimate()
        return NO_CONFIDENCE if math.isnan(estimate) else min(1.0, max(0.0, estimate))

    def _end(self, outcome: Outcome, *, forget: bool = True) -> None:
        goal, self.active = self.active, None
        if goal is None:
            return
        if forget:
            self._forget()
        goal.ended(outcome)
