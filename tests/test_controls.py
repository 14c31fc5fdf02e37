"""What each control is, against a plain statement of its mathematics; the rules of all are in test_backbone."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from mcsd_agent.controls import StateSpaceControl, TransformerControl, state_space
from mcsd_agent.errors import UserError
from mcsd_agent.policy import PolicyConfig

WIDTH = 16


def transformer(window: int, layers: int = 2) -> TransformerControl:
    torch.manual_seed(0)
    return TransformerControl(WIDTH, layers, window, heads=2).double()


def tokens(time: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, time, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def zeros(net, batch: int = 2) -> torch.Tensor:
    return torch.zeros(batch, net.layers, net.state_size, dtype=torch.float64)


def attention_token_by_token(attention, xs: torch.Tensor) -> torch.Tensor:
    """Every query against each of the last `window` keys, turned by their distance alone."""
    window, heads = attention.window, attention.heads
    query, key, value = (p.unflatten(-1, (heads, -1)) for p in attention.inward(xs).chunk(3, -1))
    head = query.shape[-1]
    pairs = attention.cos.shape[1]
    turn = torch.complex(attention.cos[1 % window], attention.sin[1 % window])  # by one token
    ys = []
    for t in range(xs.shape[1]):
        seen = range(max(0, t - window + 1), t + 1)
        scores = []
        for s in seen:
            q, k = query[:, t], key[:, s]
            turned = torch.complex(q[..., :pairs], q[..., pairs : 2 * pairs]) * turn ** (t - s)
            kept = torch.complex(k[..., :pairs], k[..., pairs : 2 * pairs])
            score = (turned * kept.conj()).real.sum(-1) + (q[..., 2 * pairs :] * k[..., 2 * pairs :]).sum(-1)
            scores.append(score / math.sqrt(head))
        weights = torch.stack(scores, 1).softmax(1)
        ys.append((weights[..., None] * value[:, list(seen)]).sum(1))
    return attention.outward(torch.stack(ys, 1).flatten(2))


@pytest.mark.parametrize("window", [1, 2, 8, 64])
def test_attention_weighs_the_last_tokens_by_content_and_distance(window):
    net = transformer(window, layers=1)
    attention = net.stack[0].mixer
    found, _ = attention.scan(tokens(30), zeros(net)[:, 0], None)
    # The tables are rounded to float32, and powers of one turn multiply its error.
    torch.testing.assert_close(found, attention_token_by_token(attention, tokens(30)), rtol=0, atol=1e-5)


def test_what_a_transformer_no_longer_sees_has_no_influence_and_where_counting_began_neither():
    net = transformer(window=5)
    reach = net.layers * (net.window - 1) + 1
    xs = tokens(60)
    ys, _ = net.scan(xs, zeros(net))
    for begin in (7, 13, 31):
        late, _ = net.scan(xs[:, begin:], zeros(net))
        torch.testing.assert_close(
            late[:, reach - 1 :], ys[:, begin + reach - 1 :], rtol=0, atol=2e-6
        )  # tables: float32
        assert (late[:, reach - 2] - ys[:, begin + reach - 2]).abs().max() > 1e-5, "the reach is no shorter"


def test_a_ring_counts_for_ever_in_small_numbers():
    net = transformer(window=3, layers=1)
    state, counts = zeros(net, 1), []
    for t in range(12):
        _, state = net.step(tokens(12, 1)[:, t], state)
        counts.append(int(state[0, 0, -1]))
    assert counts == [1, 2, 3, 4, 5, 3, 4, 5, 3, 4, 5, 3]


def test_a_whole_episode_without_a_state_is_a_scan_from_a_fresh_one():
    net = transformer(window=20)
    for time in (1, 13, 20):
        torch.testing.assert_close(net(tokens(time)), net.scan(tokens(time), zeros(net))[0], rtol=0, atol=1e-12)
    with pytest.raises(UserError, match="21 tokens do not fit window=20"):
        net(tokens(21))


@pytest.mark.parametrize(("arguments", "words"), [({"window": 0}, "window=0"), ({"heads": 3}, "multiple of heads=3")])
def test_impossible_transformers_are_refused_with_the_value(arguments, words):
    with pytest.raises(UserError, match=words):
        TransformerControl(WIDTH, 1, **arguments)


@pytest.mark.parametrize("backbone", ["transformer", "ssm", "mingru", "none"])
@pytest.mark.parametrize("key", ["width", "expansion", "window"])
def test_impossible_sizes_of_a_policy_are_refused_with_the_value(backbone, key):
    with pytest.raises(UserError, match=f"{key}=0 must be at least 1"):
        PolicyConfig(backbone=backbone, **{key: 0})


def state_space_by_loops(block, xs: torch.Tensor) -> torch.Tensor:
    """The equations at the head of `state_space`, one token and one feature at a time, from zeros."""
    x, z = block.inward(xs).chunk(2, -1)
    batch, time, inner = x.shape
    padded = F.pad(x, (0, 0, 3, 0))
    x = F.silu(torch.stack([(padded[:, t : t + 4] * block.taps).sum(1) for t in range(time)], 1))
    low, write, read = block.select(x).split([block.rank, block.states, block.states], -1)
    delta = F.softplus(block.to_step(low))
    rates = -block.log_rate.exp().view(inner, block.states)
    y = torch.zeros_like(x)
    for e in range(inner):
        h = torch.zeros(batch, block.states, dtype=x.dtype)
        for t in range(time):
            d = delta[:, t, e, None]
            h = torch.exp(d * rates[e]) * h + d * x[:, t, e, None] * write[:, t]
            y[:, t, e] = (h * read[:, t]).sum(-1) + block.skip[e] * x[:, t, e]
    return block.outward(F.silu(z) * y)


def test_a_state_space_block_is_its_equations():
    torch.manual_seed(0)
    net = StateSpaceControl(WIDTH, 1, states=3).double()
    block = net.stack[0].mixer
    with torch.no_grad():
        found, _ = block.scan(tokens(11), zeros(net)[:, 0], None)
        torch.testing.assert_close(found, state_space_by_loops(block, tokens(11)), rtol=0, atol=1e-12)


def test_features_a_few_at_a_time_give_the_same_outputs_and_gradients(monkeypatch):
    torch.manual_seed(0)
    net = StateSpaceControl(WIDTH, 2, states=3).double()
    starts = torch.rand(2, 20, generator=torch.Generator().manual_seed(3)) < 0.2

    def run():
        net.zero_grad()
        xs = tokens(20).requires_grad_()
        ys, final = net.scan(xs, zeros(net), starts)
        (ys.square().sum() + final.square().sum()).backward()
        return [ys.detach(), final.detach(), xs.grad, *(p.grad.clone() for p in net.parameters())]

    at_once = run()
    monkeypatch.setitem(state_space._HISTORY, "cpu", 2 * 20 * 3 * 5)  # five of the 32 features
    for a, b in zip(run(), at_once, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
