"""Observation spaces to tokens: each entry of a Dict becomes a vector of `width`, their sum one token per tick.

- vector (Box, Discrete, MultiDiscrete): scaled or one-hot, then linear;
- image (uint8 Box, height × width × channels): three strided convolutions;
- scan (a range entry and a label entry of equal length): one small encoder shared over the rays;
- grid (MiniGrid's view): see `grid_encoder`;
- instruction (Text): see `instruction_encoders`; how it changes what is seen, see `conditioning`.

With `tokens="per_entry"` every entry is a token of its own and a tick is K tokens, instruction first.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcsd_agent.conditioning import (
    Conditioning,
    LabelAttention,
    LabelMatch,
    attends,
    every_combination,
    films,
    look_up,
    matches,
)
from mcsd_agent.errors import UserError, nearest
from mcsd_agent.grid_encoder import GridEncoder
from mcsd_agent.instruction_encoders import Heard, InstructionEncoder, SentenceReader
from mcsd_agent.kernels.linear import Linear
from mcsd_agent.language import Vocabulary
from mcsd_agent.runtime.sentences import Sentences
from mcsd_agent.runtime.text_encoders import TextEncoder
from mcsd_agent.spaces import BoxSpec, DiscreteSpec, MultiDiscreteSpec, Spec, TextSpec


@dataclass(frozen=True)
class EncoderConfig:
    """How observations become tokens.

    `scan` names the range entry (Box, n rays) and the label entry (MultiDiscrete, n rays) that are
    read ray by ray; empty reads them as plain vectors. `scan_factors` says that the first labels are combinations, such
    as (4, 3) for colour * 3 + shape: their embeddings are sums, so that a combination never named has one too.
    `grid` names the entry with the numbers of a square of cells. `instruction` is how text is read: by words that
    are learnt, or by a pretrained encoder of sentences.
    """

    scan: tuple[str, ...] = ()
    scan_factors: tuple[int, ...] = ()
    ray_width: int = 16
    grid: str = ""
    cell_width: int = 32
    word_width: int = 32
    instruction: Literal["words", "sentence"] = "words"
    instruction_width: int = 64
    conditioning: Conditioning = "film"
    tokens: Literal["sum", "per_entry"] = "sum"

    def __post_init__(self) -> None:
        if len(self.scan) not in (0, 2):
            raise UserError(
                f"encoder.scan={list(self.scan)} must name the range entry and the label entry, or be empty"
            )
        for name in ("ray_width", "cell_width", "word_width", "instruction_width"):
            if getattr(self, name) < 1:
                raise UserError(f"encoder.{name}={getattr(self, name)} must be at least 1")


class VectorEncoder(nn.Module):
    """Boxes are scaled by running statistics, until there are some by their bounds; integers are one-hot.

    Statistics rather than bounds: what matters may be small beside the bounds (a pole's angle), and a
    memory that is to infer velocities has to see differences from tick to tick.
    """

    mean: Tensor
    scale: Tensor
    moments: Tensor
    entry: Tensor
    meant: Tensor

    def __init__(self, spec: BoxSpec | DiscreteSpec | MultiDiscreteSpec, width: int) -> None:
        super().__init__()
        self.sizes: tuple[int, ...] = ()
        if isinstance(spec, BoxSpec):
            low, high = (torch.from_numpy(x.copy()).flatten() for x in spec.bounds())
            bounded = torch.isfinite(low) & torch.isfinite(high) & (high > low)
            self.register_buffer("mean", torch.where(bounded, (low + high) / 2, torch.zeros_like(low)))
            self.register_buffer("scale", torch.where(bounded, 2 / (high - low), torch.ones_like(low)))
            self.register_buffer("moments", torch.zeros(3, spec.size, dtype=torch.float64))  # count, mean, M2
            inputs = spec.size
        else:
            self.sizes = (spec.n,) if isinstance(spec, DiscreteSpec) else spec.nvec
            # One-hot in one comparison, however many entries: of each feature the entry it reads, and what it means.
            entries = torch.repeat_interleave(torch.arange(len(self.sizes)), torch.tensor(self.sizes))
            self.register_buffer("entry", entries, persistent=False)
            self.register_buffer("meant", torch.cat([torch.arange(n) for n in self.sizes]), persistent=False)
            inputs = sum(self.sizes)
        self.linear = Linear(inputs, width)

    def forward(self, x: Tensor) -> Tensor:
        """`(n, *shape)` to `(n, width)`."""
        if self.sizes:
            hot = x.reshape(x.shape[0], len(self.sizes)).long().index_select(1, self.entry) == self.meant
            return self.linear(hot.to(self.linear.weight.dtype))
        scaled = (x.flatten(1).to(self.scale.dtype) - self.mean) * self.scale
        return self.linear(scaled.clamp(-10.0, 10.0))

    @torch.no_grad()
    def update_statistics(self, x: Tensor) -> None:
        """Merge `(n, *shape)` fresh observations into mean and scale."""
        if self.sizes:
            return
        rows = x.flatten(1).double()
        count, mean, m2 = self.moments
        total = count + rows.shape[0]
        delta = rows.mean(0) - mean
        m2 = m2 + rows.var(0, unbiased=False) * rows.shape[0] + delta.square() * count * rows.shape[0] / total
        mean = mean + delta * rows.shape[0] / total
        self.moments.copy_(torch.stack([total, mean, m2]))
        self.mean.copy_(mean)
        self.scale.copy_(1.0 / torch.sqrt(m2 / total + 1e-6))


class ImageEncoder(nn.Module):
    """uint8 images `(n, height, width, channels)`; sizes down to 8 × 8."""

    def __init__(self, spec: BoxSpec, width: int) -> None:
        super().__init__()
        height, breadth, channels = spec.shape
        if min(height, breadth) < 8:
            raise UserError(f"image of {height}x{breadth} pixels must be at least 8x8")
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, 32, 5, 2, 2),
            nn.SiLU(),
            nn.Conv2d(32, 64, 3, 2, 1),
            nn.SiLU(),
            nn.Conv2d(64, 64, 3, 2, 1),
        )
        cells = ((height + 7) // 8) * ((breadth + 7) // 8)
        self.linear = Linear(64 * cells, width)

    def forward(self, x: Tensor) -> Tensor:
        """`(n, height, width, channels)` to `(n, width)`."""
        scaled = x.permute(0, 3, 1, 2).to(self.linear.weight.dtype) / 255.0
        return self.linear(F.silu(self.convolutions(scaled)).flatten(1))


class ScanEncoder(nn.Module):
    """A lidar scan with a class label per ray: `(n, rays)` metres and labels to `(n, width)`."""

    def __init__(
        self,
        ranges: BoxSpec,
        labels: MultiDiscreteSpec,
        width: int,
        config: EncoderConfig,
        answer_shape: tuple[int, int, int] | None,
    ) -> None:
        """`answer_shape` is that of `Heard.answers`, None where there is no instruction."""
        super().__init__()
        rays, top = ranges.size, float(ranges.bounds()[1].max())
        if len(labels.nvec) != rays or not 0.0 < top < float("inf"):
            raise UserError(
                f"encoder.scan: ranges of {rays} rays up to {top} and labels of {len(labels.nvec)} rays must agree in "
                "number and have a finite maximum"
            )
        self.max_range = top
        self.combined = math.prod(config.scan_factors) if config.scan_factors else 0
        if self.combined > max(labels.nvec) or min(config.scan_factors, default=1) < 1:
            raise UserError(
                f"encoder.scan_factors={list(config.scan_factors)} must be sizes whose product is at most the "
                f"{max(labels.nvec)} labels"
            )
        self.factors = nn.ParameterList([torch.randn(n, config.ray_width) for n in config.scan_factors])
        self.label = nn.Embedding(max(labels.nvec) - self.combined, config.ray_width)
        self.ray = Linear(2, config.ray_width, bias=False)
        self.linear = Linear(rays * config.ray_width, width)
        self.asks: LabelAttention | None = None
        if attends(config.conditioning) and answer_shape is not None:
            self.asks = LabelAttention(answer_shape, max(1, len(self.factors)), config.ray_width, width)
            self.bearings = nn.Parameter(0.5 * torch.randn(rays, config.ray_width))
        self.meant: LabelMatch | None = None
        if matches(config.conditioning) and answer_shape is not None:
            self.meant = LabelMatch(answer_shape, max(1, len(self.factors)), config.ray_width)

    def _by_factor(self) -> Tensor:
        """For every label the embedding of each factor, `(labels, factors, ray_width)`; its own where it has none."""
        own = self.label.weight[:, None]
        if not self.combined:
            return own
        return torch.cat([every_combination(self.factors), own.expand(-1, len(self.factors), -1)])

    def _table(self, by_factor: Tensor) -> Tensor:
        """The embedding of every label, `(labels, ray_width)`: the sum over its factors."""
        if not self.combined:
            return self.label.weight
        return torch.cat([by_factor[: self.combined].sum(1) / math.sqrt(len(self.factors)), self.label.weight])

    def forward(
        self,
        ranges: Tensor,
        labels: Tensor,
        film: Tensor | None,
        index: Tensor | None = None,
        answers: Tensor | None = None,
    ) -> Tensor:
        """`film` `(instructions, 2 * ray_width)` is scale and shift, `index` `(n,)` the instruction of each row.

        Without `index` row i has instruction i. What is modulated is the small table of label embeddings, once
        per instruction, and not every ray: the label says how much its range matters.
        """
        by_factor = self._by_factor()
        table = self._table(by_factor)
        if film is not None:
            scale, shift = film[:, None].chunk(2, -1)
            table = table * (1.0 + scale) + shift
        elif self.meant is not None and answers is not None:
            table = table + self.meant(by_factor, answers)
        # Far geometry from the first feature, what is about to be hit from the second.
        far = ranges[..., None]
        near = (0.075 * self.max_range) / far.clamp(min=0.0375 * self.max_range)
        geometry = torch.cat([1.0 - far / self.max_range, near], -1)
        x = torch.addmm(look_up(labels, table, index).flatten(0, 1), geometry.flatten(0, 1), self.ray.weight.t())
        x = F.silu(x).unflatten(0, labels.shape)
        y = self.linear(x.flatten(1))
        if self.asks is None or answers is None:
            return y
        # What is asked for are labels as they are, whatever FiLM makes of them.
        return y + self.asks(x + self.bearings, labels, by_factor, answers, index)


class ObservationEncoder(nn.Module):
    """A dict of named arrays to `tokens_per_tick` tokens."""

    def __init__(
        self,
        specs: dict[str, Spec],
        width: int,
        config: EncoderConfig,
        vocabulary: TextEncoder | None = None,
        *,
        listens: bool = False,
    ) -> None:
        """`listens`: what is said passes through a backbone of its own before it modulates what is seen."""
        super().__init__()
        self.specs, self.config, self.width = dict(specs), config, width
        for name in (*config.scan, *([config.grid] if config.grid else [])):
            if name not in specs:
                raise UserError(f"encoder names {name!r}, which the observation lacks{nearest(name, specs)}")
        texts = [k for k, s in specs.items() if isinstance(s, TextSpec)]
        if len(texts) > 1:
            raise UserError(f"observation has {len(texts)} Text entries ({', '.join(texts)}); one is supported")
        if texts and vocabulary is None:
            raise UserError(f"observation entry {texts[0]!r} is Text; give the policy a vocabulary")
        self.text = texts[0] if texts else None
        entries: dict[str, nn.Module] = {}
        code_width, answer_shape = 0, None
        if self.text is not None and vocabulary is not None:
            is_words = isinstance(vocabulary, Vocabulary)
            if is_words != (config.instruction == "words"):
                comes, other = ("word ids", "words") if is_words else ("embeddings", "sentence")
                raise UserError(
                    f"encoder.instruction={config.instruction!r}, but text comes as {comes} here; set it to {other!r}"
                )
            self.instruction: InstructionEncoder | SentenceReader
            if isinstance(vocabulary, Vocabulary):
                asks = bool(config.scan) and attends(config.conditioning)
                asks |= bool(config.scan or config.grid) and matches(config.conditioning)
                self.instruction = InstructionEncoder(
                    vocabulary,
                    config.word_width,
                    config.instruction_width,
                    questions=8 if asks and not listens else 0,
                )
            else:
                assert isinstance(vocabulary, Sentences)
                self.instruction = SentenceReader(
                    vocabulary.max_clauses, vocabulary.size, config.word_width, config.instruction_width
                )
            code_width = width if listens else config.instruction_width
            answer_shape = (1, 1, width) if listens else self.instruction.answer_shape
            if listens:
                self.word_token = Linear(config.instruction_width, width)
            entries[self.text] = Linear(code_width, width)
            if config.scan and films(config.conditioning):
                self.film = nn.Sequential(nn.SiLU(), Linear(code_width, 2 * config.ray_width))
        if config.scan:
            ranges, labels = (specs[k] for k in config.scan)
            if not isinstance(ranges, BoxSpec) or not isinstance(labels, MultiDiscreteSpec):
                raise UserError(
                    f"encoder.scan={list(config.scan)} must name a Box and a MultiDiscrete entry, in this order"
                )
            entries[self._scan_name] = ScanEncoder(ranges, labels, width, config, answer_shape)
        if config.grid:
            cells = specs[config.grid]
            if not isinstance(cells, MultiDiscreteSpec):
                raise UserError(f"encoder.grid={config.grid!r} must name a MultiDiscrete entry")
            entries[config.grid] = GridEncoder(
                cells,
                width,
                config.cell_width,
                code_width,
                config.conditioning,
                answer_shape,
            )
        for name, spec in specs.items():
            if isinstance(spec, TextSpec) or name in (*config.scan, config.grid):
                continue
            is_image = isinstance(spec, BoxSpec) and spec.is_image
            entries[name] = ImageEncoder(spec, width) if is_image else VectorEncoder(spec, width)  # type: ignore[arg-type]
        # Module names may not hold dots and must not shadow module methods.
        self.entries = nn.ModuleDict({_module_name(k): m for k, m in entries.items()})
        self.names = tuple(entries)
        self.mix = nn.Sequential(nn.SiLU(), Linear(width, width))

    @property
    def tokens_per_tick(self) -> int:
        """K."""
        if self.config.tokens == "per_entry":
            return len(self.names)
        return 2 if self._prefixes else 1

    @property
    def _prefixes(self) -> bool:
        """Whether what is said is a token of its own, ahead of what is seen."""
        return self.config.conditioning == "prefix" and self.text is not None and len(self.names) > 1

    @property
    def _scan_name(self) -> str:
        return "+".join(self.config.scan)

    def blur_instructions(self, blurs: bool) -> None:
        """Whether what is said is disturbed while in training mode, where it is read by a pretrained encoder."""
        if self.text is not None and isinstance(self.instruction, SentenceReader):
            self.instruction.blurs = blurs

    def hear(self, observation: dict[str, Tensor]) -> Tensor:
        """What is being said as a token `(batch, width)`, for the backbone that listens."""
        assert self.text is not None
        return self.word_token(self.instruction(observation[self.text]).code)

    def hear_over_time(self, observations: dict[str, Tensor]) -> Tensor:
        """The same for sequences: `(batch, time, width)`."""
        assert self.text is not None
        ids = observations[self.text]
        heard, index = self.instruction.over_time(ids)
        return self.word_token(heard.code)[index].unflatten(0, ids.shape[:2])

    def forward(self, observation: dict[str, Tensor], code: Tensor | None = None) -> tuple[Tensor, ...]:
        """Arrays `(batch, *shape)` to K tokens `(batch, width)`; `code` replaces the instruction's own."""
        heard = None if code is None else Heard.whole(code)
        if heard is None and self.text is not None:
            heard = self.instruction(observation[self.text])
        return self._tokens(observation, heard)

    def over_time(self, observations: dict[str, Tensor], code: Tensor | None = None) -> Tensor:
        """Arrays `(batch, time, *shape)` to tokens `(batch, time, K, width)`; `code` `(batch, time, width)`."""
        batch, time = next(iter(observations.values())).shape[:2]
        heard, index = (None if code is None else Heard.whole(code.flatten(0, 1))), None
        if heard is None and self.text is not None:
            heard, index = self.instruction.over_time(observations[self.text])
        flat = {k: v.flatten(0, 1) for k, v in observations.items()}
        return torch.stack(self._tokens(flat, heard, index), 1).unflatten(0, (batch, time))

    def update_statistics(self, observation: dict[str, Tensor]) -> None:
        """Merge fresh observations `(n, *shape)` into the running scales of vector entries."""
        for name in self.names:
            entry = self.entries[_module_name(name)]
            if isinstance(entry, VectorEncoder):
                entry.update_statistics(observation[name])

    def _tokens(
        self, observation: dict[str, Tensor], heard: Heard | None, index: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """`heard` holds one row per instruction, `index` which of them each tick heard (None: tick i heard row i)."""
        said, answers = (None, None) if heard is None else heard
        parts = []
        for name in self.names:
            entry = self.entries[_module_name(name)]
            if name == self.text:
                code = entry(said)
                parts.append(code if index is None else code[index])
            elif isinstance(entry, ScanEncoder):
                film = None if said is None or not films(self.config.conditioning) else self.film(said)
                parts.append(entry(*(observation[k] for k in self.config.scan), film, index, answers))
            elif isinstance(entry, GridEncoder):
                parts.append(entry(observation[name], said, index, answers))
            else:
                parts.append(entry(observation[name]))
        if self.config.tokens == "per_entry":
            return self.mix(torch.stack(parts, 1)).unbind(1)
        if self._prefixes:  # the instruction is the first entry
            return self.mix(torch.stack([parts[0], _sum(parts[1:])], 1)).unbind(1)
        return (self.mix(_sum(parts)),)


def _sum(parts: list[Tensor]) -> Tensor:
    """One addition after the other: each is one operator of the exported step, and stacking them would be many."""
    return functools.reduce(torch.add, parts)


def _module_name(name: str) -> str:
    return "entry_" + name.replace(".", "_")
