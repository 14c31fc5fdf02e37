"""Episodes that a learner drives while an expert, which may look into the environment, says what it would have done."""

from __future__ import annotations

import numpy as np
import pytest

from envs import ExpertFailed
from envs.babyai import BotExpert
from mcsd_agent.policy import PolicyConfig
from mcsd_agent.training.dagger import dagger_episodes
from mcsd_agent.training.demos import RecordConfig
from mcsd_agent.training.environments import make_env
from mcsd_agent.training.episodes import run_episodes
from mcsd_agent.training.runs import policy_for

LEVEL = "BabyAI-PickupLoc-v0"


class Wanderer:
    """Turns, walks, picks up and drops at random."""

    def __init__(self, batch: int) -> None:
        self.rng = np.random.default_rng(0)

    def __call__(self, observations, episode_starts):
        return self.rng.integers(0, 5, len(observations))


def wander(seeds, make_expert, expert_share=0.0):
    return run_episodes(
        lambda: make_env(LEVEL), Wanderer, seeds, parallel=1, make_expert=make_expert, expert_share=expert_share
    )


def test_the_bot_knows_the_way_from_wherever_it_was_led():
    episodes = wander(range(30), BotExpert, expert_share=0.6)
    assert len(episodes) >= 25
    assert np.mean([bool(e.success) for e in episodes]) > 0.8
    followed = np.concatenate([e.actions == e.labels for e in episodes])
    assert 0.6 < followed.mean() < 0.8  # drawn, and now and then the wanderer did the same by chance
    assert all(len(e.labels) == len(e) == len(e.observations["mission"]) for e in episodes)


def test_what_the_expert_says_does_not_depend_on_the_others():
    alone = {e.seed: e for e in wander([3], BotExpert, expert_share=0.999)}
    among = {e.seed: e for e in wander([1, 3], BotExpert, expert_share=0.999)}
    np.testing.assert_array_equal(alone[3].labels, among[3].labels)


class Ignorant(BotExpert):
    """Knows nothing of every third episode, and of the others no more than four ticks."""

    episodes = 0

    def reset(self):
        super().reset()
        self.ticks = 0
        Ignorant.episodes += 1
        if Ignorant.episodes % 3 == 0:
            raise ExpertFailed("no way")

    def act(self, observation):
        self.ticks += 1
        if self.ticks > 4:
            raise ExpertFailed("no further")
        return super().act(observation)


def test_an_episode_ends_where_the_expert_knows_no_further():
    Ignorant.episodes = 0
    episodes = wander(range(6), Ignorant)
    assert [e.seed for e in episodes] == [0, 1, 3, 4]
    assert all(len(e) == len(e.labels) <= 4 for e in episodes)


@pytest.mark.slow
def test_several_processes_drive_the_same_episodes():
    task = RecordConfig(LEVEL, expert="babyai-bot")
    policy = policy_for(LEVEL, {}, PolicyConfig(width=16, layers=1), 0, ["pick up the red ball"])
    together = dagger_episodes(policy, task, range(4), expert_share=0.5, processes=2)
    alone = dagger_episodes(policy, task, range(4), expert_share=0.5)
    assert [e.seed for e in together] == [e.seed for e in alone]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_array_equal(a.labels, b.labels)
        np.testing.assert_array_equal(a.actions, b.actions)
