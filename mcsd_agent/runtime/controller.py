"""The fixed-rate loop between a stream and a robot, which stops the robot whenever it may not drive.

Every tick reads the robot, checks what it read, runs the policy and sends an action; or it sends a
stop and says why. The reasons, as they appear in `Tick.reason`, in the order in which they are checked:

    late                        the tick began or ended too late, or periods were missed before it
    held                        `hold()` was called
    robot_error                 the robot raised, or handed over something that is no reading or no action
    disconnected                the robot says that it has no connection
    missing:<name>              the policy needs an observation that the robot did not give
    stale:<name>                the observation is older than allowed
    future_stamp:<name>         its time stamp is ahead of the clock: another clock made it
    nan_observation:<name>      it holds NaN or infinity
    invalid_observation:<name>  it has another shape or type than the policy was trained with
    stream_error                the policy raised
    nan_action, nan_state       the policy computed NaN or infinity
    faulted:<reason>            one of the last three happened before, and `reset_memory()` has not been called
    ok                          an action was sent

All reasons but the faults pass by themselves: the memory is kept as it is while nothing can be
observed, and driving goes on from it, as it would after a blink. The three faults stay until
`reset_memory()`. The observations were fine, so the cause is in the memory or the weights, and the
next tick would start from the same memory: trying again might shake the robot between stop and go.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from mcsd_agent.errors import UserError, nearest
from mcsd_agent.runtime.action_limits import ActionLimits
from mcsd_agent.runtime.observations import ObservationError
from mcsd_agent.runtime.previous_action import NAME as PREVIOUS_ACTION
from mcsd_agent.runtime.previous_action import PreviousAction
from mcsd_agent.runtime.robot import Reading, Robot
from mcsd_agent.runtime.stream import Stream
from mcsd_agent.runtime.telemetry import Telemetry
from mcsd_agent.runtime.tick import Tick
from mcsd_agent.spaces import TextSpec

#: Where in its period a tick wants its oldest observation to be, and how far it may move for that, in periods.
_FRESH, _LARGEST_SHIFT = 0.1, 0.02
#: Two reads of one clock in two threads may come out of order by this much.
_CLOCK_SLACK_S = 0.01


@dataclass(frozen=True)
class ControllerConfig:
    """How a policy may drive.

    `rate_hz`             ticks per second; None takes the rate the policy was trained at, and no other is accepted
    `max_age_s`           oldest observation that may be used; None is two periods
    `max_age_by_name`     the same for single observations; texts have no age unless they are named here
    `slew_per_s`          largest change of each action entry per second (one value for all, or one each)
    `late_tolerance_s`    how long after its deadline a tick may begin; None is half a period
    `follow_sensors`      move the ticks of `run`, by at most 2 % of a period each, to just after the sensors spoke.
                          For sensors of the policy's rate: without it an observation may be a period old for ever
    """

    rate_hz: float | None = None
    max_age_s: float | None = None
    max_age_by_name: dict[str, float] = field(default_factory=dict)
    slew_per_s: tuple[float, ...] | None = None
    late_tolerance_s: float | None = None
    follow_sensors: bool = False

    def __post_init__(self) -> None:
        values = {
            "rate_hz": self.rate_hz,
            "max_age_s": self.max_age_s,
            "late_tolerance_s": self.late_tolerance_s,
            **{f"max_age_by_name.{k}": v for k, v in self.max_age_by_name.items()},
            **{f"slew_per_s[{i}]": v for i, v in enumerate(self.slew_per_s or ())},
        }
        for name, value in values.items():
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"{name}={value} must be a finite number above 0")
        if self.slew_per_s == ():
            raise UserError("slew_per_s=[] must have a value per action entry, one for all, or be left out")


class Controller:
    """Runs a stream on a robot. Its thread owns the stream's state, the only thing that lives from tick to tick.

    `tick` may be called by a timer of the caller's, or by `run`. `hold`, `enable` and `reset_memory`
    may be called from any thread and take effect at the next tick.
    """

    def __init__(
        self,
        stream: Stream,
        robot: Robot,
        config: ControllerConfig | None = None,
        telemetry: Telemetry | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        """`clock` and `sleep` (seconds) replace real time; without `sleep`, `run` waits on its stop event."""
        config = config or ControllerConfig()
        spec = stream.spec
        if config.rate_hz is not None and not math.isclose(config.rate_hz, spec.rate_hz, rel_tol=1e-6):
            raise UserError(
                f"rate_hz={config.rate_hz:g} differs from the {spec.rate_hz:g} Hz of the artifact: a policy's memory "
                "counts ticks; leave rate_hz out, or export for this rate"
            )
        for name in config.max_age_by_name:
            if name not in spec.observation:
                raise UserError(f"max_age_by_name: no observation {name!r}{nearest(name, spec.observation)}")
        self.stream, self.robot, self.config = stream, robot, config
        self.telemetry = Telemetry() if telemetry is None else telemetry
        self.period_s = spec.period_s
        self._clock, self._sleep = clock, sleep
        self._limits = ActionLimits(spec.action, config.slew_per_s, self.period_s)
        default_age = config.max_age_s or 2 * self.period_s
        self._tolerance = config.late_tolerance_s or 0.5 * self.period_s
        texts = [name for name, s in spec.observation.items() if isinstance(s, TextSpec)]
        self._instruction = texts[0] if texts else None
        self._previous = PreviousAction(spec.observation, spec.action)
        self._sensed = tuple(name for name in spec.observation if name != PREVIOUS_ACTION)
        self._max_ages = {
            n: config.max_age_by_name.get(n, math.inf if n in texts else default_age) for n in self._sensed
        }
        self._numeric = tuple(name for name in self._sensed if name not in texts)
        self._state = stream.initial_state()
        self._last_sent = self._limits.at_rest()
        self._index = -1
        self._next_deadline: float | None = None
        self._fault: str | None = None
        self._held = False
        self._reset_wanted = False

    @property
    def state(self) -> np.ndarray:
        """The memory, float32 `(layers, size)`; replaced, never changed in place."""
        return self._state

    @property
    def faulted(self) -> str | None:
        """The fault that `reset_memory()` will clear, or None."""
        return self._fault

    def hold(self) -> None:
        """Stand still from the next tick on, keeping the memory."""
        self._held = True

    def enable(self) -> None:
        """Drive again after `hold()`."""
        self._held = False

    def reset_memory(self) -> None:
        """Begin the next tick with an empty memory and no fault, as at an episode start."""
        self._reset_wanted = True

    def tick(self, deadline: float | None = None) -> Tick:
        """One tick, now. It was due at `deadline`; None means one period after the tick before.

        Never raises for what robot or stream do: the reason is in the tick.
        """
        start = self._clock()
        if deadline is None:
            deadline = start if self._next_deadline is None else self._next_deadline
        # Ahead of its time by more than a period: the clock jumped back, or nobody keeps the rate.
        lateness = max(0.0, start - deadline) if deadline - start <= self.period_s else 0.0
        skipped = int(lateness / self.period_s + 1e-6)
        self._next_deadline = start + self.period_s
        self._index += 1 + skipped
        if self._reset_wanted:
            self._reset_wanted = False
            self._state, self._fault = self.stream.initial_state(), None
            self._previous.forget()

        turn = _Turn()
        try:
            reason = self._drive(turn, start - lateness + self.period_s, lateness)
        except Exception as error:  # whatever a robot does, the loop lives on and stops it
            turn.detail = _describe(error)
            reason = "robot_error"
        if reason != "ok":
            self._stop(turn, reason)
        tick = Tick(
            index=self._index,
            time=start,
            action_asked=turn.asked,
            action_sent=turn.sent,
            reason=reason,
            latency_s=self._clock() - start,
            lateness_s=lateness,
            oldest_s=turn.oldest_s,
            instruction=turn.instruction,
            skipped=skipped,
            detail=turn.detail,
        )
        self.telemetry.record(tick)
        return tick

    def run(self, stop_event: threading.Event | None = None, max_ticks: int | None = None) -> None:
        """Ticks at the policy's rate until `stop_event` is set or `max_ticks` were made.

        Deadlines are absolute, one period apart (but see `follow_sensors`). After an overrun one late tick
        stops the robot, the missed periods are skipped, and the loop goes on at the next deadline: never two
        ticks in one period. However the loop ends, the robot is told to stop.
        """
        stop_event = stop_event or threading.Event()
        deadline = self._clock()
        count = 0
        try:
            while not stop_event.is_set() and (max_ticks is None or count < max_ticks):
                now = self._clock()
                if deadline - now > self.period_s * (1 + _LARGEST_SHIFT + 1e-9):
                    deadline = now  # the clock jumped back
                if now < deadline:
                    self._wait(stop_event, deadline - now)
                    continue
                tick = self.tick(deadline)
                count += 1
                # The next deadline of the grid that has not passed by the time this tick began.
                deadline += self.period_s * (1 + int((now - deadline) / self.period_s + 1e-6))
                if self.config.follow_sensors:
                    deadline += self._shift(tick)
        finally:
            self._stop(_Turn(), "shutdown")

    def _shift(self, tick: Tick) -> float:
        """Seconds by which the next tick comes later: towards the moment when its observations are fresh."""
        if tick.reason != "ok" or not math.isfinite(tick.oldest_s):
            return 0.0
        # Later by a period is the same as earlier by none: the nearer way is at most half a period.
        early = math.remainder(tick.oldest_s / self.period_s - _FRESH, 1.0)
        return -self.period_s * max(-_LARGEST_SHIFT, min(_LARGEST_SHIFT, early))

    def _wait(self, stop_event: threading.Event, seconds: float) -> None:
        if self._sleep is None:
            stop_event.wait(seconds)
        else:
            self._sleep(seconds)

    def _drive(self, turn: _Turn, too_late: float, lateness: float) -> str:
        """Sends an action and returns "ok", or returns why none may be sent."""
        reading = self.robot.observe()
        if self._instruction is not None:
            turn.instruction = str(reading.values.get(self._instruction) or "")
        if lateness > self._tolerance:
            return "late"
        if self._held:
            return "held"
        reason = self._check(turn, reading)
        if reason is not None:
            return reason
        try:
            sensed = {name: reading.values[name] for name in self._sensed}
            if self._previous.wanted:
                sensed[PREVIOUS_ACTION] = self._previous.value
            inputs = self.stream.read(sensed)
        except ObservationError as error:
            turn.detail = str(error)
            return f"invalid_observation:{error.name}"
        for name in self._numeric:
            values = inputs[name]
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                return f"nan_observation:{name}"
        if self._fault is not None:
            return f"faulted:{self._fault}"
        try:
            asked, state = self.stream.advance(inputs, self._state)
        except Exception as error:
            turn.detail = _describe(error)
            return self._latch("stream_error")
        turn.asked = asked
        if not np.isfinite(asked).all():
            return self._latch("nan_action")
        if not np.isfinite(state).all():
            return self._latch("nan_state")
        # What was seen was seen, even when the action comes too late to be carried out.
        self._state = state
        if self._clock() >= too_late:
            return "late"
        action = self._limits.apply(asked, self._last_sent)
        sent = self.robot.send(action)
        turn.sent = self._limits.check_sent(action if sent is None else sent)
        self._previous.set(turn.sent)
        if self._last_sent is not None:
            self._last_sent = turn.sent
        return "ok"

    def _check(self, turn: _Turn, reading: Reading) -> str | None:
        """Why this reading cannot be used; fills in the age of its oldest part."""
        if not reading.connected:
            return "disconnected"
        now = self._clock()
        reason = None
        for name, max_age in self._max_ages.items():
            stamp = reading.stamps.get(name)
            if reading.values.get(name) is None or (stamp is None and max_age < math.inf):
                return f"missing:{name}"
            if stamp is None or max_age == math.inf:
                continue
            age = now - stamp
            if not age <= turn.oldest_s:  # true at first, when it is NaN
                turn.oldest_s = age
            # Written so that a NaN stamp is stale.
            if reason is None and not age <= max_age:
                reason = f"stale:{name}"
            if reason is None and age < -_CLOCK_SLACK_S:
                reason = f"future_stamp:{name}"
        return reason

    def _latch(self, reason: str) -> str:
        self._fault = reason
        return reason

    def _stop(self, turn: _Turn, reason: str) -> None:
        self._last_sent = self._limits.at_rest()
        self._previous.forget()
        try:
            self.robot.stop(reason)
        except Exception as error:
            # The reason for stopping matters more than the failure to say so, which is counted.
            self.telemetry.stop_failed(_describe(error))
            turn.detail = turn.detail or _describe(error)


@dataclass
class _Turn:
    """What one tick found out on its way."""

    asked: np.ndarray | None = None
    sent: np.ndarray | None = None
    oldest_s: float = math.nan
    instruction: str = ""
    detail: str = ""


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
