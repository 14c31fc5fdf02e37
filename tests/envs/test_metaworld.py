"""Meta-World in words: what seeds decide, what is seen, what the experts can."""

from __future__ import annotations

import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.metaworld_env import MetaWorldEnv
from envs.metaworld_language import WORDINGS
from mcsd_agent.cli import main
from mcsd_agent.errors import UserError
from mcsd_agent.language import Vocabulary, split_words
from mcsd_agent.training.demos import RecordConfig, load_demonstrations, record
from mcsd_agent.training.environments import make_env, make_expert
from mcsd_agent.training.instructions import vocabulary_for

ID = "mcsd/MetaWorld-v0"
#: First seeds of two runs' demonstrations and of evaluations.
TRAINING, EVALUATION = (0, 10_000_000), 1_000_000


def first_views(seeds, **kwargs):
    env = MetaWorldEnv(**kwargs)
    views = [env.reset(seed=seed) for seed in seeds]
    env.close()
    return views


def test_it_keeps_gymnasiums_rules():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env = MetaWorldEnv(tasks="drawer-close", relative=True, reword_probability=0.5)
        check_env(env, skip_render_check=True)
    env.close()


def test_the_seed_decides_everything_whatever_came_before():
    (once, told), (other, _) = first_views([7, 17])
    _, (again, told_again) = first_views([23, 7])
    assert told == told_again
    assert told["instruction_kind"] == "peg-insert-side"
    np.testing.assert_array_equal(once["observation"], again["observation"])
    assert not np.array_equal(once["observation"], other["observation"])


def test_an_episode_repeats_itself_bit_for_bit():
    task = RecordConfig(ID, {"tasks": "drawer-close"}, expert="metaworld", episodes=2, processes=1)
    episodes = [record(task)[1] for _ in range(2)]
    for name in ("actions", "labels", "rewards"):
        np.testing.assert_array_equal(getattr(episodes[0], name), getattr(episodes[1], name))
    assert episodes[0].total_reward < 0  # who is done sooner has lost less


def test_tasks_come_in_turn_and_goals_of_demonstrations_are_never_judged():
    tasks = [info["instruction_kind"] for _, info in first_views(range(10))]
    assert tasks == list(WORDINGS)
    seeds = [first + i for first in (*TRAINING, EVALUATION) for i in range(3)]
    views = [o["observation"] for o, _ in first_views(seeds, tasks="drawer-open")]  # one number is drawn for it
    assert len({view[4:7].tobytes() + view[-3:].tobytes() for view in views}) == len(seeds)


def test_a_task_is_said_in_other_words_on_the_way():
    env = MetaWorldEnv(tasks="drawer-open", reword_probability=0.5)
    heard = {env.reset(seed=0)[0]["instruction"]} | {env.step(np.zeros(4))[0]["instruction"] for _ in range(40)}
    assert heard == set(WORDINGS["drawer-open"])
    env.close()


def test_without_a_seed_tasks_are_drawn():
    env = MetaWorldEnv(tasks=["drawer-open", "drawer-close", "window-open"])
    env.reset(seed=0)
    assert len({env.reset()[1]["instruction_kind"] for _ in range(9)}) > 1
    env.close()


def test_what_is_relative_says_the_same_without_where_the_table_is():
    seeds = (0, 3, 7)
    for (plain, _), (seen, _) in zip(first_views(seeds), first_views(seeds, relative=True), strict=True):
        hand, thing, goal = (plain["observation"][i : i + 3] for i in (0, 4, 36))
        near = seen["observation"]
        np.testing.assert_allclose(near[0], hand[2], atol=1e-6)
        np.testing.assert_allclose(near[2:5], thing - hand, atol=1e-6)
        np.testing.assert_allclose(near[9:12], goal - hand, atol=1e-6)
        np.testing.assert_allclose(near[12:15], goal - thing, atol=1e-6)
        apart = np.concatenate([thing - hand, goal - hand, goal - thing])
        np.testing.assert_allclose(near[22:], np.tanh(apart / 0.03), atol=1e-6)


def test_every_wording_means_one_task_and_is_known_to_the_policy():
    texts = [text for wordings in WORDINGS.values() for text in wordings]
    assert len(set(texts)) == len(texts)
    assert min(map(len, WORDINGS.values())) >= 5
    env = make_env(ID)
    vocabulary = vocabulary_for(env)
    assert not any(vocabulary.unknown_words(text) for text in texts)
    assert max(len(split_words(text)) for text in texts) <= Vocabulary(("a",)).max_words
    assert all(env.observation_space["instruction"].contains(text) for text in texts)


