"""How an instruction changes what is seen; `encoder.conditioning` chooses.

- `film`: it scales and shifts the features of what is seen (FiLM, Perez et al., arXiv 1709.07871);
- `attention`: it asks for what it names, by cross-attention over what is seen (Vaswani et al., arXiv 1706.03762);
- `both` of these;
- `prefix`: it changes nothing there, and goes through the backbone ahead of what is seen, as a token of its own.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from mcsd_agent.kernels.linear import Linear

Conditioning = Literal["film", "attention", "both", "prefix"]


def films(conditioning: Conditioning) -> bool:
    """Whether features are scaled and shifted."""
    return conditioning in ("film", "both")


def attends(conditioning: Conditioning) -> bool:
    """Whether there is cross-attention."""
    return conditioning in ("attention", "both")


class LanguageAttention(nn.Module):
    """An instruction's `heads` queries over tokens of what is seen: `(n, tokens, token_width)` to `(n, width)`.

    `keys` are what is asked for, where that is not the tokens themselves. Keys and queries that are sums, of a colour's
    vector and a shape's, match in a sum, so that a colour and a shape that were never named together are found too.
    """

    def __init__(self, code_width: int, token_width: int, width: int, heads: int = 4) -> None:
        super().__init__()
        self.query = Linear(code_width, heads * token_width)
        self.out = Linear(heads * token_width, width)
        self.heads = heads

    def forward(self, tokens: Tensor, said: Tensor, index: Tensor | None, keys: Tensor | None = None) -> Tensor:
        """`said` `(instructions, code_width)`; `index` `(n,)` says which of them a row heard, None: row i heard i."""
        query = self.query(said)
        query = (query if index is None else query[index]).unflatten(-1, (self.heads, -1))
        keys = tokens if keys is None else keys
        scores = query @ keys.transpose(1, 2) / math.sqrt(keys.shape[-1])
        return self.out((torch.softmax(scores, -1) @ tokens).flatten(1))
