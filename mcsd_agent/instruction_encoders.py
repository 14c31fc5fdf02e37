"""What was said to one vector, `(n, instruction_width)`; nothing said is zeros.

- `InstructionEncoder`: word ids, each with an embedding of its own that is learnt, read in order by a GRU;
- `SentenceAdapter`: the vectors that a pretrained sentence encoder gave to the parts of an instruction; the encoder
  stays as it is, see `runtime.sentences`.

Either is computed once per change of the instruction, and not once per tick.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mcsd_agent.kernels.linear import Linear
from mcsd_agent.language import Vocabulary


class _OverTime(nn.Module):
    def over_time(self, said: Tensor) -> tuple[Tensor, Tensor]:
        """Each run of equal rows of `(batch, time, …)` read once: codes `(runs, width)`, index `(batch * time,)`."""
        fresh = torch.ones(said.shape[:2], dtype=torch.bool, device=said.device)
        fresh[:, 1:] = (said[:, 1:] != said[:, :-1]).flatten(2).any(-1)
        return self(said[fresh]), fresh.flatten().cumsum(0) - 1


class InstructionEncoder(_OverTime):
    """Word ids `(n, words)`, padded on the left, to `(n, instruction_width)`."""

    def __init__(self, vocabulary: Vocabulary, word_width: int, instruction_width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary.size, word_width, padding_idx=0)
        self.reader = nn.GRU(word_width, instruction_width, batch_first=True)

    def forward(self, ids: Tensor) -> Tensor:
        """Read the words in order."""
        _, last = self.reader(self.words(ids))
        return last[0] * (ids[:, -1:] != 0)


class SentenceAdapter(_OverTime):
    """Vectors `(n, parts, size)` of length 1, padded in front with zeros, to `(n, instruction_width)`.

    It is linear, with one product for every part and then one for each place: what holds for a colour and a shape that
    were named apart then holds for both together, and for a part behind another. In training noise is added, because a
    wording that was never heard lies beside those that were.
    """

    noise = 0.03

    def __init__(self, parts: int, size: int, word_width: int, instruction_width: int) -> None:
        super().__init__()
        self.scale = float(size) ** 0.5  # numbers of about 1
        self.inward = Linear(size, word_width, bias=False)
        self.places = Linear(parts * word_width, instruction_width, bias=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """Read the parts, each at its place."""
        if self.training:
            said = vectors.abs().amax(-1, keepdim=True) > 0
            vectors = vectors + self.noise * torch.randn_like(vectors) * said
        return self.places(self.inward(vectors * self.scale).flatten(1))
