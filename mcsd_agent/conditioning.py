"""How an instruction changes what is seen; `encoder.conditioning` chooses.

- `film`: it scales and shifts the features of what is seen (FiLM, Perez et al., arXiv 1709.07871);
- `attention`: it asks for what it names, by cross-attention over what is seen (Vaswani et al., arXiv 1706.03762);
- `both` of these;
- `match`: it says of every label that there can be how likely that one is meant, and what is seen is seen with that;
- `prefix`: it changes nothing there, and goes through the backbone ahead of what is seen, as a token of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcsd_agent.errors import UserError
from mcsd_agent.kernels.linear import Linear

Conditioning = Literal["film", "attention", "both", "match", "prefix"]


def films(conditioning: Conditioning) -> bool:
    """Whether features are scaled and shifted."""
    return conditioning in ("film", "both")


def matches(conditioning: Conditioning) -> bool:
    """Whether labels are matched."""
    return conditioning == "match"


def attends(conditioning: Conditioning) -> bool:
    """Whether there is cross-attention."""
    return conditioning in ("attention", "both")


class LanguageAttention(nn.Module):
    """An instruction's `heads` queries over tokens of what is seen: `(n, tokens, token_width)` to `(n, width)`."""

    def __init__(self, code_width: int, token_width: int, width: int, heads: int = 4) -> None:
        super().__init__()
        self.query = Linear(code_width, heads * token_width)
        self.out = Linear(heads * token_width, width)
        self.heads = heads

    def forward(self, tokens: Tensor, said: Tensor, index: Tensor | None) -> Tensor:
        """`said` `(instructions, code_width)`; `index` `(n,)` says which of them a row heard, None: row i heard i."""
        query = self.query(said)
        query = (query if index is None else query[index]).unflatten(-1, (self.heads, -1))
        scores = query @ tokens.transpose(1, 2) / math.sqrt(tokens.shape[-1])
        return self.out((torch.softmax(scores, -1) @ tokens).flatten(1))


def every_combination(factors: Iterable[Tensor]) -> Tensor:
    """Every choice of one row of each table `(n_i, width)`, the last changing first: `(n_1 * n_2 …, tables, width)`."""
    tables = list(factors)
    sizes = tuple(len(table) for table in tables)
    grid = [
        table.reshape(*(n if k == i else 1 for k, n in enumerate(sizes)), -1).expand(*sizes, -1)
        for i, table in enumerate(tables)
    ]
    return torch.stack(grid, -2).flatten(0, -3)


def look_up(labels: Tensor, table: Tensor, index: Tensor | None) -> Tensor:
    """Rows of `table` for `labels` `(n, tokens)`: `(n, tokens, width)`.

    `table` is one for all, `(labels, width)`, or one per instruction, `(instructions, labels, width)`; `index` `(n,)`
    then says which instruction a row heard, None: row i heard i.
    """
    if table.ndim == 2:
        return F.embedding(labels, table)
    rows = torch.arange(labels.shape[0], device=labels.device) if index is None else index
    return F.embedding(labels + (rows * table.shape[1])[:, None], table.flatten(0, 1))


class _LabelQuestions(nn.Module):
    """What an instruction asks of labels, by a few looks, each of which may look for another one.

    A label may be a combination, of a colour and a shape. Each factor is asked for by a question of its own, and a
    label's score is the sum of how well its factors answer. So what asks for the colour cannot learn which shapes go
    with it, and combinations that were never named are found too: a query over whole labels learns that these are
    never meant. Queries and keys have length 1, with a learned sharpness: a word that is nearly another asks alike.
    """

    def __init__(self, answer_shape: tuple[int, int, int], factors: int, key_width: int) -> None:
        """`answer_shape` is that of `instruction_encoders.Heard.answers`, without n."""
        super().__init__()
        parts, questions, answer_width = answer_shape
        heads = 4 if questions == 1 else questions // factors
        if heads < 1:
            raise UserError(
                f"labels have {factors} factors (encoder.scan_factors), and an instruction answers {questions} "
                f"questions; combine at most {questions}, or set encoder.conditioning='film'"
            )
        self.looks = parts * heads
        self.query = nn.Parameter(torch.randn(answer_width, heads, factors, key_width) / math.sqrt(answer_width))
        self.sharpness = nn.Parameter(torch.full((heads, factors, 1), math.log(8.0)))

    def scores(self, keys: Tensor, answers: Tensor) -> Tensor:
        """`keys` `(labels, factors, key_width)`, `answers` `(instructions, …)` to `(instructions, labels, looks)`."""
        heads, factors = self.sharpness.shape[:2]
        if answers.shape[2] == 1:  # one answer to all that is asked
            answers = answers.expand(-1, -1, heads * factors, -1)
        of_each = answers[:, :, : heads * factors].unflatten(2, (heads, factors))
        query = torch.einsum("nphfa,ahft->nphft", of_each, self.query)
        query = F.normalize(query, dim=-1) * self.sharpness.exp()
        return F.normalize(keys, dim=-1).flatten(1) @ query.flatten(3).flatten(1, 2).transpose(1, 2)


class LabelAttention(_LabelQuestions):
    """Looks over tokens that have labels: `(n, tokens, token_width)` to `(n, width)`."""

    def __init__(self, answer_shape: tuple[int, int, int], factors: int, token_width: int, width: int) -> None:
        super().__init__(answer_shape, factors, token_width)
        self.out = Linear(self.looks * token_width, width)

    def forward(self, tokens: Tensor, labels: Tensor, keys: Tensor, answers: Tensor, index: Tensor | None) -> Tensor:
        """`labels` and `index` as for `look_up`, `keys` and `answers` as for `scores`."""
        # A label's score is the same wherever it is seen: once per instruction.
        seen = look_up(labels, self.scores(keys, answers), index).transpose(1, 2)
        return self.out((torch.softmax(seen, -1) @ tokens).flatten(1))


class LabelMatch(_LabelQuestions):
    """How likely each label is meant, as what is added to its embedding: `(instructions, labels, token_width)`.

    A look is a distribution over all labels, in sight or not. Scores are sums over factors, so among combinations it is
    the product of one over colours and one over shapes. It depends on the text alone, so a tick pays nothing for it,
    but where a policy listens: there what was heard is another thing at every tick.
    """

    def __init__(self, answer_shape: tuple[int, int, int], factors: int, token_width: int) -> None:
        super().__init__(answer_shape, factors, token_width)
        self.out = Linear(self.looks, token_width, bias=False)
        nn.init.normal_(self.out.weight)  # a share is small: at first it is to be felt beside what is there

    def forward(self, keys: Tensor, answers: Tensor) -> Tensor:
        """`keys` and `answers` as for `scores`."""
        return self.out(torch.softmax(self.scores(keys, answers), 1))
