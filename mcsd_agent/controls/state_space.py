"""A selective state-space model: how fast each feature forgets, and what it stores and reads, depend on the token.

The block of "Mamba: Linear-Time Sequence Modeling with Selective State Spaces" (Gu, Dao; arXiv 2312.00752) with
nothing beside it:

    x, z (E)                 = W_in u                          E = expansion * width
    x                        ← silu(causal depthwise convolution of x, width 4)
    Δ (E), B, C (N)          = softplus(W_Δ W_r x + b), W_B x, W_C x        N states per feature
    h (E, N)                 ← exp(Δ A) h + (Δ x) B^T,   A = -exp(·) < 0, real and diagonal
    y                        = W_out [silu(z) ⊙ (h C + d ⊙ x)]
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mcsd_agent.controls.residual import ResidualStack
from mcsd_agent.kernels.linear import Linear
from mcsd_agent.recurrence import linear_recurrence

_TAPS = 4
#: Numbers of history (batch * time * features * N) that may exist at once, per type of device; more features wait for
#: their turn. CPUs gain nothing from more, GPUs have to be kept busy.
_HISTORY = {"cpu": 2**22, "cuda": 2**26}


class StateSpaceControl(ResidualStack):
    """Layers of selective state-space blocks, which are their own MLPs."""

    def __init__(self, width: int, layers: int, expansion: int = 2, states: int = 16) -> None:
        scale = 1.0 / math.sqrt(layers)  # of what each of `layers` branches adds to the residual stream
        super().__init__(width, [SelectiveStateSpace(width, expansion, states, scale) for _ in range(layers)])


class SelectiveStateSpace(nn.Module):
    """One block. The state is `[h, the last three inputs of the convolution]`."""

    def __init__(self, width: int, expansion: int, states: int, output_scale: float) -> None:
        super().__init__()
        inner, rank = expansion * width, max(1, width // 16)
        self.inner, self.states, self.rank = inner, states, rank
        self.inward = Linear(width, 2 * inner, bias=False)
        self.taps = nn.Parameter(torch.randn(_TAPS, inner) / math.sqrt(_TAPS))
        self.select = Linear(inner, rank + 2 * states, bias=False)  # W_r, W_B, W_C
        self.to_step = Linear(rank, inner)
        # A = -1 … -N for every feature; flat, because it is no matrix that anything is multiplied by
        self.log_rate = nn.Parameter(torch.arange(1.0, states + 1.0).log().repeat(inner))
        self.skip = nn.Parameter(torch.ones(inner))
        self.outward = Linear(inner, width, bias=False)
        nn.init.normal_(self.outward.weight, std=output_scale / math.sqrt(inner))
        with torch.no_grad():
            # Δ starts between 0.001 and 0.1, evenly on a logarithmic scale: memories of ten to a thousand tokens
            step = torch.exp(torch.empty(inner).uniform_(math.log(0.001), math.log(0.1)))
            self.to_step.bias.copy_(torch.log(torch.expm1(step)))  # softplus of it is `step`
        self.state_size = inner * states + (_TAPS - 1) * inner

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """See `residual.Mixer`."""
        history, past = state.split([self.inner * self.states, (_TAPS - 1) * self.inner], -1)
        value, gate = self.inward(x).chunk(2, -1)
        window = torch.cat([past.unflatten(1, (_TAPS - 1, -1)), value[:, None]], 1)
        value = F.silu((window * self.taps).sum(1))
        delta, write, read = self._selected(value)
        decay = torch.exp(delta[..., None] * self._rates())  # (batch, E, N)
        h = decay * history.unflatten(-1, (-1, self.states)) + (delta * value)[..., None] * write[:, None]
        y = (h * read[:, None]).sum(-1) + self.skip * value
        return self.outward(y * F.silu(gate)), torch.cat([h.flatten(1), window[:, 1:].flatten(1)], -1)

    def scan(self, xs: Tensor, state: Tensor, starts: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `residual.Mixer`. The recurrence runs in float32 at least, whatever the autocast dtype."""
        precise = torch.promote_types(xs.dtype, torch.float32)
        history, past = state.to(precise).split([self.inner * self.states, (_TAPS - 1) * self.inner], -1)
        value, gate = self.inward(xs).chunk(2, -1)
        with torch.autocast(xs.device.type, enabled=False):
            window = torch.cat([past.unflatten(1, (_TAPS - 1, -1)), value.to(precise)], 1)
            value = F.silu(_convolve(window, self.taps, starts))
            delta, write, read = self._selected(value)
            y, h = self._history(delta, value, write, read, history, starts)
            y = (y + self.skip * value) * F.silu(gate.to(precise))
            final = torch.cat([h, _remembered(window, starts).flatten(1)], -1)
        return self.outward(y.to(gate.dtype)), final

    def _rates(self) -> Tensor:
        """A, `(E, N)`."""
        return -self.log_rate.exp().unflatten(0, (-1, self.states))

    def _selected(self, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Δ `(…, E)`, B and C `(…, N)`."""
        low, write, read = self.select(value).split([self.rank, self.states, self.states], -1)
        return F.softplus(self.to_step(low)), write, read

    def _history(
        self, delta: Tensor, value: Tensor, write: Tensor, read: Tensor, history: Tensor, starts: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """h C `(batch, time, E)` and the last h, flat.

        Features do not meet in the recurrence. Where `(batch, time, E, N)` is too large for memory they are taken a
        few at a time, and their histories are computed again for the gradient instead of being kept.
        """
        at_once = _HISTORY.get(delta.device.type, _HISTORY["cpu"])
        few = max(1, at_once // (delta.shape[0] * delta.shape[1] * self.states))
        parts = zip(
            *(x.split(few, -1) for x in (delta, value)),
            self._rates().split(few),
            history.split(few * self.states, -1),
            strict=True,
        )
        results = []
        for delta_part, value_part, rates, h0 in parts:
            arguments = (delta_part, value_part, rates, h0, write, read, starts)
            if few < self.inner and torch.is_grad_enabled():
                results.append(checkpoint(_read_history, *arguments, use_reentrant=False, preserve_rng_state=False))
            else:
                results.append(_read_history(*arguments))
        ys, last = zip(*results, strict=True)
        return torch.cat(ys, -1), torch.cat(last, -1)


def _read_history(
    delta: Tensor, value: Tensor, rates: Tensor, h0: Tensor, write: Tensor, read: Tensor, starts: Tensor | None
) -> tuple[Tensor, Tensor]:
    """h C `(batch, time, features)` and the last h `(batch, features * N)`."""
    decay = torch.exp(delta[..., None] * rates)
    if starts is not None:
        decay = decay.masked_fill(starts[..., None, None], 0.0)
    stored = (delta * value)[..., None] * write[:, :, None]
    h = linear_recurrence(decay.flatten(2), stored.flatten(2), h0)
    return (h.unflatten(-1, rates.shape) * read[:, :, None]).sum(-1), h[:, -1].clone()  # a view would keep all of h


def _convolve(window: Tensor, taps: Tensor, starts: Tensor | None) -> Tensor:
    """`window` is the last inputs before the sequence, then the sequence; no tap reaches across an episode start."""
    past = _TAPS - 1
    time = window.shape[1] - past
    out = window[:, past:] * taps[-1]
    for back in range(1, _TAPS):
        earlier = window[:, past - back : past - back + time]
        if starts is not None:
            earlier = earlier.masked_fill(_started_within(starts, back)[..., None], 0.0)
        out = out + earlier * taps[past - back]
    return out


def _started_within(starts: Tensor, back: int) -> Tensor:
    """Whether an episode started at this token or one of the `back - 1` before it; `(batch, time)`."""
    started = starts
    for i in range(1, back):
        started = started | F.pad(starts, (i, 0))[:, : starts.shape[1]]
    return started


def _remembered(window: Tensor, starts: Tensor | None) -> Tensor:
    """The last inputs that the convolution still needs, `(batch, 3, E)`, those before an episode start as zeros."""
    past = _TAPS - 1
    last = window[:, -past:]
    if starts is None:
        return last
    # Of input i a start at any later position, i+1 … past-1 of these, cuts it off.
    recent = F.pad(starts, (past, 0))[:, -past:].flip(1).cumsum(1).flip(1)
    return last.masked_fill(F.pad(recent[:, 1:], (0, 1))[..., None] > 0, 0.0)
