"""GRU and LSTM, as torch has them."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn


class RecurrentControl(nn.Module):
    """`nn.GRU` or `nn.LSTM` with a residual connection around it; the LSTM's state is `[h, c]`."""

    def __init__(self, kind: type[nn.GRU] | type[nn.LSTM], width: int, layers: int) -> None:
        super().__init__()
        self.width, self.layers = width, layers
        self.rnn = kind(width, width, num_layers=layers, batch_first=True)
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.is_lstm = kind is nn.LSTM
        self.state_size = 2 * width if self.is_lstm else width

    def step(self, x: Tensor, state: Tensor, episode_starts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One token; see `backbone.Backbone`."""
        if episode_starts is not None:
            state = state.masked_fill(episode_starts.bool()[:, None, None], 0.0)
        y, state = self._run(x[:, None], state)
        return self.norm(x + y[:, 0]), state

    def scan(self, xs: Tensor, state: Tensor, episode_starts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """A whole sequence, cut wherever an episode starts in any row: the fused kernel knows no starts."""
        if episode_starts is None:
            ys, state = self._run(xs, state)
            return self.norm(xs + ys), state
        starts = episode_starts.bool()
        cuts = torch.nonzero(starts.any(0)).flatten().tolist()
        bounds = sorted({0, *cuts, xs.shape[1]})
        pieces = []
        for begin, end in itertools.pairwise(bounds):
            state = state.masked_fill(starts[:, begin, None, None], 0.0)
            ys, state = self._run(xs[:, begin:end], state)
            pieces.append(ys)
        return self.norm(xs + torch.cat(pieces, 1)), state

    def _run(self, xs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        if xs.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            # torch has an LSTM in bfloat16 for processors with the instructions for it, and fails on others.
            with torch.autocast("cpu", enabled=False):
                return self._run(xs.float(), state)
        layer_first = state.transpose(0, 1).contiguous()
        if not self.is_lstm:
            ys, h = self.rnn(xs, layer_first)
            return ys, h.transpose(0, 1).to(state.dtype)
        h, c = layer_first[..., : self.width].contiguous(), layer_first[..., self.width :].contiguous()
        ys, (h, c) = self.rnn(xs, (h, c))
        return ys, torch.cat([h, c], -1).transpose(0, 1).to(state.dtype)  # autocast may have narrowed it
