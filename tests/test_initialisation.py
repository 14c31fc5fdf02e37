"""A fresh backbone neither blows up what it is given nor lets it fade, however deep it is."""

from __future__ import annotations

import itertools

import pytest
import torch

from mcsd_agent.backbone import MCSDBackbone
from mcsd_agent.cell import MCSDConfig

WIDTH = 64


def streams(net: MCSDBackbone, xs: torch.Tensor) -> list[torch.Tensor]:
    """The residual stream before the first layer and after every layer."""
    state = torch.zeros(xs.shape[0], net.layers, net.state_size)
    found = [xs]
    with torch.no_grad():
        ys, _ = net.scan(xs, state)
        for i, (cell, mlp) in enumerate(zip(net.cells, net.mlps, strict=True)):
            mixed, _ = cell.scan(net.norms[2 * i](xs), state[:, i])
            xs = xs + mixed
            xs = xs + mlp(net.norms[2 * i + 1](xs))
            found.append(xs)
    torch.testing.assert_close(net.norms[-1](xs), ys, rtol=1e-4, atol=1e-4)  # this is what the backbone does
    return found


@pytest.mark.parametrize("depth", [1, 2, 3, 6, 12, 24])
@pytest.mark.parametrize("preset", ["paper", "extended"])
@pytest.mark.parametrize("tokens", ["independent", "the same for ever"])
def test_the_variance_of_the_residual_stream_stays_near_one_after_every_layer(preset, depth, tokens):
    torch.manual_seed(depth)
    net = MCSDBackbone(MCSDConfig.preset(preset, width=WIDTH), depth)
    xs = torch.randn(8, 64, WIDTH) if tokens == "independent" else torch.randn(32, 1, WIDTH).expand(-1, 16, -1)
    variances = [float(x.square().mean()) for x in streams(net, xs)]
    assert min(variances) > 0.5
    assert max(variances) < 2.0


@pytest.mark.parametrize("preset", ["paper", "extended"])
def test_every_layer_of_a_deep_backbone_has_a_say(preset):
    torch.manual_seed(0)
    net = MCSDBackbone(MCSDConfig.preset(preset, width=WIDTH), 24)
    seen = streams(net, torch.randn(4, 64, WIDTH))
    shares = [float((after - before).square().mean()) for before, after in itertools.pairwise(seen)]
    assert max(shares) < 3 * min(shares)
