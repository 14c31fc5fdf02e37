"""A causal transformer that sees the last `window` tokens and keeps their keys and values in a ring.

Token number e of an episode (from 0) writes slot e mod window, so that the newest token replaces the oldest.
Positions are rotations (Su and others, arXiv 2104.09864) whose angles are periodic in the window:

    q, k of token e are turned by 2π m_j e / window,   m_j whole numbers

The product of a query and a key then depends on the difference of their numbers alone, keys stay in the ring as they
were written, and only e mod window ever matters: nothing grows with time. Half of each head does not turn and
compares content at any distance.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcsd_agent.backbone import GatedMLP
from mcsd_agent.controls.residual import ResidualStack, normed
from mcsd_agent.errors import UserError
from mcsd_agent.kernels.linear import Linear


class TransformerControl(ResidualStack):
    """Pre-norm layers of windowed attention and gated MLP. `heads` defaults to about 32 features each.

    The state of a layer is `[keys and values by slot (window, 2 * width), tokens seen]`. The number of tokens seen
    counts up to `2 * window - 1` and then goes on at `window`, so that it is exact for ever in any float type.
    """

    def __init__(
        self, width: int, layers: int, window: int = 256, heads: int | None = None, expansion: int = 2
    ) -> None:
        if window < 1:
            raise UserError(f"window={window} must be at least 1 token")
        if heads is None:
            heads = min((h for h in range(1, width + 1) if width % h == 0), key=lambda h: abs(width / h - 32))
        if heads < 1 or width % heads:
            raise UserError(f"width={width} must be a multiple of heads={heads}; change one of them")
        scale = 1.0 / math.sqrt(2 * layers)  # of what each of 2 * layers branches adds to the residual stream
        super().__init__(
            width,
            [WindowedAttention(width, heads, window, scale) for _ in range(layers)],
            [GatedMLP(width, expansion, scale) for _ in range(layers)],
        )
        self.window = window

    def forward(self, xs: Tensor) -> Tensor:
        """One whole episode `(batch, time, width)`, not longer than the window, and no state after it.

        This is `scan` from a fresh state without the cost of filling the ring: what training on texts needs.
        """
        if xs.shape[1] > self.window:
            raise UserError(f"{xs.shape[1]} tokens do not fit window={self.window}; use scan")
        for _, layer, mixer in self.walk():
            assert isinstance(mixer, WindowedAttention)
            xs = layer.add(xs, mixer(normed(layer.norm, xs)))
        return normed(self.norm, xs)


class WindowedAttention(nn.Module):
    """Attention to the last `window` tokens, the present one included."""

    cos: Tensor
    sin: Tensor
    slots: Tensor

    def __init__(self, width: int, heads: int, window: int, output_scale: float) -> None:
        super().__init__()
        self.width, self.heads, self.window = width, heads, window
        self.inward = Linear(width, 3 * width, bias=False)
        self.outward = Linear(width, width, bias=False)
        nn.init.normal_(self.inward.weight, std=1.0 / math.sqrt(width))
        nn.init.normal_(self.outward.weight, std=output_scale / math.sqrt(width))

        head = width // heads
        self.scale = 1.0 / math.sqrt(head)
        pairs = min(head // 2, max(1, head // 4))  # of features that turn together
        # From one turn per window to one radian per token.
        turns = max(1.0, window / (2 * math.pi)) ** torch.linspace(0, 1, pairs, dtype=torch.float64)
        angle = 2 * math.pi / window * torch.arange(window)[:, None] * turns.round()
        self.register_buffer("cos", angle.cos().to(torch.get_default_dtype()), persistent=False)
        self.register_buffer("sin", angle.sin().to(torch.get_default_dtype()), persistent=False)
        self.register_buffer("slots", torch.arange(window), persistent=False)
        self.state_size = 2 * width * window + 1

    def forward(self, xs: Tensor) -> Tensor:
        """A whole episode `(batch, time, width)` within one window."""
        query, key, value = self._project(xs, self.slots[: xs.shape[1]])
        return self.outward(self._attend(query, key, value, None).flatten(2))

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """See `residual.Mixer`."""
        ring, seen = state[:, :-1].unflatten(1, (self.window, -1)), state[:, -1].detach()
        slot = torch.where(seen < self.window, seen, seen - self.window)
        query, key, value = self._project(x, slot.long())
        written = torch.cat([key.flatten(1), value.flatten(1)], -1).to(ring.dtype)
        ring = torch.where((self.slots == slot[:, None])[..., None], written[:, None], ring)
        keys, values = (r.unflatten(-1, (self.heads, -1)).transpose(1, 2) for r in ring.chunk(2, -1))
        scores = (query[:, :, None] * self.scale).to(keys.dtype) @ keys.transpose(-1, -2)
        empty = self.slots > seen[:, None]
        weights = scores.masked_fill(empty[:, None, None], -torch.inf).softmax(-1)
        y = self.outward((weights.to(values.dtype) @ values).flatten(1).to(x.dtype))
        seen = torch.where(seen + 1 < 2 * self.window, seen + 1, seen + 1 - self.window)
        return y, torch.cat([ring.flatten(1), seen[:, None]], -1)

    def scan(self, xs: Tensor, state: Tensor, starts: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `residual.Mixer`. `time` counts from 0 at the first token of `xs`; what the ring holds was before 0."""
        ring, seen = state[:, :-1].unflatten(1, (self.window, -1)), state[:, -1:].detach().long()
        time = torch.arange(xs.shape[1], device=xs.device)
        # When the token's episode began, if that was after time 0, and the token's number in its episode.
        began = torch.full_like(time, -self.window).expand(xs.shape[0], -1)
        if starts is not None:
            began = torch.where(starts, time, began).cummax(1).values
        number = torch.where(began < 0, seen + time, time - began)
        query, key, value = self._project(xs, number % self.window)

        fresh = not bool(seen.any())
        if fresh and starts is None and xs.shape[1] <= self.window:
            y = self._attend(query, key, value, None)
        else:
            past = None if fresh else (ring.to(key.dtype), self._times(seen))
            y = self._attend_in_blocks(query, key, value, None if starts is None else began, past)
        ring = self._refilled(ring, torch.cat([key.flatten(2), value.flatten(2)], -1), began[:, -1:], number[:, -1:])
        seen = number[:, -1:] + 1
        seen = torch.where(seen < self.window, seen, self.window + seen % self.window)
        return self.outward(y.flatten(2)), torch.cat([ring.flatten(1), seen.to(ring.dtype)], -1)

    def _project(self, x: Tensor, slot: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys, turned to the angle of their slots, and values; `(…, heads, features)` each."""
        query, key, value = (p.unflatten(-1, (self.heads, -1)) for p in self.inward(x).chunk(3, -1))
        cos, sin = self.cos[slot][..., None, :], self.sin[slot][..., None, :]
        return _turned(query, cos, sin), _turned(key, cos, sin), value

    def _times(self, seen: Tensor) -> Tensor:
        """When each slot of the ring was written, `(batch, window)`; long before anybody looks where it is empty."""
        written = -1 - (seen - 1 - self.slots) % self.window  # the last token is in the slot seen - 1
        return torch.where(self.slots < seen, written, -2 * self.window)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None) -> Tensor:
        """`(batch, time, heads, features)`; `visible` `(batch or 1, queries, keys)`, None for all up to the query."""
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))
        mask = None if visible is None else visible[:, None]
        return F.scaled_dot_product_attention(query, key, value, mask, is_causal=mask is None).transpose(1, 2)

    def _attend_in_blocks(
        self, query: Tensor, key: Tensor, value: Tensor, began: Tensor | None, past: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        """Blocks of `window` tokens, each with the block before it: cost and memory are linear in time.

        `past` is the ring and when its slots were written.
        """
        time = torch.arange(query.shape[1], device=query.device)
        earliest = (time - (self.window - 1))[None]  # what each token sees
        if began is not None:
            earliest = torch.maximum(earliest, began)
        blocks = zip(*(x.split(self.window, 1) for x in (query, key, value, time[None], earliest)), strict=True)
        before: tuple[Tensor, ...] | None = None
        if past is not None:
            before = (*(r.unflatten(-1, (self.heads, -1)) for r in past[0].chunk(2, -1)), past[1])
        outputs = []
        for q, k, v, now, limit in blocks:
            keys, values, times = k, v, now
            if before is not None:
                keys, values = torch.cat([before[0], k], 1), torch.cat([before[1], v], 1)
                times = torch.cat([before[2], now.expand(before[2].shape[0], -1)], 1)
            visible = (limit[..., None] <= times[:, None]) & (times[:, None] <= now[..., None])
            outputs.append(self._attend(q, keys, values, visible))
            before = k, v, now
        return torch.cat(outputs, 1)

    def _refilled(self, ring: Tensor, written: Tensor, began: Tensor, last: Tensor) -> Tensor:
        """The ring after the sequence; `began` and `last` `(batch, 1)` of the last token: its episode, its number.

        A slot holds the last token whose number falls on it, if that is in the sequence and in the last token's
        episode. Else it holds what it held, or nothing where an episode began.
        """
        source = written.shape[1] - 1 - (last - self.slots) % self.window
        index = source.clamp(min=0)[..., None].expand(-1, -1, written.shape[-1])
        old = ring.masked_fill((began >= 0)[..., None], 0.0)
        return torch.where((source >= began.clamp(min=0))[..., None], written.gather(1, index).to(ring.dtype), old)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The first features of each head as pairs (one of the first `pairs`, one of the next), turned; the rest as is."""
    pairs = cos.shape[-1]
    first, second, rest = x.split([pairs, pairs, x.shape[-1] - 2 * pairs], -1)
    return torch.cat([cos * first - sin * second, sin * first + cos * second, rest.to(cos.dtype)], -1).to(x.dtype)
