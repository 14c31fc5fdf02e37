from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mcsd_agent.encoders import EncoderConfig, VectorEncoder
from mcsd_agent.errors import UserError
from mcsd_agent.heads import (
    BinnedHead,
    CategoricalHead,
    GaussianHead,
    MultiCategoricalHead,
    SquashedGaussianHead,
)
from mcsd_agent.language import Vocabulary
from mcsd_agent.policy import Policy, PolicyConfig
from mcsd_agent.spaces import BoxSpec, DiscreteSpec, MultiDiscreteSpec, TextSpec

VOCABULARY = Vocabulary.from_texts(["go to the red ball, then the blue box"], max_words=9)
SPECS = {
    "ranges": BoxSpec((5,), low=(0.0,), high=(4.0,)),
    "labels": MultiDiscreteSpec((3,) * 5),
    "camera": BoxSpec((8, 8, 3), dtype="uint8", low=(0.0,), high=(255.0,)),
    "speed": BoxSpec((2,)),
    "gear": DiscreteSpec(3),
    "instruction": TextSpec(9),
}


def observations(batch: int, time: int, seed: int = 0) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    ids = torch.stack([torch.from_numpy(VOCABULARY.encode(t)) for t in ("go to the red ball", "the blue box", "")])
    return {
        "ranges": 4 * torch.rand(batch, time, 5, generator=g),
        "labels": torch.randint(0, 3, (batch, time, 5), generator=g),
        "camera": torch.randint(0, 256, (batch, time, 8, 8, 3), generator=g, dtype=torch.uint8),
        "speed": torch.randn(batch, time, 2, generator=g),
        "gear": torch.randint(0, 3, (batch, time), generator=g),
        "instruction": ids[torch.randint(0, 3, (batch, time), generator=g)],
    }


def make(tokens="sum", backbone="mcsd", head="binned", **kwargs) -> Policy:
    torch.manual_seed(0)
    encoder = EncoderConfig(scan=("ranges", "labels"), tokens=tokens)
    config = PolicyConfig(backbone=backbone, width=16, channels=4, head=head, bins=(5, 9), encoder=encoder, **kwargs)
    return Policy(SPECS, BoxSpec((2,), low=(0.0, -1.5), high=(0.6, 1.5)), config, VOCABULARY)


@pytest.mark.parametrize(
    ("tokens", "listens"), [("sum", False), ("per_entry", False), ("sum", True), ("per_entry", True)]
)
@pytest.mark.parametrize("backbone", ["mcsd", "gru", "lstm", "transformer", "ssm", "mingru", "none"])
def test_scan_equals_step_for_every_kind_of_observation(tokens, listens, backbone):
    policy = make(tokens, backbone, listens=listens).double()
    obs = {k: v.double() if v.dtype == torch.float32 else v for k, v in observations(3, 12).items()}
    starts = torch.rand(3, 12, generator=torch.Generator().manual_seed(2)) < 0.2
    state = policy.initial_state(3)
    features, final = policy.scan(obs, state, starts)
    for t in range(12):
        feature, state = policy.step({k: v[:, t] for k, v in obs.items()}, state, starts[:, t])
        torch.testing.assert_close(feature, features[:, t], rtol=0, atol=1e-10)
    torch.testing.assert_close(state, final, rtol=0, atol=1e-10)


def test_per_entry_streams_one_token_per_entry():
    assert make("per_entry").encoder.tokens_per_tick == 5  # instruction, scan, camera, speed, gear
    assert make("sum").encoder.tokens_per_tick == 1


def test_each_entry_changes_the_action():
    policy = make()
    with torch.no_grad():
        policy.action_net[-1].weight.mul_(100.0)
    obs = {k: v[:, 0] for k, v in observations(1, 1).items()}
    other = {k: v[:, 0] for k, v in observations(1, 1, seed=7).items()}
    other["instruction"] = torch.from_numpy(VOCABULARY.encode("then the box"))[None]
    base, _ = policy.act(obs, policy.initial_state())
    for name in SPECS:
        changed, _ = policy.act({**obs, name: other[name]}, policy.initial_state())
        assert not torch.equal(changed, base), name


def test_word_order_changes_the_instruction_code():
    policy = make()
    a, b = (torch.from_numpy(VOCABULARY.encode(t))[None] for t in ("red ball then blue box", "blue box then red ball"))
    assert not torch.allclose(policy.encoder.instruction(a).code, policy.encoder.instruction(b).code, atol=1e-3)


def test_actions_stay_within_bounds_for_wild_parameters():
    spec = BoxSpec((2,), low=(0.0, -1.5), high=(0.6, 1.5))
    low, high = torch.tensor([0.0, -1.5]), torch.tensor([0.6, 1.5])
    for head in (GaussianHead(spec), SquashedGaussianHead(spec), BinnedHead(spec, (5, 9))):
        action = head.mode(50 * torch.randn(200, head.size))
        assert (action >= low - 1e-6).all()
        assert (action <= high + 1e-6).all()


