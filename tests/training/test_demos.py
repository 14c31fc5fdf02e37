from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from mcsd_agent.errors import UserError
from mcsd_agent.training import demos
from mcsd_agent.training.demos import (
    RecordConfig,
    load_demonstrations,
    record,
    record_episode,
    save_demonstrations,
    try_episode,
)
from mcsd_agent.training.environments import make_env, make_expert
from mcsd_agent.training.episodes import run_episodes


def assert_equal(a, b) -> None:
    assert a.observations.keys() == b.observations.keys()
    for name, values in a.observations.items():
        np.testing.assert_array_equal(values, b.observations[name])
    np.testing.assert_array_equal(a.actions, b.actions)
    np.testing.assert_array_equal(a.labels, b.labels)
    np.testing.assert_array_equal(a.rewards, b.rewards)
    assert (a.seed, a.success, a.terminated, a.instruction) == (b.seed, b.success, b.terminated, b.instruction)


def test_the_number_of_processes_does_not_change_what_is_recorded():
    one = record(RecordConfig(episodes=60, processes=1), seed=5)
    two = record(RecordConfig(episodes=60, processes=2), seed=5)
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert_equal(a, b)


def test_what_fails_is_tried_again_with_other_noise(monkeypatch):
    env, (done,) = make_env("mcsd/Nav-v0"), record(RecordConfig(episodes=1, processes=1))
    asked: list[int] = []

    def second_time_lucky(env, expert, seed, noise, attempt):
        asked.append(attempt)
        return replace(done, success=attempt == 1)

    monkeypatch.setattr(demos, "record_episode", second_time_lucky)
    for tries, attempts in ((1, [0]), (4, [0, 1])):
        asked.clear()
        left_out: Counter[str] = Counter()
        episode = try_episode(env, make_expert("mcsd/Nav-v0"), 0, RecordConfig(tries=tries), left_out)
        assert asked == attempts
        assert (episode is None) == (tries == 1) == bool(left_out)


def test_another_attempt_has_other_noise_from_the_same_beginning():
    env, expert = make_env("mcsd/Nav-v0"), make_expert("mcsd/Nav-v0")
    once, again = (record_episode(env, expert, 3, True, attempt) for attempt in (0, 1))
    assert once.actions[:20].tolist() != again.actions[:20].tolist()
    for name, values in once.observations.items():
        np.testing.assert_array_equal(values[0], again.observations[name][0])


def test_noise_changes_what_is_done_and_leaves_clean_labels():
    noisy = record(RecordConfig(episodes=10, processes=1))
    clean = record(RecordConfig(episodes=10, processes=1, noise=False))
    assert any((e.actions != e.labels).any() for e in noisy)
    assert all((e.actions == e.labels).all() for e in clean)


def test_a_minari_data_set_gives_back_the_episodes(tmp_path):
    episodes = record(RecordConfig(episodes=6, processes=1))
    save_demonstrations(episodes, tmp_path / "demos", "mcsd/Nav-v0", {})
    for a, b in zip(episodes, load_demonstrations(tmp_path / "demos"), strict=True):
        assert_equal(a, b)
    assert len(load_demonstrations(tmp_path / "demos", limit=2)) == 2
    with pytest.raises(UserError, match="exist already"):
        save_demonstrations(episodes, tmp_path / "demos", "mcsd/Nav-v0", {})


@pytest.mark.parametrize("break_it", ["missing", "empty", "metadata", "data"])
def test_broken_demonstrations_are_one_line(tmp_path, break_it):
    path = tmp_path / "demos"
    if break_it != "missing":
        save_demonstrations(record(RecordConfig(episodes=2, processes=1)), path, "mcsd/Nav-v0", {})
    if break_it == "empty":
        (path / "data" / "metadata.json").unlink()
    if break_it == "metadata":
        (path / "data" / "metadata.json").write_text("{")
    if break_it == "data":
        (path / "data" / "main_data.hdf5").write_bytes(b"not HDF5")
    with pytest.raises(UserError) as error:
        load_demonstrations(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_episodes_do_not_depend_on_how_many_run_at_once():
    def run(parallel: int):
        class ExpertActor:
            """Every row has its own expert, as every row of a policy has its own state."""

            def __init__(self, batch: int) -> None:
                self.experts = [make_expert("mcsd/Nav-v0") for _ in range(batch)]

            def __call__(self, observations, episode_starts):
                for expert, starts in zip(self.experts, episode_starts, strict=True):
                    if starts:
                        expert.reset()
                return np.stack([e.act(o) for e, o in zip(self.experts, observations, strict=True)])

        return run_episodes(
            lambda: make_env("mcsd/Nav-v0"),
            ExpertActor,
            range(6),
            parallel=parallel,
            make_expert=lambda env: make_expert("mcsd/Nav-v0"),
        )

    for a, b in zip(run(1), run(4), strict=True):
        assert_equal(a, b)
        np.testing.assert_array_equal(a.actions, a.labels)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: make_env("mcsd/Nav-v9"), "did you mean 'mcsd/Nav-v0'"),
        (lambda: make_env("mcsd/Nav-v0", {"partz": 1}), "partz"),
        (lambda: make_env("mcsd/Nav-v0", {"parts": [2.0, 0.0]}), "parts"),
        (lambda: make_expert("CartPole-v1"), "no scripted expert"),
        (lambda: make_expert("mcsd/Nav-v0", "human"), "choose 'scripted'"),
        (lambda: RecordConfig(episodes=0), "episodes=0"),
        (lambda: RecordConfig(tries=0), "tries=0 must be at least 1"),
    ],
)
def test_bad_names_and_arguments_are_one_line(call, words):
    with pytest.raises(UserError, match=words) as error:
        call()
    assert "\n" not in str(error.value)
