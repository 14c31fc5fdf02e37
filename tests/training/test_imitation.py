from __future__ import annotations

import numpy as np
import pytest
import torch

from mcsd_agent.errors import UserError
from mcsd_agent.language import Vocabulary
from mcsd_agent.policy import Policy, PolicyConfig
from mcsd_agent.spaces import BoxSpec, DiscreteSpec, TextSpec
from mcsd_agent.training.batches import Batches
from mcsd_agent.training.episodes import Episode
from mcsd_agent.training.imitation import ImitationConfig, train_by_imitation

FAST = ImitationConfig(
    updates=150, tokens_per_batch=400, warmup_updates=5, learning_rate=5e-3, ema=0.9, dagger_rounds=0
)


def first_value_episodes(n: int, seed: int = 0) -> list[Episode]:
    """The label at every tick is the sign seen at the first tick: only memory can clone it."""
    rng = np.random.default_rng(seed)
    episodes = []
    for i in range(n):
        length = int(rng.integers(3, 30))
        seen = rng.normal(size=(length, 1)).astype(np.float32) * 0.1
        sign = int(rng.integers(0, 2))
        seen[0] = 2.0 * sign - 1.0
        labels = np.full(length, sign)
        episodes.append(Episode(i, {"observation": seen}, labels, labels, np.zeros(length, np.float32), True, True))
    return episodes


def policy(seed: int = 0, backbone: str = "mcsd") -> Policy:
    torch.manual_seed(seed)
    config = PolicyConfig(width=16, channels=4, layers=1, backbone=backbone)  # type: ignore[arg-type]
    return Policy({"observation": BoxSpec((1,))}, DiscreteSpec(2), config)


def accuracy(net: Policy) -> float:
    right, total = 0, 0
    for episode in first_value_episodes(50, seed=9):
        features, _ = net.scan(
            {"observation": torch.from_numpy(episode.observations["observation"])[None]}, net.initial_state()
        )
        right += int((net.head.mode(net.action_net(features))[0].numpy() == episode.labels).sum())
        total += len(episode)
    return right / total


def test_memory_clones_what_only_the_past_tells_and_no_memory_cannot():
    with_memory = train_by_imitation(policy(), first_value_episodes(200), FAST)
    without = train_by_imitation(policy(backbone="none"), first_value_episodes(200), FAST)
    assert accuracy(with_memory) > 0.98
    assert accuracy(without) < 0.7


def test_equal_seeds_give_equal_weights():
    results = [train_by_imitation(policy(), first_value_episodes(50), FAST, seed=3) for _ in range(2)]
    for a, b in zip(results[0].parameters(), results[1].parameters(), strict=True):
        assert torch.equal(a, b)


def test_each_epoch_holds_every_episode_once_and_padding_is_masked():
    episodes = first_value_episodes(40)
    batches = Batches(policy(), 100, np.random.default_rng(0))
    batches.add(episodes)
    seen = []
    while not seen or batches.queue:
        observations, labels, mask, _ = next(batches)
        assert mask.numel() <= max(100, mask.shape[1])
        for row, length in enumerate(mask.sum(1).int().tolist()):
            assert mask[row, :length].all()
            assert not observations["observation"][row, length:].any()
            seen.append((length, float(observations["observation"][row, 1, 0]) if length > 1 else 0.0))
            assert set(labels[row, :length].tolist()) <= {0, 1}
    expected = [(len(e), float(e.observations["observation"][1, 0])) for e in episodes]
    assert sorted(seen) == sorted(expected)


def test_what_is_said_in_episodes_that_join_later_is_read_too():
    vocabulary = Vocabulary.from_texts(["go to the red ball"], max_words=6)
    specs = {"x": BoxSpec((1,)), "instruction": TextSpec(6)}
    listener = Policy(specs, DiscreteSpec(2), PolicyConfig(width=16, layers=1), vocabulary)

    def said(seed: int, text: str) -> Episode:
        seen = {"x": np.zeros((2, 1), np.float32), "instruction": [text] * 2}
        return Episode(seed, seen, np.zeros(2, np.int64), np.zeros(2, np.int64), np.zeros(2), True, True)

    batches = Batches(listener, 2, np.random.default_rng(0))
    batches.add([said(0, "go")])
    next(batches)
    batches.add([said(1, "red ball")])
    heard = [tuple(next(batches).observations["instruction"][0, 0].tolist()) for _ in range(2)]
    assert set(heard) == {tuple(vocabulary.encode(text).tolist()) for text in ("go", "red ball")}


def test_dagger_rounds_come_in_order_and_their_episodes_are_learnt_from():
    rounds: list[int] = []

    def dagger(learner: Policy, round_index: int) -> list[Episode]:
        rounds.append(round_index)
        return first_value_episodes(10, seed=100 + round_index)

    reports = []
    config = ImitationConfig(updates=60, tokens_per_batch=200, dagger_rounds=3, dagger_episodes=10)
    train_by_imitation(
        policy(), first_value_episodes(20), config, dagger=dagger, on_progress=reports.append, report_every=5
    )
    assert rounds == [0, 1, 2]
    assert reports[-1].episodes == 50
    assert reports[-1].fraction == 1.0


def test_the_time_limit_ends_training_and_completes_the_schedule():
    reports = []
    config = ImitationConfig(updates=10**9, cpu_seconds=0.5, dagger_rounds=0)
    train_by_imitation(policy(), first_value_episodes(20), config, on_progress=reports.append)
    assert reports[-1].fraction == 1.0


def test_episodes_without_labels_or_none_at_all_are_refused():
    with pytest.raises(UserError, match="no demonstrations"):
        train_by_imitation(policy(), [], FAST)
    unlabelled = [Episode(7, {"observation": np.zeros((2, 1), np.float32)}, np.zeros(2), None, np.zeros(2), True, True)]
    with pytest.raises(UserError, match="seed 7 has no expert labels"):
        train_by_imitation(policy(), unlabelled, FAST)


@pytest.mark.parametrize("changes", [{"updates": 0}, {"ema": 1.0}, {"dagger_until": 0.0}, {"cpu_seconds": -1.0}])
def test_impossible_settings_are_refused(changes):
    with pytest.raises(UserError):
        ImitationConfig(**changes)
