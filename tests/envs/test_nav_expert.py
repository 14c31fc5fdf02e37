"""The scripted expert: how often it succeeds, and that observations are all it uses."""

import copy

import gymnasium
import numpy as np
import pytest

import envs
from envs.nav import NavEnv
from envs.nav_expert import NavExpert
from envs.nav_world import MAX_ANGULAR, MAX_LINEAR

KEYS = ("ranges", "labels", "wheel_velocities", "instruction")


def episode(env, expert, seed, options=None):
    """Runs one episode on copies of the observations; returns info and the stream of them."""
    observation, info = env.reset(seed=seed, options=options)
    expert.reset()
    stream = []
    done = False
    while not done:
        only = {key: copy.deepcopy(observation[key]) for key in KEYS}
        action = expert.act(only)
        stream.append((only, action))
        observation, _, terminated, truncated, info = env.step(action)
        done = terminated or truncated
    return info, stream


@pytest.mark.parametrize(
    ("env_id", "kwargs", "at_least"),
    [
        ("mcsd/Nav-v0", {"parts": (1, 0)}, 0.98),
        ("mcsd/Nav-v0", {"parts": (0, 1)}, 0.97),
        ("mcsd/NavMemory-v0", {"parts": (1, 0)}, 0.97),
        ("mcsd/NavMemory-v0", {"parts": (0, 1)}, 0.97),
        ("mcsd/Nav-v0", {"parts": (1, 0), "verbs": {"face": 1}}, 0.97),
        ("mcsd/NavMemory-v0", {"instructions_per_episode": 3, "interrupt_probability": 0.5}, 0.9),
    ],
)
def test_expert_succeeds(env_id, kwargs, at_least):
    env = gymnasium.make(env_id, disable_env_checker=True, **kwargs).unwrapped
    expert = envs.make_expert(env_id)
    successes = [episode(env, expert, seed)[0]["is_success"] for seed in range(1000, 1060)]
    assert np.mean(successes) >= at_least


def test_expert_depends_on_the_observation_stream_alone():
    """A fresh expert that is shown a recorded stream, without any environment, acts the same."""
    env = NavEnv(parts=(0, 1))
    for seed in range(5):
        _, stream = episode(env, NavExpert(), seed)
        replayed = NavExpert()
        for observation, action in stream:
            np.testing.assert_array_equal(replayed.act(observation), action)


def test_reset_forgets_the_last_episode():
    env = NavEnv()
    used = NavExpert()
    episode(env, used, 1)
    _, after_another = episode(env, used, 2)
    _, fresh = episode(env, NavExpert(), 2)
    for (_, one), (_, other) in zip(after_another, fresh, strict=True):
        np.testing.assert_array_equal(one, other)


def test_expert_leaves_observations_untouched():
    env = NavEnv()
    observation, _ = env.reset(seed=0)
    before = copy.deepcopy(observation)
    NavExpert().act(observation)
    for key in KEYS:
        np.testing.assert_array_equal(before[key], observation[key])


def test_actions_are_within_bounds():
    env = NavEnv()
    for seed in range(5):
        for _, action in episode(env, NavExpert(), seed)[1]:
            assert action.dtype == np.float32
            assert 0 <= action[0] <= MAX_LINEAR + 1e-6
            assert abs(action[1]) <= MAX_ANGULAR + 1e-6


def test_expert_hits_nothing():
    env = NavEnv(parts=(0, 1))
    assert sum(episode(env, NavExpert(), seed)[0]["collisions"] for seed in range(30)) == 0


def test_expert_stands_still_without_an_instruction_and_when_done():
    env = NavEnv()
    observation, _ = env.reset(seed=0)
    observation["instruction"] = ""
    expert = NavExpert()
    np.testing.assert_array_equal(expert.act(observation), [0, 0])
    observation, _ = env.reset(seed=0, options={"instruction": "stop"})
    expert.reset()
    for _ in range(20):
        action = expert.act(observation)
        np.testing.assert_array_equal(action, [0, 0])
        observation = env.step(action)[0]
    assert expert.finished


def test_expert_returns_to_an_object_that_it_has_seen_before():
    """Told to go back to where it has been, it turns at once instead of searching again."""
    env = NavEnv(parts=(1, 0), verbs={"go": 1})
    returned = 0
    for seed in range(10):
        observation, info = env.reset(seed=seed)
        expert = NavExpert()
        first = info["instruction"]
        other = next(
            placed["name"] for placed in env.world_state()["objects"] if placed["name"].split()[0] not in first
        )
        for text in (first, f"go to the {other}", first):
            env.set_instruction(text)
            looked = 0.0
            for _ in range(200):
                action = expert.act(observation)
                observation, _, terminated, _, info = env.step(action)
                looked += abs(float(action[1])) * 0.1 if action[0] == 0 else 0.0
                if terminated and info["instruction"] == text:
                    break
        # a look around would take more than 4 rad on the spot
        returned += info["is_success"] and looked < 4
    assert returned >= 8


def test_new_instruction_replaces_the_old_one():
    env = NavEnv(parts=(1, 0), spoken_ticks=5)
    for seed in range(8):
        observation, _ = env.reset(seed=seed)
        names = [placed["name"] for placed in env.world_state()["objects"]]
        expert = NavExpert()
        for _ in range(15):
            observation, *_ = env.step(expert.act(observation))
        env.set_instruction(f"face the {names[-1]}")
        for _ in range(200):
            observation, _, terminated, _, info = env.step(expert.act(observation))
            if terminated and "face" in info["instruction"]:
                break
        assert info["is_success"]


def test_instruction_outside_the_grammar_is_refused():
    observation, _ = NavEnv().reset(seed=0)
    observation["instruction"] = "sing"
    with pytest.raises(ValueError, match="'sing'"):
        NavExpert().act(observation)