def test_one_command_records_the_expert(tmp_path, capsys):
    out = tmp_path / "demos"
    command = ["record", ID, "--expert", "metaworld", "--episodes", "2", "--processes", "1", "--out", str(out)]
    assert main([*command, "--set", "tasks=[drawer-close,reach]", "--quiet"]) == 0
    assert "2 of 2 episodes kept" in capsys.readouterr().out
    episodes = load_demonstrations(out)
    assert episodes[0].instruction in WORDINGS["drawer-close"]
    assert episodes[1].instruction in WORDINGS["reach"]
    assert all(np.abs(e.actions).max() <= 1 and np.abs(e.labels).max() <= 1 for e in episodes)
    assert all(e.success and e.terminated for e in episodes)


@pytest.mark.parametrize(
    ("tasks", "words"),
    [("MT10", "did you mean 'mt10'"), (["reach-v3"], "did you mean 'reach'"), (["?"], "choose 'mt10'"), ([], "empty")],
)
def test_unknown_tasks_are_one_line(tasks, words):
    with pytest.raises(UserError, match=words):
        make_env(ID, {"tasks": tasks})


def test_what_is_out_of_range_is_refused():
    with pytest.raises(UserError, match=r"reword_probability=1\.5 must be from 0 to 1"):
        make_env(ID, {"reword_probability": 1.5})
    with pytest.raises(UserError, match=r"linger_ticks=-1 must be at least 0"):
        make_env(ID, {"linger_ticks": -1})


def test_demonstrations_go_on_when_it_is_done():
    tasks = [{"tasks": "drawer-close", "linger_ticks": n} for n in (0, 7)]
    short, long = (record(RecordConfig(ID, t, "metaworld", 1, noise=False, processes=1))[0] for t in tasks)
    assert len(long) == len(short) + 7
    assert all(e.success and e.terminated for e in (short, long))
    np.testing.assert_array_equal(long.labels[: len(short)], short.labels)


def asked(task: str, thing_from_hand: tuple[float, float, float], opening: float) -> np.ndarray:
    env = MetaWorldEnv(tasks=task)
    env.reset(seed=0)
    env.absolute[3], env.absolute[4:7] = opening, env.absolute[:3] + np.array(thing_from_hand)
    expert = make_expert(ID, "metaworld", env)
    expert.reset()
    env.close()
    return expert.act(None)


def test_a_peg_in_hand_is_carried_whatever_tenth_of_a_millimetre_it_hangs_below():
    actions = [asked("peg-insert-side", (-0.01, 0.005, -below), 0.3) for below in (0.0249, 0.0251, 0.03)]
    for action in actions[1:]:
        np.testing.assert_allclose(action, actions[0])
    assert asked("peg-insert-side", (-0.01, 0.005, -0.03), 1.0)[2] < 0  # it is not held yet


@pytest.mark.parametrize("task", ["push", "pick-place"])
def test_a_gripper_that_closed_above_a_thing_opens_and_lifts(task):
    np.testing.assert_array_equal(asked(task, (0.0, 0.0, -0.06), 0.3), [0, 0, 1, -1])
    assert asked(task, (0.0, 0.0, -0.06), 1.0)[2] <= 0


def test_what_is_not_installed_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("metaworld.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "metaworld", None)
    monkeypatch.delitem(sys.modules, "envs.metaworld_expert", raising=False)
    with pytest.raises(UserError, match=r"mcsd-agent\[metaworld\]"):
        make_env(ID)
    with pytest.raises(UserError, match=r"mcsd-agent\[metaworld\]"):
        make_expert(ID, "metaworld")


def test_the_expert_is_for_this_environment_alone():
    with pytest.raises(UserError, match="has no metaworld expert"):
        make_expert("mcsd/Nav-v0", "metaworld", make_env("mcsd/Nav-v0"))
    with pytest.raises(UserError, match="give it that"):
        make_expert(ID, "metaworld")


@pytest.mark.slow
@pytest.mark.parametrize("task", WORDINGS)
def test_the_expert_succeeds(task):
    done = record(RecordConfig(ID, {"tasks": task}, "metaworld", 20, noise=False, processes=1, only_successes=False))
    assert sum(bool(e.success) for e in done) >= 18


@pytest.mark.slow
def test_it_can_be_filmed():
    env = gymnasium.make(ID, render_mode="rgb_array")
    env.reset(seed=6)
    frame = env.render()
    assert frame.shape == (480, 480, 3)
    assert frame.std() > 10
    env.close()
