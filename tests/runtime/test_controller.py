"""The controller: every fault stops the robot within its tick, and nothing else does."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.onnx_models import tiny_artifact, tiny_spec
from runtime.scripted_robot import ScriptedRobot

from mcsd_agent.errors import UserError
from mcsd_agent.runtime import Controller, ControllerConfig, Stream, Telemetry, VirtualClock
from mcsd_agent.runtime.action_limits import ActionLimits
from mcsd_agent.runtime.package import parse_package
from mcsd_agent.runtime.previous_action import PreviousAction
from mcsd_agent.spaces import BoxSpec, DiscreteSpec, MultiDiscreteSpec

PACKAGE = parse_package(tiny_artifact(), "tiny")
PERIOD = PACKAGE.spec.period_s


def make(**config: Any) -> tuple[Controller, ScriptedRobot, VirtualClock]:
    clock = VirtualClock(1000.0)
    robot = ScriptedRobot(clock)
    stream = Stream(PACKAGE, "numpy")
    return Controller(stream, robot, ControllerConfig(**config), clock=clock, sleep=clock.sleep), robot, clock


def steps(controller: Controller) -> int:
    """How many times the policy has stepped since its memory was empty."""
    return round(float(controller.state[0, 0]))


#: What goes wrong, the reason it must give, and whether it lasts until the memory is reset.
FAULTS: dict[str, tuple[Callable[[ScriptedRobot], None], str]] = {
    "disconnected": (lambda r: setattr(r, "connected", False), "disconnected"),
    "stale": (lambda r: r.ages.update(position=0.21), "stale:position"),
    "NaN stamp": (lambda r: r.ages.update(position=math.nan), "stale:position"),
    "other clock": (lambda r: r.ages.update(state_root=-1e9), "future_stamp:state_root"),
    "no stamp": (lambda r: r.ages.pop("position"), "missing:position"),
    "missing": (lambda r: r.values.pop("action_root"), "missing:action_root"),
    "None": (lambda r: r.values.update(position=None), "missing:position"),
    "no text": (lambda r: r.values.pop("instruction"), "missing:instruction"),
    "NaN": (lambda r: r.values.update(position=np.float32([0, np.nan])), "nan_observation:position"),
    "infinite": (lambda r: r.values.update(position=np.float32([-np.inf, 0])), "nan_observation:position"),
    "overflow": (lambda r: r.values.update(position=[1e300, 0]), "nan_observation:position"),
    "wrong shape": (lambda r: r.values.update(position=np.zeros(3)), "invalid_observation:position"),
    "wrong type": (lambda r: r.values.update(instruction=b"go"), "invalid_observation:instruction"),
}


def fail(error: BaseException) -> Callable[..., None]:
    def raise_it(*_: Any) -> None:
        raise error

    return raise_it


def restore(robot: ScriptedRobot) -> None:
    fresh = ScriptedRobot(robot.clock)
    robot.values, robot.ages, robot.connected = fresh.values, fresh.ages, fresh.connected


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_stops_within_its_tick_and_passes_by_itself(fault: str) -> None:
    controller, robot, clock = make()
    break_it, reason = FAULTS[fault]
    assert controller.tick().reason == "ok"
    break_it(robot)
    for _ in range(3):  # and the stop is repeated, should one be lost
        clock.sleep(PERIOD)
        tick = controller.tick()
        assert tick.reason == reason
        assert tick.action_sent is None
        assert robot.last == ("stop", reason)
    assert steps(controller) == 1, "the memory waits"
    restore(robot)
    clock.sleep(PERIOD)
    assert controller.tick().reason == "ok"
    assert robot.last[0] == "send"
    assert steps(controller) == 2, "and goes on where it was"
    assert controller.faulted is None


@given(st.lists(st.sampled_from([None, *FAULTS]), min_size=1, max_size=30))
def test_every_tick_sends_or_stops_exactly_once_for_the_right_reason(script: list[str | None]) -> None:
    controller, robot, clock = make()
    for count, fault in enumerate(script, 1):
        restore(robot)
        expected = "ok"
        if fault is not None:
            break_it, expected = FAULTS[fault]
            break_it(robot)
        assert controller.tick().reason == expected
        assert len(robot.commands) == count
        assert robot.last[0] == ("send" if fault is None else "stop")
        clock.sleep(PERIOD)
    assert steps(controller) == script.count(None)


@pytest.mark.parametrize(("root", "reason"), [("action_root", "nan_action"), ("state_root", "nan_state")])
def test_nan_from_the_policy_latches_until_reset(root: str, reason: str) -> None:
    controller, robot, clock = make()
    controller.tick()
    controller.tick()
    robot.values[root] = np.float32([-1])
    assert controller.tick().reason == reason
    assert robot.last == ("stop", reason)
    restore(robot)
    for _ in range(3):
        clock.sleep(PERIOD)
        assert controller.tick().reason == f"faulted:{reason}"
        assert controller.faulted == reason
    assert np.isfinite(controller.state).all()
    controller.reset_memory()
    assert controller.tick().reason == "ok"
    assert controller.faulted is None
    assert steps(controller) == 1


def test_stream_that_raises_latches_with_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    controller, robot, _ = make()
    monkeypatch.setattr(controller.stream, "advance_and_judge", fail(RuntimeError("out of\nmemory")))
    tick = controller.tick()
    assert (tick.reason, tick.detail) == ("stream_error", "RuntimeError: out of memory")
    monkeypatch.undo()
    assert controller.tick().reason == "faulted:stream_error"
    controller.reset_memory()
    assert controller.tick().reason == "ok"
    assert robot.last[0] == "send"


@pytest.mark.parametrize("broken", ["on_observe", "on_send"])
def test_robot_that_raises_is_stopped_and_may_recover(broken: str) -> None:
    controller, robot, _ = make()
    working = getattr(robot, broken)
    setattr(robot, broken, fail(OSError("serial port\ngone")))
    tick = controller.tick()
    assert (tick.reason, tick.detail) == ("robot_error", "OSError: serial port gone")
    assert robot.last == ("stop", "robot_error")
    setattr(robot, broken, working)
    assert controller.tick().reason == "ok"


@pytest.mark.parametrize("sent", [np.zeros(3), [np.nan, 0], "faster", object()])
def test_robot_that_reports_no_action_is_stopped(sent: Any) -> None:
    """It would poison the slew limit of the next tick."""
    controller, robot, _ = make(slew_per_s=(1.0,))
    robot.on_send = lambda action: sent
    assert controller.tick().reason == "robot_error"
    assert robot.last == ("stop", "robot_error")
    robot.on_send = lambda action: action
    assert controller.tick().reason == "ok"
    assert np.isfinite(robot.last[1]).all()


@pytest.mark.parametrize("reading", [None, 7])
def test_robot_that_hands_over_no_reading_is_stopped(reading: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    controller, robot, _ = make()
    monkeypatch.setattr(robot, "observe", lambda: reading)
    assert controller.tick().reason == "robot_error"


def test_stop_that_fails_is_counted_and_keeps_the_reason() -> None:
    controller, robot, _ = make()
    robot.connected = False
    robot.on_stop = fail(OSError("no route"))
    for _ in range(3):
        assert controller.tick().reason == "disconnected"
    summary = controller.telemetry.summary()
    assert (summary["stop_failures"], summary["last_stop_failure"]) == (3, "OSError: no route")


def test_hold_stands_still_and_keeps_the_memory() -> None:
    controller, robot, clock = make()
    controller.tick()
    controller.hold()
    for _ in range(3):
        clock.sleep(PERIOD)
        assert controller.tick().reason == "held"
        assert robot.last == ("stop", "held")
    controller.enable()
    clock.sleep(PERIOD)
    assert controller.tick().reason == "ok"
    assert steps(controller) == 2


def test_age_limits_are_per_name_and_texts_have_none() -> None:
    controller, robot, _ = make(max_age_s=1.0, max_age_by_name={"position": 0.1})
    robot.ages.update(action_root=0.9, position=0.05)
    tick = controller.tick()
    assert (tick.reason, tick.oldest_s) == ("ok", pytest.approx(0.9))
    robot.ages.update(position=0.15)
    assert controller.tick().reason == "stale:position"
    controller, robot, _ = make(max_age_by_name={"instruction": 5.0})
    assert controller.tick().reason == "missing:instruction"
    robot.ages["instruction"] = 4.0
    assert controller.tick().reason == "ok"
    robot.ages["instruction"] = 6.0
    assert controller.tick().reason == "stale:instruction"


def test_age_is_unknown_where_no_observation_was_looked_at() -> None:
    controller, robot, _ = make()
    robot.connected = False
    tick = controller.tick()
    assert math.isnan(tick.oldest_s)
    assert tick.to_json()["oldest_s"] is None


def test_instruction_reaches_policy_and_record_and_does_not_touch_the_memory() -> None:
    controller, robot, _ = make()
    before = controller.tick()
    robot.values["instruction"] = "go"
    tick = controller.tick()
    assert tick.instruction == "go"
    assert tick.action_asked is not None
    assert before.action_asked is not None
    # word id 2, and one step more in memory
    np.testing.assert_allclose(tick.action_asked - before.action_asked, 0.021, atol=1e-6)
    assert steps(controller) == 2


# --- limits --------------------------------------------------------------------------------------

actions = st.lists(
    st.one_of(st.none(), st.tuples(st.floats(-1e6, 1e6, width=32), st.floats(-1e6, 1e6, width=32))),
    min_size=1,
    max_size=40,
)


@given(actions, st.sampled_from([None, (0.5,), (3.0, 40.0)]))
def test_actions_never_exceed_bounds_or_slew(wanted: list[tuple[float, float] | None], slew: Any) -> None:
    """None in the script is a fault: the robot stops, and starts again from rest."""
    controller, robot, clock = make(slew_per_s=slew)
    low, high = np.float32([-1, -2]), np.float32([1, 2])
    largest = np.inf if slew is None else np.asarray(slew) * PERIOD
    last = np.zeros(2)
    for position in wanted:
        robot.connected = position is not None
        robot.values["position"] = np.float32(position or (0, 0))
        tick = controller.tick()
        if position is None:
            last = np.zeros(2)
        else:
            assert tick.action_sent is not None
            assert ((low <= tick.action_sent) & (tick.action_sent <= high)).all()
            assert (np.abs(tick.action_sent - last) <= largest + 1e-6).all()
            last = tick.action_sent
        clock.sleep(PERIOD)


def test_slew_counts_from_what_was_really_sent() -> None:
    controller, robot, clock = make(slew_per_s=(2.0,))
    robot.values["position"] = np.float32([1, 1])
    robot.on_send = lambda action: action / 2
    for expected in (0.1, 0.15, 0.175):
        sent = controller.tick().action_sent
        np.testing.assert_allclose(sent, expected, atol=1e-6)
        clock.sleep(PERIOD)


def test_bounds_hold_even_where_rest_is_outside_them() -> None:
    spec = tiny_spec().action
    limits = ActionLimits(type(spec)((2,), low=(0.5,), high=(1.0,)), (0.1,), 0.1)
    assert limits.apply(np.float32([0, 2]), limits.at_rest()).tolist() == [0.5, 0.5]


def test_slew_leads_from_a_stated_rest_into_the_bounds_and_never_back_out() -> None:
    limits = ActionLimits(BoxSpec((2,), low=(0.5,), high=(1.0,)), (0.1,), 1.0, at_rest=(0.35, -1.0))
    sent = limits.at_rest()
    for expected in ([0.45, -0.9], [0.5, -0.8], [0.5, -0.7]):
        sent = limits.apply(np.float32([-9, 9]), sent)
        np.testing.assert_allclose(sent, expected, atol=1e-6)
    with pytest.raises(UserError, match=r"at_rest=\[0.0\] needs a Box action"):
        ActionLimits(DiscreteSpec(3), None, 1.0, at_rest=(0.0,))


def test_discrete_actions_pass_unchanged_and_have_no_slew() -> None:
    limits = ActionLimits(DiscreteSpec(3), None, 0.1)
    assert limits.apply(np.array(2), limits.at_rest()) == 2
    with pytest.raises(UserError, match="needs a Box action"):
        ActionLimits(DiscreteSpec(3), (1.0,), 0.1)


# --- time ----------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["on_observe", "on_send", "sleep"]),
            st.floats(0, 5 * PERIOD),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_overruns_skip_periods_and_never_burst(delays: list[tuple[str, float]]) -> None:
    controller, robot, clock = make()
    start, script = clock(), iter(delays)
    place, delay = "", 0.0

    def spend(where: str) -> None:
        if where == place:
            clock.sleep(delay)

    def observe() -> None:
        nonlocal place, delay
        place, delay = next(script, ("", 0.0))
        spend("on_observe")

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        spend("sleep")

    robot.on_observe = observe
    robot.on_send = lambda action: (spend("on_send"), action)[1]
    controller._sleep = sleep
    controller.run(max_ticks=len(delays) + 2)

    ticks = controller.telemetry.ticks
    assert len(ticks) == len(delays) + 2
    index = -1
    for tick in ticks:
        assert tick.index == index + 1 + tick.skipped, "missed periods leave gaps"
        index = tick.index
        # On the grid of absolute deadlines, however late the ones before were.
        began_in = (tick.time - start) / PERIOD
        assert index - 1e-6 <= began_in < index + 1 + 1e-6, "at most one tick in each period"
        if tick.lateness_s > 0.5 * PERIOD + 1e-9 or tick.skipped:
            assert tick.reason == "late"
        if tick.reason == "ok":
            deadline = start + index * PERIOD
            sent = [t for kind, t, _ in robot.commands if kind == "send" and t >= tick.time]
            assert sent[0] < deadline + PERIOD, "no action is sent after its period"
    assert ticks[-1].reason == "ok", "and it recovers by itself"


def test_loop_does_not_drift() -> None:
    controller, robot, clock = make()
    start = clock()
    robot.on_observe = lambda: clock.sleep(0.037)
    controller.run(max_ticks=1000)
    times = np.array([t.time for t in controller.telemetry.ticks])
    np.testing.assert_allclose(times - start, np.arange(1000) * PERIOD, atol=1e-6)


def test_policy_too_slow_for_its_rate_never_drives(monkeypatch: pytest.MonkeyPatch) -> None:
    controller, robot, clock = make()
    advance = controller.stream.advance_and_judge

    def slow(*arguments: Any) -> Any:
        clock.sleep(1.2 * PERIOD)
        return advance(*arguments)

    monkeypatch.setattr(controller.stream, "advance_and_judge", slow)
    controller.run(max_ticks=20)
    assert {kind for kind, _, _ in robot.commands} == {"stop"}
    assert controller.telemetry.summary()["reasons"] == {"late": 20}


@pytest.mark.parametrize("jump", [-3600.0, -0.05, 0.3, 3600.0])
def test_clock_jump_costs_at_most_one_late_tick(jump: float) -> None:
    controller, robot, clock = make()
    count = 0

    def observe() -> None:
        nonlocal count
        count += 1
        if count == 5:
            clock._now += jump

    robot.on_observe = observe
    controller.run(max_ticks=20)
    reasons = [t.reason for t in controller.telemetry.ticks]
    assert reasons[:4] == ["ok"] * 4
    assert reasons[7:] == ["ok"] * 13
    assert 3600 > clock() - 1000 - jump > 0, "the loop never waits for the clock to come back"


def test_ticks_of_a_timer_are_late_by_their_own_interval() -> None:
    controller, _, clock = make()
    assert controller.tick().reason == "ok"
    clock.sleep(1.1 * PERIOD)
    assert controller.tick().reason == "ok"
    clock.sleep(1.7 * PERIOD)
    tick = controller.tick()
    assert (tick.reason, tick.lateness_s) == ("late", pytest.approx(0.7 * PERIOD))
    clock.sleep(PERIOD)
    assert controller.tick().reason == "ok"


def test_late_tolerance_is_configurable() -> None:
    controller, _, clock = make(late_tolerance_s=0.09)
    controller.tick()
    clock.sleep(1.7 * PERIOD)
    assert controller.tick().reason == "ok"


# --- the loop ------------------------------------------------------------------------------------


def test_loop_ends_with_a_stop_when_told_to() -> None:
    controller, robot, _ = make()
    stop_event = threading.Event()
    robot.on_send = lambda action: (stop_event.set() if len(robot.commands) == 5 else None, action)[1]
    controller.run(stop_event)
    assert len(controller.telemetry.ticks) == 5
    assert robot.last == ("stop", "shutdown")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_loop_ends_with_a_stop_when_interrupted(error: BaseException) -> None:
    controller, robot, _ = make()
    robot.on_send = fail(error)
    with pytest.raises(type(error)):
        controller.run()
    assert robot.last == ("stop", "shutdown")


def test_loop_outlives_every_fault() -> None:
    controller, robot, _ = make()
    faults = iter([f for f, _ in FAULTS.values()])

    def observe() -> None:
        restore(robot)
        next(faults, lambda _: None)(robot)
        if len(robot.commands) % 3 == 2:
            raise OSError("flaky")

    robot.on_observe, robot.on_stop = observe, fail(OSError("flaky"))
    controller.run(max_ticks=60)
    assert len(controller.telemetry.ticks) == 60


def test_real_thread_and_clock_drive_hold_and_stop() -> None:
    """Nothing here depends on how fast the machine is."""
    robot = ScriptedRobot(time.monotonic)  # type: ignore[arg-type]
    # A busy machine may be late: that is not what this test is about.
    config = ControllerConfig(late_tolerance_s=60.0, max_age_s=60.0)
    controller = Controller(Stream(PACKAGE), robot, config)
    stop_event, driven = threading.Event(), threading.Event()
    robot.on_send = lambda action: (driven.set(), action)[1]
    thread = threading.Thread(target=controller.run, args=(stop_event,))
    thread.start()
    try:
        assert driven.wait(30)
        controller.hold()
        deadline = time.monotonic() + 30
        while robot.last != ("stop", "held") and time.monotonic() < deadline:
            time.sleep(0.01)
        assert robot.last == ("stop", "held")
        driven.clear()
        controller.enable()
        assert driven.wait(30)
    finally:
        stop_event.set()
        thread.join(30)
    assert not thread.is_alive()
    assert robot.last == ("stop", "shutdown")


# --- configuration -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rate_hz": 0.0}, "rate_hz=0.0 must be a finite number above 0"),
        ({"max_age_s": -1.0}, "max_age_s=-1.0"),
        ({"late_tolerance_s": math.nan}, "late_tolerance_s=nan"),
        ({"max_age_by_name": {"position": math.inf}}, "max_age_by_name.position=inf"),
        ({"slew_per_s": (1.0, 0.0)}, r"slew_per_s\[1\]=0.0"),
        ({"slew_per_s": ()}, r"slew_per_s=\[\]"),
        ({"slew_per_s": (1.0, 1.0, 1.0)}, "must have 1 or 2 values"),
        ({"at_rest": ()}, r"at_rest=\[\]"),
        ({"at_rest": (0.0, math.inf)}, r"at_rest=\[0.0, inf\] must hold finite numbers"),
        ({"at_rest": (0.0, 0.0, 0.0)}, r"at_rest=\[0.0, 0.0, 0.0\] must have 1 or 2 values"),
        ({"rate_hz": 20.0}, "rate_hz=20 differs from the 10 Hz of the artifact"),
        ({"max_age_by_name": {"positon": 1.0}}, "no observation 'positon'; did you mean 'position'"),
    ],
)
def test_impossible_configurations_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(**fields)


def test_stream_for_several_robots_is_refused() -> None:
    stream = Stream(PACKAGE, "numpy")
    stream.batch = 2  # as `Stream.load(path, batch=2)` has it
    with pytest.raises(UserError, match="batch=2 drives several robots"):
        Controller(stream, make()[1])


def test_telemetry_given_is_used_even_while_empty() -> None:
    telemetry = Telemetry()
    clock = VirtualClock()
    assert Controller(Stream(PACKAGE, "numpy"), ScriptedRobot(clock), telemetry=telemetry).telemetry is telemetry


@pytest.mark.parametrize("phase", [0.0, 0.05, 0.3, 0.5, 0.61, 0.88, 0.99])
def test_following_sensors_brings_fresh_observations_in_small_steps_whatever_the_phase(phase):
    controller, robot, clock = make(follow_sensors=True)

    def speak() -> None:
        since = math.fmod(clock() - 1000.0 + phase * PERIOD, PERIOD)
        robot.ages = dict.fromkeys(robot.ages, since)

    robot.on_observe = speak
    controller.run(max_ticks=80)
    ticks = controller.telemetry.ticks
    assert {t.reason for t in ticks} == {"ok"}
    assert all(t.oldest_s <= 0.15 * PERIOD for t in ticks[-20:])
    gaps = np.diff([t.time for t in ticks])
    assert np.all(np.abs(gaps - PERIOD) <= 0.0201 * PERIOD)


@pytest.mark.parametrize("phase", [0.0, 0.3, 0.61, 0.99])
@pytest.mark.parametrize("decoding", [0.05, 0.11, 0.4])
def test_following_sensors_waits_for_what_has_to_be_decoded_first(phase, decoding):
    controller, robot, clock = make(follow_sensors=True)

    def speak() -> None:
        since = math.fmod(clock() - 1000.0 + phase * PERIOD, PERIOD)  # since the newest message came
        decoded = since >= decoding * PERIOD
        age = since if decoded else since + PERIOD
        robot.ages = dict.fromkeys(robot.ages, age)
        robot.ready = clock() - (age - decoding * PERIOD)

    robot.on_observe = speak
    controller.run(max_ticks=80)
    ticks = controller.telemetry.ticks
    assert {t.reason for t in ticks} == {"ok"}
    assert all(t.oldest_s <= (decoding + 0.15) * PERIOD for t in ticks[-20:])


def test_the_controller_gives_the_action_before_and_none_after_a_stop():
    seen = []

    class Recording(Stream):
        def read(self, observation):
            seen.append(observation["previous_action"].tolist())
            return super().read({k: v for k, v in observation.items() if k != "previous_action"})

    spec = tiny_spec()
    clock = VirtualClock(1000.0)
    robot = ScriptedRobot(clock)
    controller = Controller(Recording(PACKAGE, "numpy"), robot, clock=clock, sleep=clock.sleep)
    controller._previous = PreviousAction({**spec.observation, "previous_action": spec.action}, spec.action)
    controller.tick()
    clock.sleep(PERIOD)
    controller.tick()
    sent = [what.tolist() for kind, _, what in robot.commands if kind == "send"]
    assert seen == [[0.0, 0.0], sent[0]]
    robot.connected = False
    clock.sleep(PERIOD)
    controller.tick()
    robot.connected = True
    clock.sleep(PERIOD)
    controller.tick()
    assert seen[-1] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("observed", "action", "none"),
    [(DiscreteSpec(4), DiscreteSpec(3), 3), (MultiDiscreteSpec((3, 4)), MultiDiscreteSpec((2, 3)), [2, 3])],
)
def test_no_action_is_one_value_more_than_there_are(observed, action, none):
    assert np.array_equal(PreviousAction({"previous_action": observed}, action).value, none)
    with pytest.raises(UserError, match="does not fit the action"):
        PreviousAction({"previous_action": action}, action)