@pytest.mark.parametrize(
    "head",
    [
        CategoricalHead(DiscreteSpec(4)),
        MultiCategoricalHead(MultiDiscreteSpec((2, 5, 3))),
        SquashedGaussianHead(BoxSpec((2,), low=(0.0, -1.5), high=(0.6, 1.5))),
        GaussianHead(BoxSpec((2,), low=(0.0, -1.0), high=(1.0, 1.0))),
        BinnedHead(BoxSpec((2,), low=(0.0, -1.5), high=(0.6, 1.5)), (3, 5)),
    ],
)
def test_log_probabilities_and_entropy_agree_with_sampling(head):
    torch.manual_seed(0)
    parameters = torch.randn(head.size).expand(40_000, -1)
    log_p = head.log_prob(parameters, head.sample(parameters))
    assert -log_p.mean().item() == pytest.approx(head.entropy(parameters).mean().item(), abs=0.02)


def test_a_squashed_gaussian_spends_probability_one_within_its_bounds():
    head = SquashedGaussianHead(BoxSpec((1,), low=(0.5,), high=(2.5,)))
    parameters = torch.tensor([0.7, -0.3])
    actions = torch.linspace(0.5, 2.5, 20_001)[1:-1, None]
    assert (head.log_prob(parameters, actions).exp().sum() * 2.0 / 20_000).item() == pytest.approx(1.0, abs=1e-3)
    action, log_prob = head.rsample_with_log_prob(parameters.expand(100, -1))
    torch.testing.assert_close(head.log_prob(parameters, action), log_prob, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("head", "mask"),
    [
        (CategoricalHead(DiscreteSpec(3)), [True, False, True]),
        (MultiCategoricalHead(MultiDiscreteSpec((2, 3))), [False, True, True, False, True]),
    ],
)
def test_masked_actions_are_never_taken_and_carry_no_entropy(head, mask):
    torch.manual_seed(0)
    allowed = torch.tensor(mask)
    parameters = head.masked(torch.randn(head.size), allowed).expand(5000, -1)
    actions = torch.cat([head.sample(parameters), head.mode(parameters)[:1]])
    firsts = [0] if actions.ndim == 1 else [0, 2]
    for column, first in zip(actions.reshape(len(actions), -1).T, firsts, strict=True):
        assert allowed[first + column].all()
    entropy = head.entropy(parameters)
    assert torch.isfinite(entropy).all()
    assert (entropy <= np.log(2) * len(firsts)).all()


def test_binned_head_learns_the_value_between_its_bins_and_never_averages_two_modes():
    head = BinnedHead(BoxSpec((1,), low=(-1.0,), high=(1.0,)), (9,))

    def fit(targets: list[float]) -> float:
        parameters = torch.zeros(1, head.size, requires_grad=True)
        optimiser = torch.optim.Adam([parameters], 0.1)
        for _ in range(400):
            loss = sum(head.imitation_loss(parameters, torch.tensor([[t]])).mean() for t in targets)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return head.mode(parameters).item()

    assert fit([0.3]) == pytest.approx(0.3, abs=0.02)
    assert abs(fit([-0.75, 0.75, 0.75])) == pytest.approx(0.75, abs=0.05)


def test_running_statistics_match_all_data_however_it_is_split():
    torch.manual_seed(0)
    data = 5.0 + 3.0 * torch.randn(1000, 2)
    whole, parts = VectorEncoder(BoxSpec((2,)), 4), VectorEncoder(BoxSpec((2,)), 4)
    whole.update_statistics(data)
    for piece in data.split(77):
        parts.update_statistics(piece)
    torch.testing.assert_close(parts.mean, whole.mean)
    torch.testing.assert_close(parts.scale, whole.scale)
    torch.testing.assert_close(whole.mean, data.mean(0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: PolicyConfig(layers=0), "layers=0"),
        (lambda: EncoderConfig(scan=("ranges",)), "range entry and the label entry"),
        (lambda: Policy({"text": TextSpec(4)}, DiscreteSpec(2)), "vocabulary"),
        (lambda: Policy({"x": BoxSpec((2,))}, TextSpec(3)), "actions of kind text"),
        (lambda: Policy({"x": BoxSpec((2,))}, BoxSpec((1,)), PolicyConfig(head="binned")), "finite action bounds"),
        (
            lambda: Policy({"x": BoxSpec((2,))}, DiscreteSpec(2), PolicyConfig(encoder=EncoderConfig(scan=("y", "x")))),
            "'y'",
        ),
    ],
)
def test_impossible_policies_are_refused_in_one_line(build, words):
    with pytest.raises(UserError, match=words) as error:
        build()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("backbone", ["mcsd", "gru"])
def test_a_memory_of_zeros_is_an_episode_start(backbone):
    torch.manual_seed(0)
    policy = Policy({"x": BoxSpec((3,))}, BoxSpec((2,)), PolicyConfig(backbone=backbone, width=16, layers=1)).double()
    seen = {"x": torch.randn(2, 3, dtype=torch.float64)}
    _, lived = policy.step(seen, policy.initial_state(2))
    lived[1] = 0.0
    features, _ = policy.step(seen, lived)
    started, _ = policy.step(seen, lived, torch.tensor([True, True]))
    torch.testing.assert_close(features[1], started[1])
    assert (features[0] - started[0]).abs().max() > 1e-3


def test_categories_are_one_hot_entry_after_entry():
    """The order of the weights' columns, which policies on disk have."""
    encoder = VectorEncoder(MultiDiscreteSpec((3, 2, 4)), 5)
    x = torch.tensor([[0, 1, 3], [2, 0, 1]])
    hot = torch.cat([F.one_hot(x[:, i], n) for i, n in enumerate((3, 2, 4))], 1).float()
    torch.testing.assert_close(encoder(x), encoder.linear(hot))
