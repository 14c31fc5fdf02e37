"""The controller's modes: every change on record, with the time, where from, where to and why."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.controlled import PERIOD, make, reasons, steps

#: What may happen between two ticks.
EVENTS = ["nothing", "disconnect", "reconnect", "hold", "enable", "break", "reset", "stale", "fresh"]


def happen(event, controller, robot):
    {
        "nothing": lambda: None,
        "disconnect": lambda: setattr(robot, "connected", False),
        "reconnect": lambda: setattr(robot, "connected", True),
        "hold": controller.hold,
        "enable": controller.enable,
        "break": lambda: robot.values.update(action_root=np.float32([-1])),
        "reset": lambda: (controller.reset_memory(), robot.values.update(action_root=np.float32([1]))),
        "stale": lambda: robot.ages.update(position=9.0),
        "fresh": lambda: robot.ages.update(position=0.0),
    }[event]()


def log(controller):
    return [(t.before, t.after, t.reason) for t in controller.telemetry.transitions]


def test_a_day_of_a_robot():
    controller, robot, clock = make()
    assert controller.mode == "inactive"
    robot.connected = False
    reasons(controller, clock, 2)
    robot.connected = True
    reasons(controller, clock, 2)
    robot.ages["position"] = 9.0
    reasons(controller, clock, 2)
    robot.ages["position"] = 0.0
    reasons(controller, clock, 1)
    controller.hold()
    reasons(controller, clock, 1)
    controller.enable()
    reasons(controller, clock, 1)
    robot.values["state_root"] = np.float32([-1])
    reasons(controller, clock, 2)
    controller.reset_memory()
    robot.values["state_root"] = np.float32([1])
    reasons(controller, clock, 1)
    assert log(controller) == [
        ("inactive", "ready", "start"),
        ("ready", "running", "ok"),
        ("running", "stopped", "stale:position"),
        ("stopped", "running", "ok"),
        ("running", "holding", "held"),
        ("holding", "running", "ok"),
        ("running", "faulted", "nan_state"),
        ("faulted", "ready", "reset_memory"),
        ("ready", "running", "ok"),
    ]


def test_loop_begins_and_ends_inactive():
    controller, _, _ = make()
    controller.run(max_ticks=3)
    assert controller.mode == "inactive"
    assert log(controller) == [
        ("inactive", "ready", "start"),
        ("ready", "running", "ok"),
        ("running", "inactive", "shutdown"),
    ]


@given(st.lists(st.sampled_from(EVENTS), min_size=1, max_size=40))
def test_transitions_are_a_chain_that_explains_every_ticks_mode(script):
    controller, robot, clock = make()
    for event in script:
        clock.sleep(PERIOD)
        happen(event, controller, robot)
        tick = controller.tick()
        expected = {"ok": "running", "held": "holding"}.get(tick.reason)
        if expected is None:
            expected = "faulted" if controller.faulted else tick.mode
            assert expected in ("ready", "stopped", "faulted")
        assert tick.mode == controller.mode == expected
    transitions = controller.telemetry.transitions
    assert transitions[0].before == "inactive"
    assert all(a.after == b.before and a.time <= b.time for a, b in itertools.pairwise(transitions))
    assert all(t.before != t.after and t.reason for t in transitions)
    assert transitions[-1].after == controller.mode
    assert controller.telemetry.summary()["transitions"] == len(transitions)
    assert controller.telemetry.summary()["mode"] == controller.mode


@pytest.mark.parametrize(("on_resume", "expected"), [("keep", 3), ("reset", 1)])
def test_memory_after_a_hold_is_as_configured(on_resume, expected):
    controller, _, clock = make(on_resume=on_resume)
    reasons(controller, clock, 2)
    controller.hold()
    reasons(controller, clock, 2)
    controller.hold()  # twice is once
    assert steps(controller) == 2
    controller.enable()
    reasons(controller, clock, 1)
    assert steps(controller) == expected


@pytest.mark.parametrize("on_resume", ["keep", "reset"])
def test_instructions_and_enabling_what_was_not_held_do_not_touch_the_memory(on_resume):
    controller, robot, clock = make(on_resume=on_resume)
    for count, text in enumerate(["", "go", "go go", "", "go"], 1):
        robot.values["instruction"] = text
        controller.enable()
        reasons(controller, clock, 1)
        assert steps(controller) == count


def test_reset_on_resume_does_not_clear_a_fault():
    controller, robot, clock = make(on_resume="reset")
    robot.values["action_root"] = np.float32([-1])
    reasons(controller, clock, 1)
    robot.values["action_root"] = np.float32([1])
    controller.hold()
    reasons(controller, clock, 1)
    controller.enable()
    assert reasons(controller, clock, 1) == ["faulted:nan_action"]


@pytest.mark.parametrize(("on_resume", "expected"), [("keep", 3), ("reset", 1)])
def test_emergency_stop_comes_before_every_other_reason_and_only_its_end_ends_it(on_resume, expected):
    controller, robot, clock = make(on_resume=on_resume)
    reasons(controller, clock, 2)
    controller.emergency_stop()
    for disturb in (
        lambda: None,
        controller.hold,
        controller.enable,
        lambda: clock.sleep(3 * PERIOD),  # late
        lambda: setattr(robot, "connected", False),
    ):
        assert reasons(controller, clock, 1, disturb) == ["emergency_stop"]
        assert controller.mode == "stopped"
    robot.connected = True
    controller.end_emergency_stop()
    assert reasons(controller, clock, 1) == ["ok"]
    assert steps(controller) == expected
