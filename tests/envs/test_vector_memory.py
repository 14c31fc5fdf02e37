"""The batch of memory tasks is the single environment, row by row."""

import json

import gymnasium
import numpy as np
import pytest

import envs  # noqa: F401  (registers the ids)

IDS = ("mcsd/RepeatPreviousEasy-v0", "mcsd/RepeatFirstEasy-v0", "mcsd/AutoencodeEasy-v0", "mcsd/PassiveTMaze50-v0")


#: The same and mazes whose corridors differ from episode to episode.
KINDS = [(env_id, {}) for env_id in IDS] + [("mcsd/PassiveTMaze50-v0", {"shortest": 1})]


def make_vec(env_id, n, **kwargs):
    return gymnasium.make_vec(env_id, n, vectorization_mode="vector_entry_point", **kwargs)


def mostly_right(env_id, random, n):
    """Actions that see all parts of a task: a random walk does not reach the end of the maze."""
    actions = random.integers(4, size=n)
    return np.where(random.random(n) < 0.999, 0, actions) if "TMaze" in env_id else actions


@pytest.mark.parametrize(("env_id", "kwargs"), KINDS)
def test_each_row_is_the_single_environment_with_that_seed_over_several_episodes(env_id, kwargs):
    n, random = 3, np.random.default_rng(0)
    batch = make_vec(env_id, n, **kwargs)
    singles = [gymnasium.make(env_id, disable_env_checker=True, **kwargs) for _ in range(n)]
    seen, _ = batch.reset(seed=5)
    np.testing.assert_array_equal(seen, [e.reset(seed=5 + i)[0] for i, e in enumerate(singles)])
    ended = 0
    for _ in range(330):
        # the last row turns up and down at the junction, the others walk on
        actions = mostly_right(env_id, random, n)
        if "TMaze" in env_id:
            actions[-1] = random.choice((1, 3)) if seen[-1] == 1 else 0
        seen, rewards, terminated, truncated, infos = batch.step(actions)
        for i, env in enumerate(singles):
            own, reward, done, _, info = env.step(int(actions[i]))
            assert reward == pytest.approx(rewards[i])
            assert done == terminated[i]
            if done:
                ended += 1
                np.testing.assert_array_equal(infos["final_obs"][i], own)
                assert infos.get("is_success", [None] * n)[i] == info.get("is_success")
                own, _ = env.reset()
            np.testing.assert_array_equal(seen[i], own)
        assert not truncated.any()
    assert ended >= 2 * n


@pytest.mark.parametrize("env_id", IDS)
def test_observations_and_actions_are_of_the_stated_spaces(env_id):
    batch = make_vec(env_id, 4)
    seen, _ = batch.reset(seed=0)
    assert batch.observation_space.contains(seen)
    assert batch.observation_space.contains(batch.step(batch.action_space.sample())[0])


def test_what_one_step_returned_is_not_changed_by_the_next():
    batch = make_vec("mcsd/AutoencodeEasy-v0", 2)
    seen = [batch.reset(seed=0)[0]]
    copies = [seen[0].copy()]
    for _ in range(210):
        seen.append(batch.step(np.zeros(2, int))[0])
        copies.append(seen[-1].copy())
    np.testing.assert_array_equal(seen, copies)


@pytest.mark.parametrize(("env_id", "kwargs"), KINDS)
def test_states_are_those_of_the_single_environments(env_id, kwargs):
    batch = make_vec(env_id, 2, **kwargs)
    batch.reset(seed=3)
    for _ in range(7):
        batch.step(np.array([0, 1]))
    first, second = json.loads(json.dumps(batch.get_states()))
    single = gymnasium.make(env_id, disable_env_checker=True, **kwargs).unwrapped
    single.reset(seed=0)
    single.set_state(second)
    assert single.get_state() == second
    other = make_vec(env_id, 2, **kwargs)
    other.set_states([second], rows=[0])
    other.set_states([first], rows=[1])
    for _ in range(220):
        one, two = batch.step(np.array([2, 3])), other.step(np.array([3, 2]))
        for a, b in zip(one[:4], two[:4], strict=True):
            np.testing.assert_array_equal(a, b[::-1])


def test_a_second_reset_without_a_seed_goes_on_drawing():
    batch = make_vec("mcsd/RepeatFirstEasy-v0", 8)
    batch.reset(seed=0)
    first = batch.get_states()
    batch.reset()
    assert all(a["suits"] != b["suits"] for a, b in zip(first, batch.get_states(), strict=True))
