"""The gymnasium side: the API contract, reproducibility, instructions over time, rewards."""

import json
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs
from envs.nav import NavEnv
from envs.nav_config import STEP_LIMITS
from envs.nav_expert import NavExpert
from envs.nav_language import object_name, parse

NAV_IDS = ("mcsd/Nav-v0", "mcsd/NavMemory-v0")
GO = {"go": 1.0}
STAND = np.zeros(2, np.float32)


def make(env_id="mcsd/Nav-v0", **kwargs):
    return gymnasium.make(env_id, disable_env_checker=True, **kwargs).unwrapped


def present(env):
    return [placed["name"] for placed in env.world_state()["objects"]]


def absent(env):
    return next(object_name(k) for k in range(12) if object_name(k) not in present(env))


def drive_with_expert(env, observation, ticks=400):
    """Steps until the episode ends; returns the last step's terminated, truncated, info and the rewards."""
    expert = NavExpert()
    rewards = []
    for _ in range(ticks):
        observation, reward, terminated, truncated, info = env.step(expert.act(observation))
        rewards.append(reward)
        if terminated or truncated:
            break
    return terminated, truncated, info, rewards


@pytest.mark.parametrize("env_id", NAV_IDS)
@pytest.mark.parametrize("kwargs", [{}, {"instructions_per_episode": 3, "interrupt_probability": 0.5}])
def test_checker_finds_nothing_to_warn_about(env_id, kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make(env_id, **kwargs))


def rollout(env, seed, ticks=250):
    rng = np.random.default_rng(seed)
    trace = [env.reset(seed=seed)]
    for tick in range(ticks):
        if tick % 7 == 0:
            action = np.array([rng.uniform(0, 0.6), rng.uniform(-1, 1)], np.float32)
        trace.append(env.step(action))
        if trace[-1][2] or trace[-1][3]:
            trace.append(env.reset())
    return trace


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    return np.array_equal(a, b)


@pytest.mark.parametrize("env_id", NAV_IDS)
def test_same_seed_and_actions_give_the_same_episodes(env_id):
    kwargs = {"instructions_per_episode": 2, "interrupt_probability": 0.7}
    used = make(env_id, **kwargs)
    rollout(used, 99, 40)
    assert same(rollout(make(env_id, **kwargs), 5), rollout(used, 5))
    assert not same(rollout(make(env_id, **kwargs), 5, 1), rollout(used, 6, 1))


@pytest.mark.parametrize("env_id", NAV_IDS)
def test_observations_stay_in_their_space(env_id):
    env = make(env_id, interrupt_probability=1.0)
    for step in rollout(env, 3, 150):
        assert step[0] in env.observation_space


def test_returned_arrays_can_be_altered_without_altering_the_environment():
    env, twin = make(render_mode="rgb_array"), make(render_mode="rgb_array")
    observation, _ = env.reset(seed=1)
    twin.reset(seed=1)
    observation["ranges"][:] = 0
    observation["labels"][:] = 0
    np.testing.assert_array_equal(env.render(), twin.render())


# ------------------------------------------------------------------------------------------ episodes


@pytest.mark.parametrize("parts", [1, 2])
def test_objects_of_the_instruction_are_present(parts):
    env = NavEnv(parts=(1, 0) if parts == 1 else (0, 1))
    for seed in range(40):
        _, info = env.reset(seed=seed)
        task = parse(info["instruction"])
        labels = [goal.label for goal in task.goals if goal.verb != "stop"]
        assert len(task.goals) == info["parts"] == parts
        assert {object_name(label) for label in labels} <= set(present(env))
        assert len(set(labels)) == len(labels)
        assert 3 <= len(present(env)) <= 6


def test_parts_and_verbs_follow_their_frequencies():
    env = NavEnv(parts=(0.7, 0.3), verbs={"go": 1, "face": 1, "stop": 2})
    drawn = [parse(env.reset(seed=seed)[1]["instruction"]).goals for seed in range(400)]
    single = [goals[0].verb for goals in drawn if len(goals) == 1]
    assert len(single) / 400 == pytest.approx(0.7, abs=0.07)
    assert single.count("stop") / len(single) == pytest.approx(0.5, abs=0.1)
    assert all(goal.verb != "stop" for goals in drawn if len(goals) == 2 for goal in goals)


