"""Left and right exchanged in vectors."""

from __future__ import annotations

import numpy as np
import pytest

from mcsd_agent.errors import UserError
from mcsd_agent.policy import Policy, PolicyConfig
from mcsd_agent.spaces import BoxSpec
from mcsd_agent.training.batches import Batches
from mcsd_agent.training.episodes import Episode
from mcsd_agent.training.imitation import ImitationConfig
from mcsd_agent.training.mirror import Mirror


@pytest.fixture
def policy():
    action = BoxSpec((2,), low=(-1.0, -1.0), high=(1.0, 1.0))
    return Policy({"observation": BoxSpec((3,))}, action, PolicyConfig(width=16, channels=4, layers=1))


def episode(rng: np.random.Generator, ticks: int) -> Episode:
    seen = rng.standard_normal((ticks, 3)).astype(np.float32)
    done = seen[:, :2] * np.float32(0.1)
    return Episode(0, {"observation": seen}, done, done, np.zeros(ticks, np.float32), True, True)


def test_half_of_the_episodes_are_turned_as_a_whole_and_their_actions_with_them(policy):
    batches = Batches(policy, 40, np.random.default_rng(0), mirror={"observation": (0,), "action": (0,)})
    shown = episode(np.random.default_rng(1), 10)
    batches.add([shown] * 4)
    turned = 0
    for _ in range(50):
        batch = next(batches)
        for seen, done in zip(batch.observations["observation"].numpy(), batch.labels.numpy(), strict=True):
            sign = np.sign(seen[0, 0] * shown.observations["observation"][0, 0])
            turned += sign < 0
            np.testing.assert_array_equal(seen, shown.observations["observation"] * np.float32([sign, 1, 1]))
            np.testing.assert_array_equal(done, shown.actions * np.float32([sign, 1]))
    assert 70 <= turned <= 130


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"observatoin": (0,), "action": (0,)}, "did you mean 'observation'"),
        ({"observation": (3,), "action": (0,)}, "3 must be from 0 to 2"),
        ({"observation": (0,)}, "'action'"),
    ],
)
def test_what_cannot_be_mirrored_is_one_line(policy, changes, words):
    with pytest.raises(UserError, match=words):
        Mirror(policy, changes)


def test_cells_and_vectors_are_not_exchanged_together(policy):
    config = ImitationConfig(augment=("mirror",), mirror={"action": ()})
    with pytest.raises(UserError, match="give one of them"):
        Batches(policy, 10, np.random.default_rng(0), config.augment, config.mirror)
