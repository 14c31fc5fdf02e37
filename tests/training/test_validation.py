"""Imitation keeps the policy that did best on seeds of its own, and ends when nothing better comes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mcsd_agent.errors import UserError
from mcsd_agent.heads import LabelLoss, make_head
from mcsd_agent.policy import Policy, PolicyConfig
from mcsd_agent.spaces import BoxSpec, DiscreteSpec, MultiDiscreteSpec
from mcsd_agent.strict import build
from mcsd_agent.training.config import ImitateConfig
from mcsd_agent.training.episodes import Episode
from mcsd_agent.training.imitation import ImitationConfig, train_by_imitation
from mcsd_agent.training.runs import success_of


def episodes(n: int = 8, length: int = 6) -> list[Episode]:
    rng = np.random.default_rng(0)
    shown = rng.integers(0, 3, (n, length))
    return [
        Episode(i, {"observation": s}, s.copy(), s.copy(), np.zeros(length, np.float32), True, True)
        for i, s in enumerate(shown)
    ]


def learned(score, **settings) -> tuple[Policy, int]:
    torch.manual_seed(0)
    policy = Policy({"observation": DiscreteSpec(3)}, DiscreteSpec(3), PolicyConfig(width=16, layers=1))
    updates = []
    config = ImitationConfig(updates=40, dagger_rounds=0, ema=0.0, validate_every=5, **settings)
    average = train_by_imitation(
        policy, episodes(), config, score=score, on_progress=lambda p: updates.append(p.update), report_every=1
    )
    return average, max(updates)


def test_the_best_policy_is_kept_and_patience_ends_a_run() -> None:
    seen: list[dict] = []

    def score(policy: Policy) -> float:
        seen.append({k: v.clone() for k, v in policy.state_dict().items()})
        return [0.1, 0.5, 0.9, 0.2, 0.9, 0.3, 0.4, 0.5][len(seen) - 1]

    kept, updates = learned(score, patience=4)
    assert (updates, len(seen)) == (35, 7)  # the fifth try was as good as the third: it is kept, but no better
    assert all(torch.equal(v, seen[4][k]) for k, v in kept.state_dict().items())


def test_without_patience_a_run_goes_on_to_its_end() -> None:
    tries = []
    kept, updates = learned(lambda policy: tries.append(policy) or -float(len(tries)))
    assert (updates, len(tries)) == (40, 8)
    assert kept is tries[0]  # one policy, with the weights of the first try again


def test_success_is_that_of_the_evaluations_groups() -> None:
    config = build(
        ImitateConfig,
        {
            "record": {"env": "mcsd/Nav-v0"},
            "imitation": {"validate_every": 10, "validate_episodes": 4},
            "evaluation": {"groups": {"one": {"parts": [1.0, 0.0]}, "two": {}}},
        },
    )

    def policy_of(env_id: str) -> Policy:
        from mcsd_agent.training.runs import policy_for

        return policy_for(env_id, {}, PolicyConfig(width=16, layers=1), 0)

    assert 0.0 <= success_of(policy_of("mcsd/Nav-v0"), config) <= 1.0
    unsaid = build(ImitateConfig, {"record": {"env": "CartPole-v1"}, "imitation": {"validate_every": 10}})
    with pytest.raises(UserError, match="does not say is_success"):
        success_of(policy_of("CartPole-v1"), unsaid)


def test_a_smooth_label_is_a_mixture_of_the_label_and_of_all() -> None:
    torch.manual_seed(0)
    how = LabelLoss(smoothing=0.2)
    one, several = make_head(DiscreteSpec(4), "gaussian", (9,)), make_head(MultiDiscreteSpec((2, 4)), "gaussian", (9,))
    binned = make_head(BoxSpec((2,), low=(-1.0, 0.0), high=(1.0, 3.0)), "binned", (3, 5))
    parameters, label = torch.randn(7, 4), torch.randint(0, 4, (7,))
    wanted = F.cross_entropy(parameters, label, reduction="none", label_smoothing=0.2)
    torch.testing.assert_close(one.imitation_loss(parameters, label, how), wanted)
    first, labels = torch.randn(7, 2), torch.stack([torch.randint(0, 2, (7,)), label], -1)
    both = several.imitation_loss(torch.cat([first, parameters], -1), labels, how)
    torch.testing.assert_close(
        both, wanted + F.cross_entropy(first, labels[:, 0], reduction="none", label_smoothing=0.2)
    )
    logits = torch.randn(7, 10)
    actions = torch.rand(7, 2) * torch.tensor([2.0, 3.0]) + torch.tensor([-1.0, 0.0])
    everything = sum(
        torch.stack([-torch.log_softmax(row[:, :n], -1)[:, i] for i in range(n)], -1).mean(-1)
        for row, n in zip(logits.unflatten(-1, (2, 5)).unbind(1), (3, 5), strict=True)
    )
    mixed = 0.8 * binned.imitation_loss(logits, actions) + 0.2 * everything
    torch.testing.assert_close(binned.imitation_loss(logits, actions, how), mixed)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing=1.0"),
        ({"patience": 3}, "set imitation.validate_every"),
        ({"validate_every": -1}, "validate_every=-1"),
    ],
)
def test_impossible_values_are_refused(settings: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        ImitationConfig(**settings)


def test_means_cannot_be_smoothed() -> None:
    head = make_head(BoxSpec((1,), low=(-1.0,), high=(1.0,)), "gaussian", (9,))
    with pytest.raises(UserError, match=r"policy\.head=binned"):
        head.imitation_loss(torch.zeros(3, 1), torch.zeros(3, 1), LabelLoss(smoothing=0.1))


@pytest.mark.parametrize("name", ["gaussian", "squashed"])
def test_a_small_huber_makes_small_errors_count_as_much_as_large_ones(name: str) -> None:
    head = make_head(BoxSpec((1,), low=(-2.0,), high=(2.0,)), name, (9,))
    parameters = torch.zeros(3, head.size)
    actions = torch.tensor([[0.2], [0.4], [1.8]])  # errors of 0.1, 0.2 and 0.9 half ranges
    plain, sharp = (head.imitation_loss(parameters, actions, LabelLoss(huber=h)) for h in (0.5, 0.05))
    torch.testing.assert_close(plain, torch.tensor([0.005, 0.02, 0.325]))
    torch.testing.assert_close(sharp[1] - sharp[0], torch.tensor(0.05))  # 0.1 more at a slope of 0.5
    torch.testing.assert_close(sharp[2] - sharp[1], torch.tensor(0.35))
