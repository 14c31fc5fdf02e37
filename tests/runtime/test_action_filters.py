"""Action filters: whatever policy and hook ask for, what is sent stays within bounds and slew."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.controlled import PERIOD, make, reasons

from mcsd_agent.errors import UserError
from mcsd_agent.runtime.action_filters import ActionFilters, HookError
from mcsd_agent.spaces import BoxSpec, DiscreteSpec, MultiDiscreteSpec

LOW, HIGH = np.float32([-1, -2]), np.float32([1, 2])
numbers = st.floats(-1e6, 1e6, width=32)
pairs = st.tuples(numbers, numbers)


@given(
    st.lists(st.tuples(pairs, pairs), min_size=1, max_size=30),
    st.sampled_from([None, (0.5,), (3.0, 40.0)]),
    st.sampled_from([None, 0.01, 0.5]),
)
def test_what_is_sent_stays_within_bounds_and_slew_with_any_low_pass_and_hook(script, slew, low_pass):
    wishes = iter([hook for _, hook in script])
    controller, robot, clock = make(
        slew_per_s=slew, low_pass_s=low_pass, action_hook=lambda action, seen: np.float32(next(wishes))
    )
    largest = np.inf if slew is None else np.asarray(slew) * PERIOD
    last = np.zeros(2)
    for asked, _ in script:
        robot.values["position"] = np.float32(asked)
        assert reasons(controller, clock, 1) == ["ok"]
        sent = controller.telemetry.last.action_sent
        assert ((sent >= LOW) & (sent <= HIGH)).all()
        assert (np.abs(sent - last) <= largest + 1e-6).all()
        last = sent


def test_low_pass_reaches_63_percent_in_its_time_constant_and_starts_from_rest_after_a_stop():
    controller, robot, clock = make(low_pass_s=10 * PERIOD)
    robot.values["position"] = np.float32([1, 2])  # a step from rest; the memory adds a little, which is clipped
    for _ in range(2):
        reasons(controller, clock, 10)
        share = 1 - math.exp(-1)
        np.testing.assert_allclose(controller.telemetry.last.action_sent, [share, 2 * share], rtol=1e-5)
        controller.hold()
        reasons(controller, clock, 1)
        controller.enable()


def test_hook_sees_a_copy_of_the_filtered_action_and_the_observation():
    seen = []

    def hook(action, observation):
        seen.append((action.copy(), observation["instruction"], sorted(observation)))
        action[:] = 99  # its own copy
        return np.float32([0.5, 0.5])

    controller, robot, clock = make(action_hook=hook)
    robot.values.update(position=np.float32([7, 0]), instruction="go")
    assert reasons(controller, clock, 1) == ["ok"]
    assert seen[0][0][0] == 1  # within bounds
    assert seen[0][1:] == ("go", ["action_root", "instruction", "position", "state_root"])
    assert robot.last[1].tolist() == [0.5, 0.5]
    assert controller.telemetry.last.action_asked[0] == pytest.approx(7.02)


@pytest.mark.parametrize("result", [None, "fast", np.zeros(3), [np.nan, 0], [[1], [1, 2]], 1.0])
def test_hook_that_returns_no_action_stops_the_robot_until_it_does(result):
    answers = [result]
    controller, robot, clock = make(action_hook=lambda action, seen: answers.pop() if answers else action)
    clock.sleep(PERIOD)
    tick = controller.tick()
    assert tick.reason == "hook_error"
    assert "must be numbers of shape (2,)" in tick.detail
    assert robot.last == ("stop", "hook_error")
    assert reasons(controller, clock, 1) == ["ok"]


def test_hook_that_raises_stops_the_robot_with_its_message():
    controller, _, clock = make(action_hook=lambda action, seen: 1 / 0)
    clock.sleep(PERIOD)
    tick = controller.tick()
    assert (tick.reason, tick.detail, tick.action_sent) == ("hook_error", "ZeroDivisionError: division by zero", None)
    assert controller.faulted is None


@pytest.mark.parametrize(
    ("action", "good", "bad"),
    [(DiscreteSpec(3), 2, 3), (DiscreteSpec(3), 0, -1), (MultiDiscreteSpec((2, 3)), [1, 2], [2, 0])],
)
def test_discrete_hooks_choose_among_the_actions(action, good, bad):
    asked = np.zeros(action.shape, np.int64)
    assert np.array_equal(ActionFilters(action, 0.1, hook=lambda a, o: good).apply(asked, None, {}), good)
    for wrong in (bad, np.float32(good)):
        with pytest.raises(HookError):
            ActionFilters(action, 0.1, hook=lambda a, o, wrong=wrong: wrong).apply(asked, None, {})


def test_low_pass_of_discrete_actions_is_refused():
    with pytest.raises(UserError, match=r"low_pass_s=0.1 needs a Box action"):
        ActionFilters(DiscreteSpec(3), 0.1, low_pass_s=0.1)


def test_bounds_have_the_last_word_over_the_low_pass_where_rest_is_outside_them():
    filters = ActionFilters(BoxSpec((1,), low=(0.5,), high=(1.0,)), 0.1, low_pass_s=1.0)
    assert filters.apply(np.float32([1]), filters.at_rest(), {}).tolist() == [0.5]
