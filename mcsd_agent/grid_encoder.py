"""MiniGrid's view, a square of cells that are named by numbers, to one vector a tick.

A cell is what lies there, its colour and its state; each has an embedding, and their sum is the cell's. A
convolution sees what lies beside what, for the way to go. Where `conditioning` says so the instruction changes the
embeddings, and asks for the cells that it names.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcsd_agent.conditioning import (
    Conditioning,
    LabelMatch,
    LanguageAttention,
    attends,
    every_combination,
    films,
    look_up,
    matches,
)
from mcsd_agent.errors import UserError
from mcsd_agent.kernels.linear import Linear
from mcsd_agent.spaces import MultiDiscreteSpec


class GridEncoder(nn.Module):
    """`(n, size * size * 3)` numbers to `(n, width)`; `code_width` 0 is no instruction."""

    def __init__(
        self,
        spec: MultiDiscreteSpec,
        width: int,
        cell_width: int,
        code_width: int,
        conditioning: Conditioning,
        answer_shape: tuple[int, int, int] | None,
    ) -> None:
        """`answer_shape` is that of `Heard.answers`, None where there is no instruction."""
        super().__init__()
        size = math.isqrt(len(spec.nvec) // 3)
        names = spec.nvec[:3]
        if size < 1 or spec.nvec != names * (size * size):
            raise UserError(
                f"encoder.grid: {len(spec.nvec)} numbers are no square of cells of three numbers each; leave "
                "encoder.grid empty to read them as a vector"
            )
        self.size, self.names = size, names
        self.kinds, self.colours, self.states = (
            nn.Parameter(torch.randn(n, cell_width) / math.sqrt(3.0)) for n in names
        )
        self.places = nn.Parameter(0.5 * torch.randn(size * size, cell_width))
        self.near = nn.Conv2d(cell_width, cell_width, 3)
        self.whole = Linear((size - 2) ** 2 * cell_width, width)
        self.film = Linear(code_width, 2 * cell_width) if films(conditioning) and code_width else None
        self.asks = LanguageAttention(code_width, cell_width, width) if attends(conditioning) and code_width else None
        self.meant = LabelMatch(answer_shape, 3, cell_width) if matches(conditioning) and answer_shape else None

    def forward(
        self, cells: Tensor, said: Tensor | None, index: Tensor | None = None, answers: Tensor | None = None
    ) -> Tensor:
        """`said` `(instructions, code_width)`, `index` `(n,)` which of them each row heard; None: row i heard i."""
        places = self.size * self.size
        kind, colour, state = cells.unflatten(-1, (places, 3)).unbind(-1)
        named = (kind * self.names[1] + colour) * self.names[2] + state
        # Every cell that there can be, once.
        by_factor = every_combination((self.kinds, self.colours, self.states))
        table = by_factor.sum(1)
        if self.film is not None and said is not None and index is None:  # few cells in sight, and many that can be
            scale, shift = self.film(F.silu(said))[:, None].chunk(2, -1)
            x = F.silu(F.embedding(named, table) * (1.0 + scale) + shift)
        else:
            if self.film is not None and said is not None:
                scale, shift = self.film(F.silu(said))[:, None].chunk(2, -1)
                table = table * (1.0 + scale) + shift
            elif self.meant is not None and answers is not None:
                table = table + self.meant(by_factor, answers)
            x = look_up(named, F.silu(table), index)
        x = x + self.places
        asked = None if self.asks is None or said is None else self.asks(x, said, index)
        x = x.unflatten(1, (self.size, self.size)).permute(0, 3, 1, 2)
        x = F.silu(self.near(x)).permute(0, 2, 3, 1).flatten(1)
        y = self.whole(x)
        return y if asked is None else y + asked
