"""A robot as a Gymnasium environment: real-time steps, reasons to end, and a robot that is always told to stop."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import yaml
from conftest import ROBOT, ROOT, Start
from fake_robot import RATE_HZ, FakeRobot, robot_config
from fake_robot import ROBOT as ROBOT_DATA
from fake_server import FakeServer, eventually
from gymnasium.utils.env_checker import check_env

import envs  # noqa: F401  (registers the environment)
from mcsd_agent.errors import UserError
from ros_bridge.connection import Connection
from ros_bridge.robot_config import EmergencyStopConfig, RobotConfig, load_robot
from ros_bridge.ros_env import RosEnv, RosStep
from ros_bridge.server import RosbridgeServer

PERIOD_S = 1 / RATE_HZ
GO = np.float32([0.3, 0.4])
MakeEnv = Callable[..., RosEnv]


@pytest.fixture
def robot(fake_server: FakeServer) -> Iterator[FakeRobot]:
    with FakeRobot(fake_server) as robot:
        yield robot


@pytest.fixture
def make(robot: FakeRobot) -> Iterator[MakeEnv]:
    made: list[RosEnv] = []

    def make_env(config: Any = None, **arguments: Any) -> RosEnv:
        # Unless a test is about lateness, no load of this machine may end an episode.
        options = {"url": robot.server.url, "wait_s": 10.0, "on_late": "go_on"} | arguments
        made.append(RosEnv(config or patient_robot(), **options))
        return made[-1]

    yield make_env
    for env in made:
        env.close()


def patient_robot(**changes: Any) -> RobotConfig:
    """The robot, with an observation that may be old: a busy machine sends it late."""
    joint = dict(ROBOT_DATA["observations"]["joint"], max_age_s=0.5)
    return robot_config(observations={"joint": joint}, **changes)


def stopped(robot: FakeRobot) -> Callable[[], bool]:
    return lambda: bool(robot.commands()) and robot.commands()[-1] == (0.0, 0.0)


def test_nothing_is_connected_before_the_first_reset():
    env = gymnasium.make("mcsd/Ros-v0", robot=robot_config(), url="ws://127.0.0.1:1")
    assert env.metadata["render_fps"] == RATE_HZ
    assert env.action_space.high.tolist() == [0.5, 1.0]
    env.close()


def test_steps_keep_the_robots_rate_and_the_action_arrives_within_its_bounds(make, robot):
    env = make(reset_service="/reset")
    observation, info = env.reset(seed=1)
    assert robot.resets == 1
    assert info["reason"] == "ok"
    began, seen = time.monotonic(), [observation["joint"][0]]
    for _ in range(20):
        observation, reward, terminated, truncated, info = env.step(np.float32([9.0, 0.4]))
        assert (reward, terminated, truncated, info["reason"]) == (0.0, False, False, "ok")
        assert info["action_sent"].tolist() == pytest.approx([0.5, 0.4])
        seen.append(observation["joint"][0])
    # Never two steps in a period, and a message for each: whatever else this machine has to do.
    assert time.monotonic() - began >= 19 * PERIOD_S
    assert all(b >= a for a, b in pairwise(seen))
    assert seen[-1] > seen[0] + 12
    assert (0.5, pytest.approx(0.4)) in robot.commands()
    env.close()
    env.close()
    assert eventually(stopped(robot))
    assert not [t for t in threading.enumerate() if t.name.startswith("gymnasium")]


@pytest.mark.parametrize(("scale", "slew"), [(1.0, 2.0), (0.5, 1.0)])
def test_slew_limit_of_the_robot_starts_from_rest_in_every_episode(make, scale, slew):
    env = make(patient_robot(action={"scale": [scale, scale], "slew_per_s": [slew, slew]}))

    def episode() -> bool:
        """Whether it is one without a late step, after which the limit counts from rest as well."""
        env.reset()
        infos = [env.step(GO)[4] for _ in range(3)]
        assert infos[0]["action_sent"].tolist() == pytest.approx([0.1, 0.1])
        if any(info["late_s"] >= PERIOD_S for info in infos[1:]):
            return False
        assert infos[2]["action_sent"].tolist() == pytest.approx([0.3, 0.3])
        return True

    assert eventually(episode)
    assert eventually(episode)


def test_silent_sensor_ends_the_episode_with_its_name_and_a_stop(make, robot):
    env = make()
    env.reset()
    env.step(GO)
    robot.speaking = False
    for _ in range(20):
        observation, _, terminated, truncated, info = env.step(GO)
        if truncated:
            break
    assert info["reason"] == "stale:joint"
    assert not terminated
    assert observation in env.observation_space
    assert eventually(stopped(robot))
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(GO)
    env._wait_s = 0.3
    with pytest.raises(UserError, match=r"no usable message on /joint_states after 0\.3 s: stale:joint"):
        env.reset()
    robot.speaking = True
    assert env.reset()[1]["reason"] == "ok"


def test_lost_link_ends_the_episode_and_the_next_begins_when_it_is_back(make, robot):
    env = make(reset_service="/reset")
    env.reset()
    robot.speaking = False
    robot.server.drop()
    reasons = {env.step(GO)[4]["reason"]}
    assert reasons <= {"ok", "disconnected"}
    if reasons == {"ok"}:
        assert eventually(lambda: env.step(GO)[4]["reason"] == "disconnected")
    robot.server.listen()
    robot.speaking = True
    env.reset()
    assert env.step(GO)[4]["reason"] == "ok"
    assert robot.resets == 2


@pytest.mark.parametrize("on_late", ["truncate", "go_on"])
def test_robot_is_stopped_while_nobody_steps(make, robot, on_late):
    env = make(on_late=on_late)
    env.reset()
    env.step(GO)
    assert eventually(stopped(robot))
    truncated, info = env.step(GO)[3:]
    assert info["late_s"] > PERIOD_S
    if on_late == "truncate":
        assert (truncated, info["reason"]) == (True, "late")
        assert info["action_sent"].tolist() == [0.0, 0.0]
    else:
        assert (truncated, info["reason"]) == (False, "ok")
        assert info["action_sent"].tolist() == pytest.approx(GO.tolist())


def test_nan_action_stops_the_robot_and_another_shape_is_refused(make, robot):
    env = make()
    env.reset()
    truncated, info = env.step(np.float32([math.nan, 0.0]))[3:]
    assert (truncated, info["reason"]) == (True, "nan_action")
    env.reset()
    env.step(GO)
    with pytest.raises(ValueError, match="must have shape"):
        env.step(np.float32([0.1]))
    assert eventually(stopped(robot))


def test_hooks_see_the_step_and_end_the_episode(make, robot):
    steps: list[RosStep] = []

    def reward(step: RosStep) -> float:
        steps.append(step)
        return float(step.action[0])

    def termination(step: RosStep) -> bool:
        step.info["is_success"] = step.steps == 3
        return step.steps == 3

    joints = ["/joint_states", "sensor_msgs/msg/JointState"]
    env = make(reward=reward, termination=termination, topics={"joints": joints})
    env.reset()
    results = [env.step(GO) for _ in range(3)]
    assert [r[1] for r in results] == pytest.approx([0.3] * 3)
    assert [r[2] for r in results] == [False, False, True]
    assert results[-1][4]["is_success"]
    assert steps[1].observation["joint"] == steps[0].next_observation["joint"]
    assert steps[-1].messages["joints"].name == ["a"]
    assert eventually(stopped(robot))


def test_failing_hook_stops_the_robot(make, robot):
    env = make(reward=lambda step: 1 / 0)
    env.reset()
    with pytest.raises(ZeroDivisionError):
        env.step(GO)
    assert eventually(stopped(robot))


def test_longest_episode_is_a_time_limit(make):
    env = make(max_steps=2)
    env.reset()
    assert env.step(GO)[3:][0] is False
    truncated, info = env.step(GO)[3:]
    assert (truncated, info["reason"]) == (True, "time_limit")


def test_emergency_stop_and_missing_heartbeat_end_the_episode(make, robot):
    env = make(patient_robot(emergency_stop={"topic": "/stop"}, heartbeat={"topic": "/beat", "max_silence_s": 0.5}))
    beating, done = threading.Event(), threading.Event()

    def beat():
        while not done.wait(0.02):
            if beating.is_set():
                robot.server.send({"op": "publish", "topic": "/beat", "msg": {}})

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        beating.set()
        env.reset()
        beating.clear()
        assert eventually(lambda: env.step(GO)[4]["reason"] == "heartbeat")
        beating.set()
        env.reset()
        robot.server.send({"op": "publish", "topic": "/stop", "msg": {"data": True}})
        assert eventually(lambda: env.step(GO)[4]["reason"] == "emergency_stop")
        assert eventually(stopped(robot))
        robot.server.send({"op": "publish", "topic": "/stop", "msg": {"data": False}})
        env.reset()
        assert env.step(GO)[4]["action_sent"].tolist() == pytest.approx(GO.tolist())
    finally:
        done.set()
        thread.join()


def test_a_short_press_of_the_emergency_stop_ends_the_episode_as_well(make, robot):
    env = make(patient_robot(emergency_stop={"topic": "/stop"}))
    env.reset()
    env.step(GO)
    for is_pressed in (True, False):
        robot.server.send({"op": "publish", "topic": "/stop", "msg": {"data": is_pressed}})
    assert eventually(lambda: env._link.robot.is_halted and not env._link.emergency)
    truncated, info = env.step(GO)[3:]
    assert (truncated, info["reason"], info["action_sent"].tolist()) == (True, "emergency_stop", [0.0, 0.0])
    assert env.reset()[1]["reason"] == "ok"
    assert env.step(GO)[4]["action_sent"].tolist() == pytest.approx(GO.tolist())


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"rate_hz": 60.0}, "at most the robot's 20"),
        ({"max_steps": 0}, "max_steps=0"),
        ({"reward": "nowhere:reward"}, "cannot be imported"),
        ({"termination": "math"}, "module:function"),
        ({"topics": {"state": "/state"}}, r"topics\.state"),
        ({"instructions": ["go"]}, "no instruction topic"),
        ({"reset_node": "/sim"}, "reset_service"),
        ({"on_late": "wait"}, "on_late"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments, part):
    with pytest.raises(UserError, match=part) as caught:
        RosEnv(robot_config(), **arguments)
    assert "\n" not in str(caught.value)


def test_every_argument_is_documented_and_the_task_that_comes_along_is_valid():
    page = (ROOT / "docs/recording.md").read_text()
    names = set(inspect.signature(RosEnv).parameters) - {"render_mode"}
    assert [name for name in names if f"`{name}`" not in page] == []
    env = RosEnv(**yaml.safe_load((ROOT / "configs/sim_task.yaml").read_text()))
    assert set(env.observation_space.spaces) == {"ranges", "labels", "wheel_velocities", "instruction"}


@pytest.mark.thorough
def test_simulated_robot_passes_gymnasiums_checker_and_returns_to_a_seed(own_server: RosbridgeServer, start: Start):
    start("-m", "ros_bridge.sim_robot", "--robot", ROBOT, env=own_server.node_environment())
    env = gymnasium.make(
        "mcsd/Ros-v0",
        robot=str(ROBOT),
        url=own_server.url,
        reset_service="/sim/reset",
        reset_node="/sim_robot",
        reward="ros_bridge.sim_hooks:reward",
        termination="ros_bridge.sim_hooks:termination",
        topics={"state": ["/sim/state", "std_msgs/msg/String"]},
        instructions=["go to the red ball", "face the blue box"],
        wait_s=20.0,
        disable_env_checker=True,
    )
    try:
        first, info = env.reset(seed=3)
        other, _ = env.reset(seed=4)
        again, same = env.reset(seed=3)
        np.testing.assert_allclose(first["ranges"], again["ranges"], atol=1e-2)
        assert np.abs(first["ranges"] - other["ranges"]).max() > 0.1
        assert info["instruction"] == same["instruction"] == again["instruction"]
        results = [env.step(np.float32([0.0, 1.0])) for _ in range(8)]
        assert all(r[4]["reason"] == "ok" for r in results)
        # The robot turned: its wheels went against each other, and the referee watched.
        left, right = results[-1][0]["wheel_velocities"]
        assert left < 0 < right
        assert results[-1][4]["is_success"] is False
        assert results[-1][1] == pytest.approx(-0.002)
        check_env(env.unwrapped)
    finally:
        env.close()


def test_pressed_emergency_stop_holds_a_real_robot_still_and_no_reset_moves_it(
    own_server: RosbridgeServer, start: Start, tmp_path: Path
):
    log = tmp_path / "robot.jsonl"
    start("-m", "ros_bridge.sim_robot", "--robot", ROBOT, "--log", log, env=own_server.node_environment())
    config = dataclasses.replace(load_robot(ROBOT), emergency_stop=EmergencyStopConfig("/emergency_stop"))
    env = RosEnv(
        config, url=own_server.url, reset_service="/sim/reset", instructions=["go to the red ball"], wait_s=20.0,
        on_late="go_on", topics={"state": ["/sim/state", "std_msgs/msg/String"]},
    )  # fmt: skip

    def commands() -> list[dict[str, Any]]:
        entries = [json.loads(line) for line in log.read_text().splitlines()]
        return [entry for entry in entries if entry["kind"] == "command"]

    def arena() -> Any:
        return json.loads(env._messages["state"].data)["objects"]

    with contextlib.closing(Connection(own_server.url)) as button, contextlib.closing(env):
        button.wait_connected()
        button.advertise("/emergency_stop", "std_msgs/msg/Bool")
        env.reset(seed=3)
        env.step(np.float32([0.2, 1.0]))
        assert eventually(lambda: commands()[-1]["angular"] == pytest.approx(1.0))

        def pressed() -> bool:
            button.publish("/emergency_stop", {"data": True})
            return env._link.emergency

        assert eventually(pressed)
        at, before = time.monotonic(), arena()
        truncated, info = env.step(np.float32([0.2, 1.0]))[3:]
        assert (truncated, info["reason"]) == (True, "emergency_stop")
        assert info["action_sent"].tolist() == [0.0, 0.0]
        env._wait_s = 0.5
        with pytest.raises(UserError, match=r"emergency stop is pressed after 0\.5 s; release it: .* /emergency_stop"):
            env.reset()
        # The robot heard stops and nothing else, and was not reset.
        assert eventually(lambda: any(c["t"] > at for c in commands()))
        assert {(c["linear"], c["angular"]) for c in commands() if c["t"] > at} == {(0.0, 0.0)}
        assert arena() == before
        env._wait_s = 20.0
        button.publish("/emergency_stop", {"data": False})
        assert env.reset()[1]["reason"] == "ok"
        assert env.step(np.float32([0.2, 1.0]))[4]["reason"] == "ok"


@pytest.mark.slow
def test_the_same_on_native_rclpy(own_server: RosbridgeServer, start: Start):
    start("-m", "ros_bridge.sim_robot", "--robot", ROBOT, env=own_server.node_environment())
    native = start(ROOT / "tests/ros/native_env.py", ROBOT, env=own_server.node_environment())
    assert native.stdout is not None
    result = json.loads(native.stdout.readline())
    assert result == {"reasons": ["ok"] * 6, "fits": True, "rclpy": True}
    assert native.wait(10) == 0
