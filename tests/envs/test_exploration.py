"""Noise for demonstrations."""

import numpy as np
import pytest
from gymnasium import spaces

from envs.exploration import DemonstrationNoise, NoiseConfig

BOX = spaces.Box(np.array([0, -1], np.float32), np.array([0.6, 1], np.float32))
LABEL = np.array([0.3, 0.5], np.float32)


def episodes(config=None, count=200, ticks=60, label=LABEL, seed=0):
    """Executed actions (count, ticks, 2)."""
    noise = DemonstrationNoise(BOX, np.random.default_rng(seed), config)
    out = []
    for _ in range(count):
        noise.reset()
        out.append([noise.perturb(label) for _ in range(ticks)])
    return np.array(out)


def test_three_quarters_of_the_episodes_are_noisy():
    clean = (episodes() == LABEL).all(axis=(1, 2))
    assert 1 - clean.mean() == pytest.approx(0.75, abs=0.08)


def test_executed_actions_stay_within_bounds_and_the_label_is_untouched():
    label = LABEL.copy()
    executed = episodes(label=label)
    assert executed.dtype == np.float32
    assert (executed >= BOX.low).all()
    assert (executed <= BOX.high).all()
    np.testing.assert_array_equal(label, LABEL)


def test_bursts_hold_one_random_action_for_a_while():
    config = NoiseConfig(noisy_episodes=1, max_deviation=0)
    executed = episodes(config, count=100)
    strays = (executed != LABEL).any(axis=2)
    lengths = []
    for episode, stray in zip(executed, strays, strict=True):
        length = 0
        for tick in range(len(stray) - 1):
            length = length + 1 if stray[tick] else 0
            if length and (episode[tick] != episode[tick + 1]).any():
                lengths.append(length)
                length = 0
    assert min(lengths) == 2
    assert max(lengths) == 11
    # started with probability .04 on a free tick, lasting 6.5 on average
    assert strays.mean() == pytest.approx(0.04 * 6.5 / (1 + 0.04 * 5.5), abs=0.05)


def test_gaussian_deviation_differs_between_episodes_up_to_its_maximum():
    config = NoiseConfig(noisy_episodes=1, burst_probability=0)
    middle = np.array([0.3, 0.0], np.float32)
    label = middle + np.array([0.06, 0.2], np.float32)
    deviations = ((episodes(config, label=label) - label) / [0.3, 1.0]).std(axis=(1, 2))
    assert deviations.max() < 0.36
    assert deviations.min() < 0.05
    assert deviations.mean() == pytest.approx(0.15, abs=0.03)


def test_standing_still_is_executed_without_gaussian_noise():
    config = NoiseConfig(noisy_episodes=1, burst_probability=0)
    still = np.zeros(2, np.float32)
    assert (episodes(config, label=still, count=10) == still).all()


def test_same_generator_gives_the_same_noise():
    np.testing.assert_array_equal(episodes(count=5), episodes(count=5))
    assert (episodes(count=5) != episodes(count=5, seed=1)).any()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"noisy_episodes": 2}, "noisy_episodes=2"),
        ({"burst_probability": -0.1}, "burst_probability=-0.1"),
        ({"burst_ticks": (5, 2)}, "burst_ticks="),
        ({"max_deviation": -1}, "max_deviation=-1"),
    ],
)
def test_impossible_noise_is_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        NoiseConfig(**kwargs)


def test_unbounded_actions_are_refused():
    with pytest.raises(ValueError, match="bounded"):
        DemonstrationNoise(spaces.Box(-np.inf, np.inf, (2,)), np.random.default_rng(0))
