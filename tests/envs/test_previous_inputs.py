from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from envs.previous_inputs import ACTION, REWARD, PreviousInputs


class Echo(gymnasium.Env):
    """The observation and the reward are the number of the step."""

    observation_space = spaces.Box(0.0, np.inf, (1,), np.float32)

    def __init__(self, action_space: spaces.Space) -> None:
        self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.tick = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.tick += 1
        return np.full(1, self.tick, np.float32), float(self.tick), False, False, {}


SPACES = {
    "Box": (spaces.Box(0.5, 2.0, (2,), np.float32), [0.0, 0.0]),
    "Discrete": (spaces.Discrete(3), 3),
    "MultiDiscrete": (spaces.MultiDiscrete([2, 4]), [2, 4]),
    "MultiBinary": (spaces.MultiBinary(3), [2, 2, 2]),
}


@pytest.mark.parametrize("name", SPACES)
def test_the_last_action_and_its_reward_are_seen_and_none_before_the_first(name):
    space, none = SPACES[name]
    env = PreviousInputs(Echo(space))
    env.action_space.seed(0)
    for _ in range(2):
        observation, _ = env.reset(seed=0)
        assert env.observation_space.contains(observation)
        assert np.array_equal(observation[ACTION], none)
        assert observation[REWARD] == 0.0
        for tick in (1, 2, 3):
            action = env.action_space.sample()
            observation, *_ = env.step(action)
            assert env.observation_space.contains(observation)
            assert np.array_equal(observation[ACTION], action)
            assert observation[REWARD] == tick
            assert observation["observation"] == tick


@pytest.mark.parametrize("only", ["action", "reward"])
def test_either_may_be_left_out(only):
    env = PreviousInputs(Echo(spaces.Discrete(2)), action=only == "action", reward=only == "reward")
    assert set(env.observation_space) == {"observation", ACTION if only == "action" else REWARD}
    assert set(env.reset()[0]) == set(env.observation_space)


def test_wrapped_environments_keep_the_rules_of_gymnasium():
    check_env(PreviousInputs(gymnasium.make("CartPole-v1", disable_env_checker=True)), skip_render_check=True)


def test_a_second_entry_of_the_same_name_is_refused():
    with pytest.raises(ValueError, match="has an entry 'previous_action' already"):
        PreviousInputs(PreviousInputs(Echo(spaces.Discrete(2))))
