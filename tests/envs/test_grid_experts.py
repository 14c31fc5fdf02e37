"""Experts for MiniGrid's levels, and what may be exchanged in what they show."""

from __future__ import annotations

import numpy as np
import pytest
from minigrid.utils.baby_ai_bot import BabyAIBot

import envs.babyai
from envs import ExpertFailed, make_expert
from envs.babyai import BotExpert
from envs.grid_symmetries import COLOURS, SYMMETRIES, GridSymmetries
from mcsd_agent.language import Vocabulary
from mcsd_agent.training.demos import RecordConfig, load_demonstrations, record
from mcsd_agent.training.environments import make_env
from mcsd_agent.training.recording import record_to

KINDS = {"door": 4, "key": 5, "ball": 6, "box": 7}


@pytest.mark.parametrize("level", ["GoToLocal", "PutNextLocal", "BossLevel"])
def test_the_bounded_bot_decides_as_the_original(level):
    env = make_env(f"BabyAI-{level}-v0")
    for seed in range(2):
        observation, _ = env.reset(seed=seed)
        ours, theirs = BotExpert(env), BabyAIBot(env.unwrapped)
        ours.reset()
        done = False
        while not done:
            action = ours.act(observation)
            assert action == int(theirs.replan())
            observation, _, terminated, truncated, info = env.step(action)
            done = terminated or truncated
        assert info["is_success"]


def test_a_bot_that_plans_for_ever_is_stopped_and_counted(monkeypatch, tmp_path):
    config = RecordConfig("BabyAI-GoToLocal-v0", expert="babyai-bot", episodes=20, processes=1)
    monkeypatch.setattr(envs.babyai, "_MAX_SEARCHES", 2)
    recorded = record_to(tmp_path / "demos", config, 0, lambda *_: None)
    assert 0 < recorded.episodes < 20
    assert recorded.left_out == {"it plans in circles": 20 - recorded.episodes}
    assert len(load_demonstrations(tmp_path / "demos")) == recorded.episodes
    monkeypatch.setattr(envs.babyai, "_MAX_CELLS", 0)
    env = make_env(config.env)
    observation, _ = env.reset(seed=0)
    expert = BotExpert(env)
    expert.reset()
    with pytest.raises(ExpertFailed, match="too long"):
        _ = [expert.act(observation) for _ in range(3)]


def test_an_unfinished_recording_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(envs.babyai, "_MAX_SEARCHES", 0)
    config = RecordConfig("BabyAI-GoToLocal-v0", expert="babyai-bot", episodes=2, processes=1)
    with pytest.raises(Exception, match="succeeded in none"):
        record_to(tmp_path / "demos", config, 0, lambda *_: None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", ["S7", "S13", "S17Random"])
def test_the_expert_for_memory_finds_the_like_of_what_it_saw(size):
    env_id = f"MiniGrid-Memory{size}-v0"
    env, expert = make_env(env_id), make_expert(env_id)
    for seed in range(20):
        observation, _ = env.reset(seed=seed)
        expert.reset()
        done = False
        while not done:
            observation, _, terminated, truncated, info = env.step(expert.act(observation))
            done = terminated or truncated
        assert info["is_success"], seed


def test_an_exchange_keeps_what_the_mission_names_where_it_is_seen():
    episodes = record(RecordConfig("BabyAI-PickupLoc-v0", expert="babyai-bot", episodes=30, processes=1))
    vocabulary = Vocabulary.from_texts([" ".join((*COLOURS, *KINDS, "left right")), *(e.instruction for e in episodes)])
    names = ["", "?", *vocabulary.words]
    exchange, rng = GridSymmetries(SYMMETRIES, vocabulary.ids), np.random.default_rng(0)
    turned = 0
    for episode in episodes:
        cells, directions = (np.asarray(episode.observations[k], np.int64)[None] for k in ("image", "direction"))
        missions = np.stack([vocabulary.encode(t) for t in episode.observations["mission"]])[None]
        new_cells, new_directions, new_missions, new_actions = exchange(
            cells, directions, missions, episode.labels[None], rng
        )
        before, after = ([names[i] for i in ids[0, 0] if i] for ids in (missions, new_missions))
        np.testing.assert_array_equal(named(cells, before), named(new_cells, after))
        if (new_actions != episode.labels).any():
            turned += 1
            assert (np.sort(new_cells[..., 0::3]) >= 0).all()
            np.testing.assert_array_equal(new_directions[0], -directions[0] % 4)
            assert ("left" in before) == ("right" in after)
    assert turned > 5


def test_every_episode_of_a_batch_has_an_exchange_of_its_own():
    (episode,) = record(RecordConfig("BabyAI-PickupLoc-v0", expert="babyai-bot", episodes=1, processes=1))
    vocabulary = Vocabulary.from_texts([" ".join((*COLOURS, *KINDS)), episode.instruction])
    names = ["", "?", *vocabulary.words]
    cells = np.repeat(np.asarray(episode.observations["image"], np.int64)[None], 12, 0)
    missions = np.repeat(np.stack([vocabulary.encode(t) for t in episode.observations["mission"]])[None], 12, 0)
    nothing = np.zeros(cells.shape[:2], np.int64)
    exchange = GridSymmetries(["colours"], vocabulary.ids)
    new_cells, _, new_missions, _ = exchange(cells, nothing, missions, nothing, np.random.default_rng(0))
    before = [names[k] for k in missions[0, 0] if k]
    for i in range(12):
        after = [names[k] for k in new_missions[i, 0] if k]
        np.testing.assert_array_equal(named(cells[i : i + 1], before), named(new_cells[i : i + 1], after))
    assert len({view.tobytes() for view in new_cells}) > 6


def named(cells: np.ndarray, words: list[str]) -> np.ndarray:
    """In how many cells of each tick lies what the words name."""
    view = cells.reshape(cells.shape[1], -1, 3)
    kinds = [KINDS[w] for w in words if w in KINDS]
    colours = [COLOURS.index(w) for w in words if w in COLOURS]
    fits = np.isin(view[..., 0], kinds or list(KINDS.values())) & (np.isin(view[..., 1], colours) if colours else True)
    return fits.sum(1)
