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

from mcsd_agent.conditioning import LanguageAttention
from mcsd_agent.errors import UserError
from mcsd_agent.kernels.linear import Linear
from mcsd_agent.spaces import MultiDiscreteSpec


class GridEncoder(nn.Module):
    """`(n, size * size * 3)` numbers to `(n, width)`; `code_width` 0 is no instruction."""

    starts: Tensor

    def __init__(
        self, spec: MultiDiscreteSpec, width: int, cell_width: int, code_width: int, *, film: bool, attention: bool
    ) -> None:
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
        self.film = Linear(code_width, 2 * cell_width) if film and code_width else None
        self.asks = LanguageAttention(code_width, cell_width, width) if attention and code_width else None

    def forward(self, cells: Tensor, said: Tensor | None, index: Tensor | None = None) -> Tensor:
        """`said` `(instructions, code_width)`, `index` `(n,)` which of them each row heard; None: row i heard i."""
        places = self.size * self.size
        kind, colour, state = cells.unflatten(-1, (places, 3)).unbind(-1)
        named = (kind * self.names[1] + colour) * self.names[2] + state
        # Every cell that there can be, once.
        table = (self.kinds[:, None, None] + self.colours[:, None] + self.states).flatten(0, 2)
        if self.film is None or said is None:
            x = F.embedding(named, F.silu(table))
        else:
            scale, shift = self.film(F.silu(said))[:, None].chunk(2, -1)
            if index is None:
                x = F.silu(F.embedding(named, table) * (1.0 + scale) + shift)
            else:  # few instructions and many ticks: once per instruction
                named = named + (index * table.shape[0])[:, None]
                x = F.embedding(named, F.silu(table * (1.0 + scale) + shift).flatten(0, 1))
        x = x + self.places
        asked = None if self.asks is None or said is None else self.asks(x, said, index)
        x = x.unflatten(1, (self.size, self.size)).permute(0, 3, 1, 2)
        x = F.silu(self.near(x)).permute(0, 2, 3, 1).flatten(1)
        y = self.whole(x)
        return y if asked is None else y + asked