@pytest.mark.parametrize("parts", [1, 2])
def test_time_runs_out_after_the_limit_of_the_instruction(parts):
    env = NavEnv(verbs=GO)
    env.reset(seed=0, options={"parts": parts})
    for tick in range(1, STEP_LIMITS[parts] + 1):
        _, _, terminated, truncated, info = env.step(STAND)
        assert not terminated
        assert truncated == (tick == STEP_LIMITS[parts])
    assert info["is_success"] is False


def test_standing_still_succeeds_at_stop_and_nothing_else():
    env = NavEnv()
    env.reset(seed=0, options={"instruction": "please halt"})
    for _ in range(9):
        assert env.step(STAND)[2] is False
    _, reward, terminated, _, info = env.step(STAND)
    assert terminated
    assert info["is_success"] is True
    assert reward > 0.9


def test_reset_options_choose_instruction_and_objects():
    env = NavEnv()
    for seed in range(10):
        text = "go to the green cone, then the red box"
        observation, info = env.reset(seed=seed, options={"instruction": text, "n_objects": 3})
        assert observation["instruction"] == info["instruction"] == text
        assert {"green cone", "red box"} < set(present(env))
        assert len(present(env)) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_objects": 2}, "n_objects=2"),
        ({"n_object": 4}, "'n_object'"),
        ({"parts": 4}, "parts=4"),
        ({"instruction": "dance"}, "'dance'"),
    ],
)
def test_bad_reset_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        NavEnv().reset(seed=0, options=options)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"parts": (0.5, 0.2)}, "parts="),
        ({"parts": (1,)}, "parts="),
        ({"verbs": {"goto": 1}}, "'goto'"),
        ({"verbs": {"go": 0}}, "verbs="),
        ({"verbs": {"stop": 1}}, "two-part"),
        ({"instructions_per_episode": 0}, "instructions_per_episode=0"),
        ({"interrupt_probability": 1.5}, "interrupt_probability=1.5"),
        ({"spoken_ticks": 0}, "spoken_ticks=0"),
        ({"render_mode": "human"}, "'human'"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        NavEnv(**kwargs)


# -------------------------------------------------------------------------------------- instructions


def test_next_instruction_is_spoken_in_the_same_arena_and_the_last_one_ends_the_episode():
    env = NavEnv(parts=(1, 0), verbs=GO, instructions_per_episode=3)
    observation, info = env.reset(seed=4)
    arena, expert, texts, successes = present(env), NavExpert(), [info["instruction"]], 0
    for _ in range(600):
        observation, _, terminated, truncated, info = env.step(expert.act(observation))
        successes += info["is_success"]
        if info["instruction"] != texts[-1]:
            texts.append(info["instruction"])
        assert present(env) == arena
        if terminated or truncated:
            break
    assert terminated
    assert len(texts) == info["instructions_completed"] == 3
    assert successes == 1  # only the last one is the episode's


def test_each_instruction_of_an_episode_has_its_own_time_limit():
    env = NavEnv(parts=(1, 0), verbs={"stop": 1}, instructions_per_episode=2)
    env.reset(seed=0)
    spin = np.array([0, 1], np.float32)
    for _ in range(150):
        env.step(spin)
    for _ in range(20):
        env.step(STAND)
        if env.world_state()["stage"] == 0 and env._completed == 1:
            break
    ticks = 0
    while True:
        ticks += 1
        _, _, terminated, truncated, _ = env.step(spin)
        if terminated or truncated:
            break
    assert truncated
    assert ticks == STEP_LIMITS[1]


def test_interruptions_replace_the_instruction_once_at_random_ticks():
    env = NavEnv(verbs=GO, interrupt_probability=1.0)
    ticks = set()
    for seed in range(12):
        _, info = env.reset(seed=seed)
        first, changes = info["instruction"], []
        for tick in range(1, 120):
            observation, _, _, _, info = env.step(STAND)
            if info["instruction"] != first and not changes:
                changes.append(tick)
                assert observation["instruction"] == info["instruction"]
                second = info["instruction"]
            assert not changes or info["instruction"] == second
        assert changes
        ticks.update(changes)
    assert len(ticks) > 6


def test_without_interruptions_the_instruction_stays():
    env = NavEnv(verbs=GO)
    _, info = env.reset(seed=0)
    assert {env.step(STAND)[4]["instruction"] for _ in range(150)} == {info["instruction"]}


def test_instruction_is_heard_for_five_observations_in_the_memory_variant():
    env = make("mcsd/NavMemory-v0")
    observation, info = env.reset(seed=0)
    heard = [observation["instruction"]] + [env.step(STAND)[0]["instruction"] for _ in range(20)]
    assert heard == [info["instruction"]] * 5 + [""] * 16


def test_instruction_is_heard_throughout_in_the_plain_variant():
    env = make("mcsd/Nav-v0")
    observation, info = env.reset(seed=0, options={"instruction": "go to the red ball"})
    heard = [observation["instruction"]] + [env.step(STAND)[0]["instruction"] for _ in range(20)]
    assert set(heard) == {info["instruction"]}


@pytest.mark.parametrize("env_id", NAV_IDS)
def test_set_instruction_changes_the_task_in_mid_episode(env_id):
    env = make(env_id)
    env.reset(seed=2, options={"instruction": "stop"})
    for _ in range(8):
        env.step(STAND)
    name = present(env)[1]
    env.set_instruction(f"Go to the {name}!")
    observation, _, terminated, _, info = env.step(STAND)
    assert observation["instruction"] == info["instruction"] == f"Go to the {name}!"
    assert not terminated
    terminated, _, info, _ = drive_with_expert(env, observation)
    assert terminated
    assert info["is_success"]


def test_set_instruction_brings_a_fresh_time_limit():
    env = NavEnv(verbs=GO)
    env.reset(seed=0, options={"parts": 1})
    for _ in range(STEP_LIMITS[1] - 5):
        env.step(STAND)
    env.set_instruction(f"go to the {present(env)[0]}")
    assert not any(env.step(STAND)[3] for _ in range(20))


def test_set_instruction_works_after_the_end_of_the_episode():
    env = NavEnv()
    env.reset(seed=0, options={"instruction": "stop"})
    while not env.step(STAND)[2]:
        pass
    env.set_instruction(f"face the {present(env)[0]}")
    _, _, terminated, truncated, info = env.step(STAND)
    assert (terminated, truncated, info["is_success"]) == (False, False, False)


def test_set_instruction_refuses_what_it_cannot_mean_and_keeps_the_old_one():
    env = NavEnv()
    _, info = env.reset(seed=0)
    with pytest.raises(ValueError, match="'jump'"):
        env.set_instruction("jump")
    with pytest.raises(ValueError, match="present: "):
        env.set_instruction(f"go to the {absent(env)}")
    assert env.step(STAND)[4]["instruction"] == info["instruction"]


def test_unusual_characters_do_not_leave_the_observation_space():
    env = NavEnv()
    env.reset(seed=0)
    env.set_instruction("stop\u2026\n")
    observation = env.step(STAND)[0]
    assert observation in env.observation_space
    assert observation["instruction"] == "stop"


# ------------------------------------------------------------------------------- memory variant, reward


def drive_to_wrong_object(env_id):
    env = make(env_id)
    env.reset(seed=3, options={"n_objects": 3, "instruction": "go to the red ball, then the blue box"})
    # the robot believes that it was told to go to the second object
    expert, infos = NavExpert(), []
    observation = env._observation()
    for _ in range(150):
        observation["instruction"] = "go to the blue box"
        observation, reward, terminated, truncated, info = env.step(expert.act(observation))
        infos.append((reward, terminated, truncated, info))
        if terminated or truncated or expert.finished:
            break
    return infos[-1]


def test_wrong_object_ends_the_episode_in_the_memory_variant():
    reward, terminated, _, info = drive_to_wrong_object("mcsd/NavMemory-v0")
    assert terminated
    assert reward < -0.9
    assert info["wrong_object"] is True
    assert info["is_success"] is False


def test_wrong_object_costs_nothing_in_the_plain_variant():
    reward, terminated, _, info = drive_to_wrong_object("mcsd/Nav-v0")
    assert not terminated
    assert abs(reward) < 0.1
    assert info["stage"] == 0


def test_going_to_whatever_is_in_sight_rarely_succeeds_in_the_memory_variant():
    """The best that a policy without memory can hope for is far below the expert's success."""
    env = make("mcsd/NavMemory-v0")
    successes = 0
    for seed in range(60):
        observation, _ = env.reset(seed=seed)
        while True:
            seen = np.flatnonzero(observation["labels"] < 12)
            wanted = observation["instruction"]
            if wanted:  # while it hears, it may look for the right one
                label = parse(wanted).goals[0].label
                seen = np.flatnonzero(observation["labels"] == label)
            middle = seen[np.argmin(abs(seen - 15))] if len(seen) else None
            action = [0.0, 1.0] if middle is None else [0.4, float(np.clip((15 - middle) * 0.15, -1, 1))]
            observation, _, terminated, truncated, info = env.step(np.array(action, np.float32))
            if terminated or truncated:
                break
        successes += info["is_success"]
    assert successes / 60 < 0.5


def test_rewards_sum_to_progress_and_completed_goals():
    env = NavEnv(parts=(0, 1), verbs=GO)
    observation, _ = env.reset(seed=7)
    *_, info, rewards = drive_with_expert(env, observation)
    assert info["is_success"]
    # two goals, and what the potential adds is bounded by 0.3 x the way across the arena
    assert 2 < sum(rewards) < 2 + 2 * 0.3 * 6.5


def test_driving_towards_the_goal_pays_and_away_costs():
    env = NavEnv(verbs=GO)
    rewards = {}
    for seed in range(40):
        env.reset(seed=seed, options={"parts": 1})
        distance, bearing = env._situation().towards(env._progress.goal.label)
        if distance < 1.5:
            continue
        for _ in range(8):
            reward = env.step(np.array([0.6, 0.0], np.float32))[1]
        if abs(bearing) < 0.3:
            rewards.setdefault("towards", []).append(reward)
        if abs(bearing) > 2.8:
            rewards.setdefault("away", []).append(reward)
    assert min(rewards["towards"]) > 0
    assert max(rewards["away"]) < 0


# --------------------------------------------------------------------------------------- simulator side


def test_world_state_survives_json_and_tells_the_truth():
    env = NavEnv()
    env.reset(seed=0, options={"instruction": "go to the red ball, then stop"})
    env.step(np.array([0.5, 0.1], np.float32))
    state = json.loads(json.dumps(env.world_state()))
    assert state == env.world_state()
    assert (state["pose"]["x"], state["pose"]["y"], state["pose"]["theta"]) == env.world.pose()
    assert state["parts"] == 2
    assert state["stage"] == 0
    assert state["success"] is False
    assert "red ball" in [placed["name"] for placed in state["objects"]]


def test_experts_are_found_by_id_and_by_spec():
    for env_id in NAV_IDS:
        assert isinstance(envs.make_expert(env_id), NavExpert)
        assert isinstance(envs.make_expert(gymnasium.spec(env_id)), NavExpert)
    with pytest.raises(ValueError, match="CartPole-v1"):
        envs.make_expert("CartPole-v1")


def test_a_span_of_spoken_ticks_is_drawn_anew_for_each_instruction():
    env = NavEnv(spoken_ticks=(2, 20))
    lengths = []
    for seed in range(40):
        observation, _ = env.reset(seed=seed)
        count = 0
        while observation["instruction"]:
            count += 1
            observation, *_ = env.step(STAND)
        lengths.append(count)
    assert min(lengths) < 5
    assert max(lengths) > 10
    assert all(2 <= n <= 20 for n in lengths)


@pytest.mark.parametrize("ticks", [0, -1, (0, 5), (6, 5), (1, 2, 3), ()])
def test_impossible_spoken_ticks_are_refused(ticks):
    with pytest.raises(ValueError, match="spoken_ticks"):
        NavEnv(spoken_ticks=ticks)
