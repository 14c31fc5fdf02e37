"""What a policy may act in, and learn from: ranges of actions, and demonstrations of its own environment."""

from __future__ import annotations

import re

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from mcsd_agent.errors import UserError
from mcsd_agent.policy import Policy, PolicyConfig
from mcsd_agent.spaces import BoxSpec, DiscreteSpec, MultiDiscreteSpec, Spec, spec_from_space
from mcsd_agent.training.episodes import Episode
from mcsd_agent.training.policy_fit import check_demonstrations_fit, check_policy_fits

TINY = PolicyConfig(width=16, layers=1)


class Acting(gymnasium.Env):
    """Does nothing, within the given bounds."""

    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, low: list[float], high: list[float]) -> None:
        self.action_space = spaces.Box(np.array(low, np.float32), np.array(high, np.float32))


def policy_from(low: list[float], high: list[float], head: str = "gaussian") -> Policy:
    env = Acting(low, high)
    config = PolicyConfig(width=16, layers=1, head=head)  # type: ignore[arg-type]
    return Policy({"observation": BoxSpec((2,))}, spec_from_space(env.action_space), config)


@pytest.mark.parametrize("head", ["gaussian", "squashed", "binned"])
def test_actions_of_another_range_are_refused_with_both_ranges(head):
    policy = policy_from([-1, -1], [1, 1], head)
    check_policy_fits(policy, Acting([-1, -1], [1, 1]))
    with pytest.raises(
        UserError, match=r"is from -1 to 1, that of .* from -2 to 2; use the environment with"
    ) as refused:
        check_policy_fits(policy, Acting([-2, -2], [2, 2]))
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match=re.escape("from -1 to [1, 3]; use")):
        check_policy_fits(policy, Acting([-1, -1], [1, 3]))


def test_rounding_of_bounds_and_bounds_that_are_not_there_make_no_other_range():
    check_policy_fits(policy_from([-0.3], [0.3]), Acting([-0.3 + 1e-8], [0.3]))
    infinite = float("inf")
    check_policy_fits(policy_from([-2], [2]), Acting([-infinite], [infinite]))  # as ClipAction makes it
    with pytest.raises(UserError, match=r"from -2 to 2, that of .* from -1 to inf"):
        check_policy_fits(policy_from([-2], [2]), Acting([-1], [infinite]))


def test_a_robot_may_be_slower_than_the_simulation():
    slow = Acting([-0.3], [0.3])
    slow.metadata = {"render_modes": [], "real_time": True}
    check_policy_fits(policy_from([-1], [1]), slow)


def learner(action: Spec) -> Policy:
    return Policy({"position": BoxSpec((6,))}, action, TINY)


def shown(observations: dict, labels: np.ndarray) -> Episode:
    return Episode(0, observations, labels, labels, np.zeros(3, np.float32), True, None, "")


SEEN = {"position": np.zeros((3, 6), np.float32)}
CHOICES = np.array([0, 1, 2])


def test_demonstrations_of_the_environment_fit():
    check_demonstrations_fit([shown(SEEN, CHOICES)], learner(DiscreteSpec(3)), "X-v0")
    check_demonstrations_fit([shown(SEEN, np.zeros((3, 2)))], learner(BoxSpec((2,), low=(-1.0,), high=(1.0,))), "X-v0")
    both = np.array([[1, 4]] * 3)
    check_demonstrations_fit([shown({**SEEN, "more": CHOICES}, both)], learner(MultiDiscreteSpec((2, 5))), "X-v0")


@pytest.mark.parametrize(
    ("observations", "labels", "words"),
    [
        (
            {"position": np.zeros((3, 4))},
            CHOICES,
            r"'position' is of shape \(4,\) in the demonstrations, and of shape \(6,\)",
        ),
        (
            {"positions": np.zeros((3, 6))},
            CHOICES,
            "no observation 'position', which X-v0 has; did you mean 'positions'",
        ),
        ({"position": ["a", "b", "c"]}, CHOICES, "'position' is text in the demonstrations, and box in X-v0"),
        (SEEN, np.zeros((3, 2)), r"an action is of shape \(2,\) in the demonstrations, and of shape \(\) in X-v0"),
        (SEEN, CHOICES + 1, "an action is from 1 to 3 in the demonstrations, and one of 3 choices in X-v0"),
    ],
)
def test_demonstrations_of_another_environment_are_one_clear_line(observations, labels, words):
    good = shown(SEEN, CHOICES)
    with pytest.raises(UserError, match=words) as refused:
        check_demonstrations_fit([good, shown(observations, labels)], learner(DiscreteSpec(3)), "X-v0")
    assert "set record.env to the one they are of" in str(refused.value)
    assert "\n" not in str(refused.value)
