"""The residual stream that transformer, state-space model and minGRU share; only what mixes over time differs.

One layer is `x + mixer(norm(x))` and, where it has an MLP, then `x + mlp(norm(x))`; outputs pass a final norm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from mcsd_agent.backbone import GatedMLP
from mcsd_agent.kernels.row_operators import norm

_EPSILON = 1e-6

#: Four factors of this size have a product in float32.
_LARGEST = 1e9


def normed(module: nn.RMSNorm, x: Tensor) -> Tensor:
    """`module(x)`, by the fused kernel where there is one."""
    return module(x) if torch.compiler.is_exporting() else norm(x, module.weight, _EPSILON)


class Mixer(Protocol):
    """What mixes tokens over time inside one layer. Its state is one tensor `(batch, state_size)`."""

    state_size: int

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """`(batch, width)` to `(batch, width)` and the next state, which is zeros before an episode begins."""
        ...

    def scan(self, xs: Tensor, state: Tensor, starts: Tensor | None) -> tuple[Tensor, Tensor]:
        """`(batch, time, width)` to the same shape and the final state; `starts` `(batch, time)` is boolean."""
        ...


class ResidualLayer(nn.Module):
    """A mixer, and an MLP or none, each with its norm in front of it."""

    def __init__(self, width: int, mixer: nn.Module, mlp: GatedMLP | None) -> None:
        super().__init__()
        self.norm, self.mixer = nn.RMSNorm(width, eps=_EPSILON), mixer
        if mlp is not None:
            self.mlp_norm = nn.RMSNorm(width, eps=_EPSILON)
        self.mlp = mlp

    def add(self, x: Tensor, mixed: Tensor) -> Tensor:
        """The residual stream after this layer, from the one before it and what its mixer made of that."""
        x = x + mixed
        return x if self.mlp is None else x + self.mlp(normed(self.mlp_norm, x))


class ResidualStack(nn.Module):
    """Layers of `mixers`, each with its own of `mlps` unless there are none; a `Backbone`."""

    def __init__(self, width: int, mixers: Sequence[nn.Module], mlps: Sequence[GatedMLP] = ()) -> None:
        super().__init__()
        self.layers = len(mixers)
        branches: Sequence[GatedMLP | None] = mlps or [None] * len(mixers)
        self.stack = nn.ModuleList(ResidualLayer(width, *both) for both in zip(mixers, branches, strict=True))
        self.norm = nn.RMSNorm(width, eps=_EPSILON)
        self.state_size = cast(Mixer, mixers[0]).state_size

    def walk(self) -> Iterator[tuple[int, ResidualLayer, Mixer]]:
        """The layers in order: index, layer, its mixer."""
        for i, layer in enumerate(cast(Sequence[ResidualLayer], self.stack)):
            yield i, layer, cast(Mixer, layer.mixer)

    def step(self, x: Tensor, state: Tensor, episode_starts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One token; see `backbone.Backbone`."""
        if episode_starts is not None:
            state = state.masked_fill(episode_starts.bool()[:, None, None], 0.0)
        states = []
        for i, layer, mixer in self.walk():
            mixed, layer_state = mixer.step(normed(layer.norm, x), state[:, i])
            x = layer.add(x, mixed)
            states.append(layer_state)
        return normed(self.norm, x), torch.stack(states, 1)

    def scan(self, xs: Tensor, state: Tensor, episode_starts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """A whole sequence; see `backbone.Backbone`."""
        starts = None if episode_starts is None else episode_starts.bool()
        if starts is not None:
            # Mixers give what an episode start cuts off the weight 0, and 0 * inf is NaN: keep it away from them.
            ahead = starts.flip(1).cumsum(1).flip(1)  # starts from this token on
            cut_off = ahead > starts.long()
            state = _tame(state, (ahead[:, 0] > 0)[:, None, None])
        states = []
        for i, layer, mixer in self.walk():
            tokens = normed(layer.norm, xs)
            if starts is not None:
                tokens = _tame(tokens, cut_off[..., None])
            mixed, layer_state = mixer.scan(tokens, state[:, i], starts)
            xs = layer.add(xs, mixed)
            states.append(layer_state)
        return normed(self.norm, xs), torch.stack(states, 1)


def _tame(x: Tensor, where: Tensor) -> Tensor:
    """`x` with zeros for what is not finite, or too large for products, and lies where the mask says."""
    return x.masked_fill(where & ~(x.abs() < _LARGEST), 0.0)
