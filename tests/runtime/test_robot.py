"""Robots: matching observation names, and environments as robots."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from runtime.onnx_models import tiny_artifact, tiny_spec

from mcsd_agent.errors import UserError
from mcsd_agent.runtime import Controller, EnvRobot, Stream, VirtualClock, check_robot_matches
from mcsd_agent.runtime.package import parse_package
from mcsd_agent.spaces import SINGLE


class TinyEnv(gymnasium.Env[Any, Any]):
    """Observations of the tiny artifact; position[0] is the number of steps, and 7 steps are an episode."""

    action_space = gymnasium.spaces.Box(np.float32([-1, -2]), np.float32([1, 2]))

    def __init__(self) -> None:
        self.actions: list[np.ndarray] = []

    def _observation(self) -> dict[str, Any]:
        one = np.ones(1, np.float32)
        position = np.float32([len(self.actions), 0])
        return {"position": position, "action_root": one, "state_root": one, "instruction": "go"}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.actions = []
        return self._observation(), {"seed": seed, "options": options}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert len(self.actions) < 7, "stepped after the end"
        self.actions.append(np.asarray(action))
        return self._observation(), 0.5, len(self.actions) == 7, False, {"is_success": True}


def make(**arguments: Any) -> tuple[Controller, EnvRobot]:
    clock = VirtualClock()
    robot = EnvRobot(TinyEnv(), clock=clock, **arguments)
    stream = Stream(parse_package(tiny_artifact(), "tiny"), "numpy")
    return Controller(stream, robot, clock=clock, sleep=clock.sleep), robot


def test_names_of_another_robot_are_refused() -> None:
    check_robot_matches(tiny_spec(), ["position", "action_root", "state_root", "instruction", "camera"])
    with pytest.raises(UserError) as error:
        check_robot_matches(tiny_spec(), ["action_root", "state_root", "instruction", "positions"])
    assert "for other observation names" in str(error.value)
    assert "no 'position'; did you mean 'positions'" in str(error.value)


def test_environment_is_stepped_once_per_tick_until_the_episode_ends() -> None:
    controller, robot = make()
    assert robot.reset(seed=3, options={"a": 1}) == {"seed": 3, "options": {"a": 1}}
    controller.run(robot.finished)
    assert robot.steps == len(robot.env.actions) == len(controller.telemetry.ticks) == 7
    assert controller.telemetry.summary()["reasons"] == {"ok": 7}
    assert (robot.total_reward, robot.terminated, robot.truncated) == (3.5, True, False)
    assert robot.info == {"is_success": True}
    # clipped to the action space: positions 0, 1, 2, ... were asked
    assert [a[0] for a in robot.env.actions] == pytest.approx([0.02, 1, 1, 1, 1, 1, 1])


def test_stop_steps_with_the_stop_action() -> None:
    controller, robot = make()
    robot.reset()
    controller.hold()
    controller.run(max_ticks=3)
    assert [a.tolist() for a in robot.env.actions] == [[0, 0]] * 3


def test_nothing_moves_before_the_first_and_after_the_last_step() -> None:
    controller, robot = make()
    assert controller.tick().reason == "disconnected"
    robot.reset()
    controller.run(robot.finished)
    assert controller.tick().reason == "disconnected"
    assert robot.steps == 7


def test_next_episode_starts_afresh() -> None:
    controller, robot = make()
    for _ in range(2):
        robot.reset()
        controller.reset_memory()
        controller.run(robot.finished)
        assert robot.steps == 7
        assert controller.state[0, 0] == 7


def test_single_observation_gets_the_name_of_single_observations() -> None:
    env = gymnasium.make("CartPole-v1")
    robot = EnvRobot(env, stop_action=0)
    robot.reset(seed=0)
    assert set(robot.observe().values) == set(robot.observe().stamps) == {SINGLE}


def test_actions_without_a_rest_need_a_stop_action() -> None:
    with pytest.raises(UserError, match="Discrete has no natural way to stand still; give stop_action"):
        EnvRobot(gymnasium.make("CartPole-v1"))
