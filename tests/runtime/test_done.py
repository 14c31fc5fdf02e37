"""When an instruction counts as carried out: the estimate of success, how long it lasts, and what begins anew."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from runtime.onnx_models import judging_artifact, tiny_spec, tiny_step
from runtime.scripted_robot import ScriptedRobot
from safetensors.numpy import save

from mcsd_agent.errors import UserError
from mcsd_agent.runtime import Controller, ControllerConfig, Stream, VirtualClock
from mcsd_agent.runtime.done import Completion, DoneWatch, ticks_of
from mcsd_agent.runtime.package import Package, build, parse_package
from mcsd_agent.spaces import BoxSpec

NAN = math.nan


def judging_package(**changes: Any) -> Package:
    return parse_package(judging_artifact(**changes), "judging")


@pytest.mark.parametrize(
    ("seconds", "rate_hz", "ticks"), [(0.3, 10.0, 3), (0.3, 50.0, 15), (0.01, 10.0, 1), (0.31, 10, 4)]
)
def test_a_time_is_a_number_of_ticks(seconds, rate_hz, ticks):
    assert ticks_of(seconds, rate_hz) == ticks


def test_it_takes_ticks_in_a_row_and_a_gap_begins_anew():
    watch = DoneWatch(0.5, 3)
    assert [watch.check(s) for s in (0.9, 0.5, 0.49, 0.6, 0.6, 0.6, 0.9)] == [False] * 5 + [True, True]
    assert not watch.check(NAN)
    assert [watch.check(0.9) for _ in range(3)] == [False, False, True]


def test_what_is_given_anew_is_not_done_yet_even_in_the_same_words():
    known = Completion(DoneWatch(0.5, 2))
    for _ in range(2):
        known.judge(known.given, "go left", 0.9)
    assert known.done
    assert known.success == 0.9
    # A tick that had looked at the robot before does not count for it.
    before = known.given
    known.new_instruction()
    assert not known.done
    assert math.isnan(known.success)
    known.judge(before, "go left", 0.9)
    assert not known.done
    known.judge(known.given, "go left", 0.9)
    assert not known.done
    known.judge(known.given, "go left", 0.9)
    assert known.done


def test_other_words_begin_anew_and_silence_does_not():
    known = Completion(DoneWatch(0.5, 2))
    for text, done in (("left", False), ("", True), ("left", True), ("right", False), ("right", True)):
        known.judge(known.given, text, 0.9)
        assert known.done == done, text


@pytest.fixture
def driven() -> tuple[Controller, ScriptedRobot, VirtualClock]:
    clock = VirtualClock(1000.0)
    robot = ScriptedRobot(clock)
    robot.values["instruction"] = "go left"
    config = ControllerConfig(done_threshold=0.7, done_s=0.3)
    stream = Stream(judging_package(), "numpy")
    return Controller(stream, robot, config, clock=clock, sleep=clock.sleep), robot, clock


def test_controller_tells_when_its_instruction_is_carried_out(driven):
    controller, robot, clock = driven
    done = []
    for success in (0.1, 0.8, 0.8, 0.8, 0.6, 0.9, 0.9, 0.9):
        robot.values["position"] = np.float32([success, 0.0])
        clock.sleep(controller.period_s)
        tick = controller.tick()
        assert tick.success == pytest.approx(success)
        assert tick.to_json()["success"] == pytest.approx(success)
        assert controller.completion.success == tick.success
        done.append(controller.completion.done)
    assert done == [False] * 3 + [True] + [False] * 3 + [True]
    # Where the policy is not asked nobody knows.
    controller.hold()
    clock.sleep(controller.period_s)
    assert controller.tick().to_json()["success"] is None
    assert not controller.completion.done
    assert math.isnan(controller.completion.success)


@pytest.mark.parametrize("engine", ["numpy", "onnx"])
def test_a_step_with_success_is_the_step_and_the_estimate(engine):
    stream = Stream(judging_package(), engine)
    state = stream.initial_state()
    seen = {
        "position": np.float32([0.25, 0]),
        "action_root": np.ones(1, np.float32),
        "state_root": np.ones(1, np.float32),
    }
    seen |= {"instruction": "go"}
    action, success, after = stream.step_with_success(seen, state)
    assert (success.shape, success.dtype, float(success)) == ((), np.float32, 0.25)
    plain, also = stream.step(seen, state)
    np.testing.assert_array_equal(plain, action)
    np.testing.assert_array_equal(also, after)


def test_a_policy_that_does_not_predict_it_says_so(tmp_path):
    stream = Stream(
        parse_package(build(tiny_spec(), save({"w": np.ones((1, 1), np.float32)}), tiny_step()), "t"), "numpy"
    )
    assert not stream.predicts_success
    seen = {name: np.ones(s.shape, np.float32) for name, s in stream.spec.observation.items() if name != "instruction"}
    with pytest.raises(UserError, match="predict_success=true"):
        stream.step_with_success(seen | {"instruction": ""}, stream.initial_state())


def test_spec_and_step_agree_about_success_or_are_refused():
    weights = save({"w": np.ones((1, 1), np.float32)})
    with pytest.raises(UserError, match="outputs action, next_state and spec"):
        parse_package(build(judging_package().spec, weights, tiny_step()), "t")
    named = {**tiny_spec().observation, "success": BoxSpec((1,))}
    with pytest.raises(UserError, match="'success' is reserved"):
        judging_package(observation=named)
    with pytest.raises(UserError, match="predicts_success=1 must be true or false"):
        judging_package(predicts_success=1)
    with pytest.raises(UserError, match="unknown key 'predicts_success'"):
        judging_package(format_version=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"done_threshold": 0.0}, "done_threshold=0.0 must be above 0 and below 1"),
        ({"done_threshold": 1.0}, "done_threshold=1.0 must be above 0 and below 1"),
        ({"done_s": 0.0}, "done_s=0.0 must be a finite number above 0"),
    ],
)
def test_rules_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        ControllerConfig(**changes)
