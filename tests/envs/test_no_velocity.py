"""Classic control without velocities."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs  # noqa: F401  (registers the ids)
from envs.wrappers import HideVelocity

PAIRS = [
    ("mcsd/CartPoleNoVel-v1", "CartPole-v1", (0, 2)),
    ("mcsd/PendulumNoVel-v1", "Pendulum-v1", (0, 1)),
    ("mcsd/MountainCarContinuousNoVel-v0", "MountainCarContinuous-v0", (0,)),
]


@pytest.mark.parametrize(("env_id", "original_id", "keep"), PAIRS)
def test_shows_the_positions_of_the_original_and_nothing_else(env_id, original_id, keep):
    env, original = gymnasium.make(env_id), gymnasium.make(original_id)
    assert env.spec.max_episode_steps == original.spec.max_episode_steps
    hidden, shown = env.reset(seed=3)[0], original.reset(seed=3)[0]
    original.action_space.seed(0)
    for _ in range(20):
        np.testing.assert_array_equal(hidden, shown[list(keep)])
        assert hidden in env.observation_space
        action = original.action_space.sample()
        step, other = env.step(action), original.step(action)
        assert step[1:4] == other[1:4]
        hidden, shown = step[0], other[0]
        if other[2]:
            break


def warnings_of(env):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(env, skip_render_check=True)
    # wrapped environments are always told that they are wrapped
    return {str(w.message) for w in caught if "different from the unwrapped version" not in str(w.message)}


@pytest.mark.parametrize(("env_id", "original_id", "keep"), PAIRS)
def test_checker_warns_of_nothing_that_the_original_does_not_have(env_id, original_id, keep):
    assert warnings_of(gymnasium.make(env_id)) <= warnings_of(gymnasium.make(original_id))


@pytest.mark.parametrize("keep", [(), (4,), (-1,)])
def test_entries_that_do_not_exist_are_refused(keep):
    with pytest.raises(ValueError, match="keep="):
        HideVelocity(gymnasium.make("CartPole-v1"), keep=keep)
