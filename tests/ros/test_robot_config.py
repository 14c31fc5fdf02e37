"""The robot's YAML: what is accepted, what is refused and how, and whether an artifact fits a robot."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import yaml
from conftest import ROBOT

from mcsd_agent.errors import UserError
from mcsd_agent.runtime import ControllerConfig
from mcsd_agent.spaces import BoxSpec, DiscreteSpec, MultiDiscreteSpec, TextSpec
from ros_bridge.robot_config import check_fit, load_robot
from ros_bridge.robot_controller import controller_config

NAV = {
    "ranges": BoxSpec((31,), unit="m"),
    "labels": MultiDiscreteSpec((14,) * 31),
    "wheel_velocities": BoxSpec((2,), unit="rad/s"),
    "instruction": TextSpec(24),
}
TWIST = BoxSpec((2,), low=(0.0, -1.0), high=(0.6, 1.0))


@pytest.fixture
def data() -> dict[str, Any]:
    return copy.deepcopy(yaml.safe_load(ROBOT.read_text()))


def load(data: dict[str, Any], folder) -> Any:
    path = folder / "robot.yaml"
    path.write_text(yaml.safe_dump(data))
    return load_robot(path)


def test_the_nav_robot_fits_the_nav_policy():
    check_fit(NAV, TWIST, 10.0, load_robot(ROBOT))


def test_the_nav_robot_agrees_with_the_nav_world():
    from envs.nav import NavEnv

    env = NavEnv()
    robot = load_robot(ROBOT)
    scan = robot.observations["ranges"].scan
    assert env.observation_space["ranges"].shape == scan.shape
    assert float(env.observation_space["ranges"].high[0]) == scan.max_range_m
    assert robot.action.low == pytest.approx(env.action_space.low.tolist())
    assert robot.action.high == pytest.approx(env.action_space.high.tolist())


@pytest.mark.parametrize(
    ("path", "value", "part"),
    [
        (("observatons",), {}, "unknown key 'observatons'; did you mean 'observations'"),
        (("rate_hz",), 0, r"rate_hz is 0.0; it must be in \(0, 1000\]"),
        (("rate_hz",), "fast", "rate_hz: 'fast' must be of type float"),
        (("watchdog_s",), 0.01, "watchdog_s is 0.01; it must be at least one period"),
        (("heartbeat",), {"topic": "/alive", "max_silence_s": 0}, "max_silence_s is 0.0; it must be a finite number"),
        (("heartbeat",), {"topic": "alive", "max_silence_s": 1}, "topic 'alive' must be absolute"),
        (("safety",), {"max_state_growth": -1}, "max_state_growth is -1.0"),
        (("safety",), {"on_resume": "forget"}, "safety.on_resume: 'forget' is not valid"),
        (("observations", "ranges", "max_frozen_s"), 0, "max_frozen_s is 0.0"),
        (("observations", "ranges", "rate_hz"), 2, "max_age_s is 0.3; it must be at least the sensor's period, 0.5 s"),
        (("emergency_stop",), {"topic": "stop"}, "topic 'stop' must be absolute"),
        (("action", "low_pass_s"), -1, "low_pass_s is -1.0"),
        (("observations", "ranges", "topic"), "scan", "topic 'scan' must be absolute"),
        (("observations", "ranges", "max_age_s"), 0, "max_age_s is 0.0; it must be above 0"),
        (("observations", "ranges", "joints"), {"names": ["a"]}, "has 2 sources; give exactly one"),
        (("observations", "ranges", "scan", "rays"), 1, "scan.rays is 1; it must be at least 2"),
        (("observations", "ranges", "scan", "ray"), 31, "unknown key 'observations.ranges.scan.ray'; did you mean"),
        (("observations", "wheel_velocities", "joints", "quantity"), "speed", "'speed' is not valid"),
        (("instruction", "spoken_ticks"), 0, "spoken_ticks is 0; it must be at least 1, or null"),
        (("instruction", "done_threshold"), 1, "instruction.done_threshold is 1.0; it must be above 0 and below 1"),
        (("instruction", "done_s"), 0, "done_s is 0.0; it must be a finite number above 0"),
        (("instruction", "name"), "ranges", "both the instruction and an observation"),
        (("action", "fields"), ["linear.x", "angular.w"], "'angular.w' is no field of a Twist"),
        (("action", "fields"), ["linear.x", "linear.x"], "must be distinct fields"),
        (("action", "low"), [0.0], "action.low is .* it must be one value per field"),
        (("action", "low"), [0.1, -1.0], "0 must stop it"),
        (("action", "slew_per_s"), [1.0, 0.0], "action.slew_per_s is .* above 0"),
        (("observations", "ranges", "scan", "nan"), "free", "observations.ranges.scan.nan: 'free' is not valid"),
        (
            ("observations", "labels", "topic"),
            "/scan",
            "observations.ranges is sensor_msgs/msg/LaserScan on '/scan', where observations.labels is .*Image",
        ),
        (
            ("instruction", "topic"),
            "/scan",
            "instruction is .*String on '/scan', where .*ranges is .*LaserScan",
        ),
        (("emergency_stop",), {"topic": "/joint_states"}, "emergency_stop is std_msgs/msg/Bool on '/joint_states'"),
        (("heartbeat",), {"topic": "/instruction", "max_silence_s": 1}, "heartbeat is .*Empty on '/instruction'"),
        (("action", "topic"), "/scan", "action is geometry_msgs/msg/Twist on '/scan', where .*ranges is .*LaserScan"),
    ],
)
def test_bad_robot_is_one_line_with_file_key_and_constraint(data, tmp_path, path, value, part):
    node = data
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    with pytest.raises(UserError, match=part) as failure:
        load(data, tmp_path)
    assert "robot.yaml" in str(failure.value)
    assert "\n" not in str(failure.value)


def test_observations_of_one_type_may_share_a_topic(data, tmp_path):
    data["observations"]["wheel_positions"] = copy.deepcopy(data["observations"]["wheel_velocities"])
    data["observations"]["wheel_positions"]["joints"]["quantity"] = "position"
    config = load(data, tmp_path)
    sharing = {key for key, topic, _ in config.topics() if topic == "/joint_states"}
    assert sharing == {"observations.wheel_velocities", "observations.wheel_positions"}


def test_the_guards_time_has_a_topic_of_its_own(data, tmp_path):
    data["action"] |= {"message": "geometry_msgs/msg/TwistStamped", "time_topic": "/time"}
    assert load(data, tmp_path).action.time_topic == "/time"
    data["action"]["time_topic"] = "/scan"
    with pytest.raises(UserError, match=r"action\.time_topic is builtin_interfaces/msg/Time on '/scan'"):
        load(data, tmp_path)


def test_missing_robot_file_is_named():
    with pytest.raises(UserError, match=r"nowhere\.yaml"):
        load_robot("nowhere.yaml")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"ranges": None, "range": BoxSpec((31,))}, "other observation names: it needs 'range'.*did you mean 'ranges'"),
        ({"ranges": BoxSpec((30,))}, r"'ranges' is box of shape \(30,\) in the artifact.*shape \(31,\)"),
        ({"labels": BoxSpec((31,))}, "'labels' is box .* integers of shape"),
        ({"ranges": BoxSpec((31,), unit="cm")}, "'ranges' is in cm in the artifact but in m on the robot"),
        ({"instruction": BoxSpec((24,))}, "'instruction' is box in the artifact but words on the robot"),
    ],
)
def test_artifact_for_another_robot_is_refused(change, part):
    specs = {k: v for k, v in {**NAV, **change}.items() if v is not None}
    with pytest.raises(UserError, match=part):
        check_fit(specs, TWIST, 10.0, load_robot(ROBOT))


def test_policy_may_use_less_than_the_robot_offers():
    check_fit({"ranges": NAV["ranges"]}, TWIST, 5.0, load_robot(ROBOT))


@pytest.mark.parametrize("action", [BoxSpec((3,)), DiscreteSpec(4)])
def test_action_of_another_shape_is_refused(action):
    with pytest.raises(UserError, match="takes 2 numbers"):
        check_fit(NAV, action, 10.0, load_robot(ROBOT))


def test_policy_that_ticks_faster_than_the_robot_senses_is_refused():
    with pytest.raises(UserError, match="runs at 20 Hz but robot 'diffdrive' senses at 10 Hz"):
        check_fit(NAV, TWIST, 20.0, load_robot(ROBOT))


def test_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_robot(ROBOT).rate_hz = 5


def test_what_counts_as_done_reaches_the_controller(data, tmp_path):
    data["instruction"] |= {"done_threshold": 0.8, "done_s": 0.7}
    config = controller_config(load(data, tmp_path), NAV)
    assert (config.done_threshold, config.done_s) == (0.8, 0.7)
    del data["instruction"]
    plain = controller_config(load(data, tmp_path), NAV)
    assert (plain.done_threshold, plain.done_s) == (ControllerConfig().done_threshold, ControllerConfig().done_s)
