"""What was said to one vector, `(n, instruction_width)`, zeros where nothing is; and to what it asks for, see `Heard`.

- `InstructionEncoder`: word ids, each with an embedding of its own that is learnt, read in order by a GRU;
- `SentenceReader`: what a pretrained sentence encoder made of its word pieces, in their context; the encoder stays as
  it is, see `runtime.sentences`.

Either is computed once per change of the instruction, and not once per tick.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mcsd_agent.kernels.linear import Linear
from mcsd_agent.language import Vocabulary


class Heard(NamedTuple):
    """What a reader makes of n instructions."""

    code: Tensor  # (n, width), the whole of each
    answers: Tensor  # (n, parts, questions, answer_width), of each part what each question picked out of it

    @staticmethod
    def whole(code: Tensor) -> Heard:
        """Where parts are not told apart: one part, and one question that is answered by the code."""
        return Heard(code, code[:, None, None])


class _OverTime(nn.Module):
    def over_time(self, said: Tensor) -> tuple[Heard, Tensor]:
        """Each run of equal rows of `(batch, time, …)` read once, and which of them was heard, `(batch * time,)`."""
        fresh = torch.ones(said.shape[:2], dtype=torch.bool, device=said.device)
        fresh[:, 1:] = (said[:, 1:] != said[:, :-1]).flatten(2).any(-1)
        return self(said[fresh]), fresh.flatten().cumsum(0) - 1


class InstructionEncoder(_OverTime):
    """Word ids `(n, words)`, padded on the left.

    Questions, where there are any, pick words by what was read until then, and are answered by the words alone: what
    "red" asks for does not depend on what else was said, and "then" tells which of two colours is whose.
    """

    def __init__(self, vocabulary: Vocabulary, word_width: int, instruction_width: int, questions: int = 0) -> None:
        super().__init__()
        self.answer_shape = (1, questions, word_width) if questions else (1, 1, instruction_width)
        self.words = nn.Embedding(vocabulary.size, word_width, padding_idx=0)
        self.reader = nn.GRU(word_width, instruction_width, batch_first=True)
        self.questions = Linear(instruction_width, questions, bias=False) if questions else None

    def forward(self, ids: Tensor) -> Heard:
        """Read the words in order."""
        words = self.words(ids)
        states, last = self.reader(words)
        code = last[0] * (ids[:, -1:] != 0)
        if self.questions is None:
            return Heard.whole(code)
        scores = self.questions(states) - 1e4 * (ids == 0)[..., None].to(states.dtype)
        return Heard(code, (torch.softmax(scores, 1).transpose(1, 2) @ words)[:, None])


class SentenceReader(_OverTime):
    """Word pieces of a pretrained encoder, `(n, tokens, parts + size)`.

    The first numbers of a piece say which part it belongs to, and are zeros where there is none. Of every part a few
    learned questions pick out what they ask for, wherever it stands (pooling by attention); a GRU reads the answers of
    one part after the other. A learner that imitates `blurs` pieces, and leaves some out, because wordings that were
    never heard lie beside those that were, and around them. One that learns from what it did has to hear what it heard.
    """

    noise, left_out = 0.5, 0.15
    blurs = False

    def __init__(self, parts: int, size: int, word_width: int, instruction_width: int, questions: int = 8) -> None:
        super().__init__()
        self.parts = parts
        self.answer_shape = (parts, questions, word_width)
        self.questions = Linear(size - parts, questions, bias=False)
        self.inward = Linear(size - parts, word_width, bias=False)
        self.reader = nn.GRU(questions * word_width, instruction_width, batch_first=True)

    def forward(self, pieces: Tensor) -> Heard:
        """Ask each part, then read the answers in order."""
        within, meaning = pieces[..., : self.parts], pieces[..., self.parts :]
        said = within.amax((1, 2))
        if self.blurs and self.training:
            meaning = meaning + self.noise * torch.randn_like(meaning)
            kept = within * (torch.rand_like(within[..., :1]) >= self.left_out)
            within = torch.where(kept.amax(1, keepdim=True) > 0, kept, within)  # something is left of every part
        # of each part, each question's share in each piece: (n, tokens, parts, questions)
        scores = self.questions(meaning)[:, :, None] - 1e4 * (1.0 - within[..., None])
        shares = torch.softmax(scores, 1) * within[..., None]
        answers = (shares.flatten(2).transpose(1, 2) @ self.inward(meaning)).unflatten(1, (self.parts, -1))
        _, last = self.reader(answers.flatten(2))
        return Heard(last[0] * said[:, None], answers)
