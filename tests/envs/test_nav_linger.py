"""A world that goes on when an instruction is carried out: how long, what is told meanwhile, and what comes next."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from envs.nav import NavEnv
from envs.nav_expert import NavExpert


def run(seed: int = 1, **config: Any) -> list[dict[str, Any]]:
    """The infos of an episode of the expert's, that of the reset first, each with what was heard."""
    env, expert = NavEnv(**config), NavExpert()
    observation, info = env.reset(seed=seed)
    expert.reset()
    infos, done = [{**info, "heard": observation["instruction"]}], False
    while not done:
        observation, _, terminated, truncated, info = env.step(expert.act(observation))
        infos.append({**info, "heard": observation["instruction"], "truncated": truncated})
        done = terminated or truncated
    return infos


def succeeded(infos: list[dict[str, Any]]) -> list[bool]:
    return [info["is_success"] for info in infos]


@pytest.mark.parametrize("linger", [0, 7])
def test_the_world_goes_on_for_so_many_ticks_and_success_stays(linger):
    usual, infos = run(parts=(1, 0)), run(parts=(1, 0), linger_ticks=linger)
    assert len(infos) == len(usual) + linger
    assert succeeded(infos) == [False] * (len(usual) - 1) + [True] * (1 + linger)
    assert not infos[-1]["truncated"]


def test_the_next_instruction_comes_after_it_and_is_not_done_yet():
    infos = run(parts=(1, 0), instructions_per_episode=2, linger_ticks=5)
    first = succeeded(infos).index(True)
    assert succeeded(infos)[first : first + 6] == [True] * 5 + [False]
    # The tick at which success ends is the one at which the next words are heard.
    heard = [info["heard"] for info in infos]
    assert heard[first : first + 5] == [heard[0]] * 5
    assert heard[first + 5] != heard[0]
    assert infos[-1]["instructions_completed"] == 2
    assert succeeded(infos)[-6:] == [True] * 6


def test_an_interruption_that_was_still_to_come_comes_at_its_end():
    episodes = [run(seed, parts=(1, 0), interrupt_probability=1.0, linger_ticks=3) for seed in range(6)]
    for infos in episodes:
        told, done = [info["heard"] for info in infos], succeeded(infos)
        changes = [i for i in range(1, len(infos)) if told[i] != told[i - 1]]
        # Another one follows until one has come on the way, which is the last.
        assert [done[i - 1] for i in changes] == [True] * (len(changes) - 1) + [False]
        assert infos[-1]["instructions_completed"] == len(changes)
    assert len({info[-1]["instructions_completed"] for info in episodes}) > 1


def test_a_span_is_drawn_from_and_other_draws_stay_as_they_are():
    lengths = []
    for seed in range(8):
        usual, infos = (
            run(seed, parts=(1, 0), verbs={"face": 1.0}),
            run(seed, parts=(1, 0), verbs={"face": 1.0}, linger_ticks=(0, 4)),
        )
        assert infos[0]["heard"] == usual[0]["heard"]
        lengths.append(len(infos) - len(usual))
    assert all(0 <= n <= 4 for n in lengths)
    assert len(set(lengths)) > 2


@pytest.mark.parametrize("linger", [-1, (3, 2), (1, 2, 3)])
def test_what_is_no_number_of_ticks_is_refused(linger):
    with pytest.raises(ValueError, match="linger_ticks"):
        NavEnv(linger_ticks=linger)


def test_stepping_on_after_the_end_speaks_no_more():
    env, expert = NavEnv(parts=(1, 0), linger_ticks=2), NavExpert()
    observation, _ = env.reset(seed=1)
    expert.reset()
    done = False
    while not done:
        observation, _, done, _, _ = env.step(expert.act(observation))
    text = observation["instruction"]
    for _ in range(5):
        observation, _, terminated, truncated, info = env.step(np.zeros(2))
        assert (terminated, truncated, info["is_success"], observation["instruction"]) == (True, False, True, text)
