"""The fixed-rate loop between a stream and a robot, which stops the robot whenever it may not drive.

Every tick reads the robot, checks what it read, runs the policy and sends an action; or it sends a
stop and says why. The reasons, as they appear in `Tick.reason`, in the order in which they are checked:

    emergency_stop              `emergency_stop()` was called, and not `end_emergency_stop()` since
    clock_jump                  the clock went back, or monotonic and wall clock moved apart
    late                        the tick began or ended too late, or periods were missed before it
    held                        `hold()` was called
    heartbeat                   nobody called `heartbeat()` for too long
    telemetry_lost              a log that was asked for can no longer be written
    robot_error                 the robot raised, or handed over something that is no reading or no action
    disconnected                the robot says that it has no connection
    missing:<name>              the policy needs an observation that the robot did not give
    stale:<name>                the observation is older than allowed
    future_stamp:<name>         its time stamp is ahead of the clock: another clock made it
    not_understood              the instruction means nothing to the policy; the detail says what of it
    invalid_observation:<name>  it has another shape or type than the policy was trained with
    nan_observation:<name>      it holds NaN or infinity
    frozen:<name>               it has been the same to the last bit for too long
    stream_error                the policy raised
    nan_action, nan_state       the policy computed NaN or infinity
    action_out_of_range         it asked for something far outside the action's bounds
    state_drift                 the norm of its memory grew beyond what it was after the reset
    faulted:<reason>            one of the last five happened before, and `reset_memory()` has not been called
    hook_error                  the user's action hook raised, or returned no action
    ok                          an action was sent

All reasons but the faults pass by themselves: the memory is kept as it is while nothing can be
observed, and driving goes on from it, as it would after a blink. The five faults stay until
`reset_memory()`. The observations were fine, so the cause is in the memory or the weights, and the
next tick would start from the same memory: trying again might shake the robot between stop and go.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.runtime.action_filters import ActionFilters, ActionHook, HookError
from mcsd_agent.runtime.controller_config import ControllerConfig
from mcsd_agent.runtime.controller_mode import ControllerMode, Mode
from mcsd_agent.runtime.done import Completion, DoneWatch, ticks_of
from mcsd_agent.runtime.observations import ObservationError
from mcsd_agent.runtime.pace import keep_pace
from mcsd_agent.runtime.previous_action import NAME as PREVIOUS_ACTION
from mcsd_agent.runtime.previous_action import PreviousAction
from mcsd_agent.runtime.realtime import RealTimeConfig, real_time, unavailable
from mcsd_agent.runtime.robot import Robot
from mcsd_agent.runtime.stream import Stream
from mcsd_agent.runtime.telemetry import Telemetry
from mcsd_agent.runtime.text_encoders import text_encoder
from mcsd_agent.runtime.tick import Summary, Tick, summarise
from mcsd_agent.runtime.understanding import Understanding
from mcsd_agent.runtime.watchdogs import AgeWatch, ClockWatch, DriftWatch, FrozenWatch, HeartbeatWatch, RangeWatch
from mcsd_agent.spaces import TextSpec


class Controller:
    """Runs a stream on a robot. Its thread owns the stream's state, the only thing that lives from tick to tick.

    `tick` may be called by a timer of the caller's, or by `run`. `hold`, `enable`, `emergency_stop`,
    `end_emergency_stop`, `reset_memory` and `heartbeat` may be called from any thread; all but the last take effect at
    the next tick. `completion` tells whether the instruction is carried out, where the policy predicts that.
    """

    def __init__(
        self,
        stream: Stream,
        robot: Robot,
        config: ControllerConfig | None = None,
        telemetry: Telemetry | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] | None = None,
        *,
        action_hook: ActionHook | None = None,
        real_time: RealTimeConfig | None = None,
    ) -> None:
        """`clock` and `sleep` (seconds) replace real time; without `sleep`, `run` waits on its stop event.

        `action_hook` is the last but one of the `action_filters`; `real_time` is for `run`. Raises `UserError` for
        what does not fit the artifact, or is required of the system and not permitted.
        """
        config = config or ControllerConfig()
        spec = stream.spec
        if stream.batch is not None:
            raise UserError(f"a stream with batch={stream.batch} drives several robots, a controller one; leave it out")
        config.check_fits(spec)
        self.stream, self.robot, self.config = stream, robot, config
        self.telemetry = Telemetry() if telemetry is None else telemetry
        # Nobody waits in a simulated time.
        self.real_time = real_time or RealTimeConfig(freeze_gc=clock is time.monotonic)
        #: What of `real_time` the system does not permit, one line each.
        self.real_time_notes = unavailable(self.real_time)
        self.period_s = spec.period_s
        self._clock, self._sleep = clock, sleep
        self._tolerance = config.late_tolerance_s or 0.5 * self.period_s
        texts = [name for name, s in spec.observation.items() if isinstance(s, TextSpec)]
        self._instruction = texts[0] if texts else None
        self._understanding = None
        if texts and spec.vocabulary is not None:
            self._understanding = Understanding(
                text_encoder(spec.vocabulary), config.max_unknown_share, config.max_instruction_distance
            )
        self._previous = PreviousAction(spec.observation, spec.action)
        self._sensed = tuple(name for name in spec.observation if name != PREVIOUS_ACTION)
        self._numeric = tuple(name for name in self._sensed if name not in texts)

        default_age = config.max_age_s or 2 * self.period_s
        self._ages = AgeWatch(
            {n: config.max_age_by_name.get(n, math.inf if n in texts else default_age) for n in self._sensed}
        )
        self._frozen = FrozenWatch(config.max_frozen_by_name)
        # A clock that somebody else keeps has no second one beside it.
        self._clocks = ClockWatch(config.max_clock_jump_s, time.time if clock is time.monotonic else None)
        self._heartbeats = HeartbeatWatch(config.heartbeat_s)
        self._range = RangeWatch(spec.action, config.max_excess)
        self._drift = DriftWatch(config.max_state_growth, config.state_norm_ticks)
        self._filters = ActionFilters(
            spec.action,
            self.period_s,
            slew_per_s=config.slew_per_s,
            low_pass_s=config.low_pass_s,
            at_rest=config.at_rest,
            hook=action_hook,
        )
        self.completion = Completion(DoneWatch(config.done_threshold, ticks_of(config.done_s, spec.rate_hz)))
        self._mode = ControllerMode(self.telemetry.record_transition)
        self._state = stream.initial_state()
        self._norm = 0.0
        self._since_ready = math.nan
        self._last_sent = self._filters.at_rest()
        self._index = -1
        self._next_deadline: float | None = None
        self._fault: str | None = None
        self._held = self._emergency = False
        self._resumed = False
        self._reset_wanted = False

    @property
    def state(self) -> np.ndarray:
        """The memory, float32 `(layers, size)`; replaced, never changed in place."""
        return self._state

    @property
    def mode(self) -> Mode:
        """What the controller is doing, see `controller_mode`."""
        return self._mode.now

    @property
    def faulted(self) -> str | None:
        """The fault that `reset_memory()` will clear, or None."""
        return self._fault

    def hold(self) -> None:
        """Stand still from the next tick on, keeping the memory."""
        self._held = True

    def enable(self) -> None:
        """Drive again after `hold()`, with the memory kept or emptied as `on_resume` says."""
        self._resumed, self._held = self._held or self._resumed, False

    def emergency_stop(self) -> None:
        """Stop at every tick from the next one on, whatever else is the case; `enable()` does not end it."""
        self._emergency = True

    def end_emergency_stop(self) -> None:
        """Drive again, with the memory kept or emptied as `on_resume` says."""
        self._resumed, self._emergency = self._emergency or self._resumed, False

    def objection(self, text: str) -> str:
        """What the policy does not understand of an instruction, in one line; "" where it understands it.

        May be called from any thread. A sentence encoder reads the text here, which then costs the next tick nothing.
        """
        return "" if self._understanding is None else self._understanding.objection(text)

    def reset_memory(self) -> None:
        """Begin the next tick with an empty memory and no fault, as at an episode start."""
        self._reset_wanted = True

    def heartbeat(self) -> None:
        """Somebody is there; see `ControllerConfig.heartbeat_s`."""
        self._heartbeats.beat(self._clock())

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
        if self._mode.now == "inactive":
            self._mode.change(start, "ready", "start")
        given = self.completion.given  # before the robot is looked at: what it says is at least as new
        if self._reset_wanted:
            self._reset_wanted = False
            self._empty_memory()
            if self._understanding is not None:
                self._understanding.forget()
            self._fault = None
            self._mode.change(start, "ready", "reset_memory")

        turn = _Turn()
        try:
            reason = self._drive(turn, start, lateness)
        except Exception as error:  # whatever a robot does, the loop lives on and stops it
            turn.detail = _describe(error)
            reason = "robot_error"
        if reason != "ok":
            self._stop(turn, reason)
        self.completion.judge(given, turn.instruction, turn.success)
        done = self._clock()
        self._mode.after_tick(start, reason, self._fault is not None)
        tick = Tick(
            index=self._index,
            time=start,
            action_asked=turn.asked,
            action_sent=turn.sent,
            reason=reason,
            latency_s=done - start,
            lateness_s=lateness,
            oldest_s=turn.oldest_s,
            instruction=turn.instruction,
            skipped=skipped,
            detail=turn.detail,
            mode=self._mode.now,
            policy_s=turn.policy_s,
            state_norm=self._norm,
            success=turn.success,
            observation=self._summaries(turn),
        )
        self.telemetry.record(tick)
        return tick

    def run(self, stop_event: threading.Event | None = None, max_ticks: int | None = None) -> None:
        """Ticks at the policy's rate until `stop_event` is set or `max_ticks` were made.

        Deadlines are absolute, one period apart (but see `follow_sensors`). After an overrun one late tick
        stops the robot, the missed periods are skipped, and the loop goes on at the next deadline: never two
        ticks in one period. However the loop ends, the robot is told to stop. Meanwhile the calling thread has
        what `real_time` gives it.
        """
        stop_event = stop_event or threading.Event()
        try:
            with real_time(self.real_time) as session:
                self._mode.change(self._clock(), "ready", "start")
                keep_pace(
                    self.tick,
                    self.period_s,
                    self._clock,
                    self._sleep or stop_event.wait,
                    stop_event.is_set,
                    max_ticks=max_ticks,
                    follow_sensors=self.config.follow_sensors,
                    since_news=self._since_news,
                    idle=session.between_ticks,
                )
        finally:
            self._stop(_Turn(), "shutdown")
            self._mode.change(self._clock(), "inactive", "shutdown")

    def _since_news(self, done: Tick) -> float:
        """What a sensor's message takes to be decoded is no time in which a tick could have used it."""
        return done.oldest_s if math.isnan(self._since_ready) else self._since_ready

    def _drive(self, turn: _Turn, start: float, lateness: float) -> str:
        """Sends an action and returns "ok", or returns why none may be sent."""
        jump = self._clocks.check(start)
        reading = self.robot.observe()
        self._since_ready = self._clock() - reading.ready
        if self._instruction is not None:
            turn.instruction = str(reading.values.get(self._instruction) or "")
        if self._emergency:
            return "emergency_stop"
        if jump is not None:
            turn.detail = f"clocks moved by {self._clocks.jump_s:+.3f} s against each other"
            return jump
        if lateness > self._tolerance:
            return "late"
        if self._held:
            return "held"
        if self._resumed:
            self._resumed = False
            if self.config.on_resume == "reset":
                self._empty_memory()
        reason = self._heartbeats.check(self._clock())
        if reason is None and self.config.on_telemetry_loss == "stop" and self.telemetry.lost:
            reason, turn.detail = "telemetry_lost", self.telemetry.lost
        if reason is None:
            reason = "disconnected" if not reading.connected else self._ages.check(reading, self._clock())
            turn.oldest_s = self._ages.oldest_s if reading.connected else math.nan
        if reason is not None:
            return reason
        if self._is_unknown(turn, reading.values):
            return "not_understood"
        reason = self._read(turn, reading.values)
        if reason is not None:
            return reason
        if self._fault is not None:
            return f"faulted:{self._fault}"
        self._fault = self._ask(turn)
        if self._fault is not None:
            return self._fault
        if self._clock() >= start - lateness + self.period_s:
            return "late"
        try:
            action = self._filters.apply(turn.asked, self._last_sent, turn.seen)
        except HookError as error:
            turn.detail = str(error)
            return "hook_error"
        sent = self.robot.send(action)
        turn.sent = self._filters.check_sent(action if sent is None else sent)
        self._previous.set(turn.sent)
        if self._last_sent is not None:
            self._last_sent = turn.sent
        return "ok"

    def _is_unknown(self, turn: _Turn, values: Mapping[str, Any]) -> bool:
        """Whether the robot holds because of what it was told; in silence, of what it was told last."""
        if self._understanding is None or not isinstance(values.get(self._instruction or ""), str):
            return False
        objection = self._understanding.hear(turn.instruction)
        if objection and self.config.on_unknown_instruction == "hold":
            turn.detail = objection
            return True
        return False

    def _read(self, turn: _Turn, values: Mapping[str, Any]) -> str | None:
        """Makes the policy's inputs, or says why they cannot be used."""
        turn.seen = {name: values[name] for name in self._sensed}
        if self._previous.wanted:
            turn.seen[PREVIOUS_ACTION] = self._previous.value
        try:
            turn.inputs = self.stream.read(turn.seen)
        except ObservationError as error:
            turn.detail = str(error)
            return f"invalid_observation:{error.name}"
        for name in self._numeric:
            array = turn.inputs[name]
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                return f"nan_observation:{name}"
        return self._frozen.check(turn.inputs, self._clock())

    def _ask(self, turn: _Turn) -> str | None:
        """Asks the policy, or returns the fault that this shows."""
        began = self._clock()
        try:
            asked, success, state = self.stream.advance_and_judge(turn.inputs, self._state)
        except Exception as error:
            turn.detail = _describe(error)
            return "stream_error"
        turn.policy_s = self._clock() - began
        turn.asked = asked
        if not np.isfinite(asked).all():
            return "nan_action"
        flat = state.ravel()
        norm = math.sqrt(float(np.vdot(flat, flat)))  # which does not warn of an overflow
        # A finite norm needs no further look; squares of finite numbers may overflow.
        if not math.isfinite(norm) and not np.isfinite(flat).all():
            return "nan_state"
        # What was seen was seen, even when the action comes too late to be carried out.
        self._state, self._norm = state, norm
        if success is not None:
            turn.success = float(success)
        reason = self._range.check(asked)
        if reason is None:
            reason = self._drift.check(norm)
            if reason is not None:
                turn.detail = f"norm {norm:.4g}; at most {self._drift.largest:.4g} in the first ticks"
        return reason

    def _empty_memory(self) -> None:
        self._state, self._norm = self.stream.initial_state(), 0.0
        self._drift.reset()
        self._previous.forget()

    def _summaries(self, turn: _Turn) -> dict[str, Summary]:
        """Telemetry of what was read, after the action is on its way."""
        ages, inputs = self._ages.ages, turn.inputs
        # Only what the policy was not asked about can hold infinities, and NumPy warns of their sum.
        with nullcontext() if turn.asked is not None else np.errstate(invalid="ignore"):
            return {name: summarise(inputs[name], ages.get(name, math.nan)) for name in self._numeric if name in inputs}

    def _stop(self, turn: _Turn, reason: str) -> None:
        self._last_sent = self._filters.at_rest()
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

    seen: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, np.ndarray] = field(default_factory=dict)
    asked: Any = None
    sent: np.ndarray | None = None
    oldest_s: float = math.nan
    policy_s: float = math.nan
    success: float = math.nan
    instruction: str = ""
    detail: str = ""


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
