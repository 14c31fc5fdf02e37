"""The models of `bench scan` at equal parameters, and one forward and backward pass of each."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from mcsd_agent.backbone import MCSDBackbone
from mcsd_agent.cell import MCSDConfig
from mcsd_agent.controls import (
    MemorylessControl,
    MinGRUControl,
    RecurrentControl,
    StateSpaceControl,
    TransformerControl,
    transformer,
)

CHANNELS = 8
#: Features per head with which attention kernels are fastest, and how far the parameters may be off for their sake.
_HEAD, _HEAD_TOLERANCE = 64, 0.03


@dataclass(frozen=True)
class Task:
    """One point of the benchmark. `width` is that of the extended MCSD backbone, whose parameters all models have."""

    model: str
    device: str
    length: int
    batch: int
    width: int
    layers: int
    dtype: str
    seed: int
    starts_every: int | None = None

    def __str__(self) -> str:
        return f"{self.model} T={self.length}" + (f" starts every {self.starts_every}" if self.starts_every else "")


class LstmByStep(RecurrentControl):
    """An LSTM through sequences with episode starts as sb3-contrib's RecurrentPPO runs it: a call for every token."""

    def scan(self, xs: Tensor, state: Tensor, episode_starts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As `RecurrentControl.scan`."""
        h, c = (x.transpose(0, 1).contiguous() for x in state.split(self.width, -1))
        keep = torch.ones(xs.shape[:2]) if episode_starts is None else 1.0 - episode_starts.float()
        outputs = []
        for x, k in zip(xs.unbind(1), keep.to(xs.device).unbind(1), strict=True):
            y, (h, c) = self.rnn(x[:, None], (k[:, None] * h, k[:, None] * c))
            outputs.append(y)
        return self.norm(xs + torch.cat(outputs, 1)), torch.cat([h, c], -1).transpose(0, 1)


def build(model: str, width: int, layers: int, length: int) -> nn.Module:
    """A fresh model. A transformer sees the whole sequence."""
    builders: dict[str, Callable[[], nn.Module]] = {
        "mcsd-extended": lambda: MCSDBackbone(MCSDConfig.preset("extended", width=width, channels=CHANNELS), layers),
        "mcsd-paper": lambda: MCSDBackbone(MCSDConfig.preset("paper", width=width, channels=CHANNELS), layers),
        "transformer": lambda: TransformerControl(width, layers, length, heads=_heads(width)),
        "ssm": lambda: StateSpaceControl(width, layers),
        "mingru": lambda: MinGRUControl(width, layers),
        "gru": lambda: RecurrentControl(nn.GRU, width, layers),
        "lstm": lambda: RecurrentControl(nn.LSTM, width, layers),
        "lstm-by-step": lambda: LstmByStep(nn.LSTM, width, layers),
        "none": lambda: MemorylessControl(width, layers),
    }
    return builders[model]()


def count(model: nn.Module) -> int:
    """Numbers to learn."""
    return sum(p.numel() for p in model.parameters())


@cache
def equal_width(model: str, width: int, layers: int) -> int:
    """The width with which `model` comes closest to the parameters of the extended MCSD backbone of `width`.

    Widths are multiples of what the hardware likes (8 from 256 on, else 2), for MCSD of its channels; a transformer
    takes heads of 64 features where that costs it no more than 3 % of its parameters.
    """
    if model == "mcsd-extended":
        return width

    @cache
    def parameters(name: str, size: int) -> int:
        with torch.device("meta"):
            return count(build(name, size, layers, length=1))

    target = parameters("mcsd-extended", width)

    def error(size: int) -> float:
        return abs(parameters(model, size) / target - 1)

    def closest(grid: int) -> int:
        guess = width * math.sqrt(target / parameters(model, width)) / grid
        return min((max(1, round(guess) + i) * grid for i in (-2, -1, 0, 1, 2)), key=error)

    if model == "transformer" and error(closest(_HEAD)) <= _HEAD_TOLERANCE:
        return closest(_HEAD)
    return closest(8 if width >= 256 or model == "mcsd-paper" else 2)


def episode_starts(task: Task) -> Tensor | None:
    """Where episodes start, `(batch, length)`: at different times in every sequence, as environments do."""
    if task.starts_every is None:
        return None
    begin = torch.arange(task.batch) * task.starts_every // task.batch
    return ((torch.arange(task.length) + begin[:, None]) % task.starts_every == 0).to(task.device)


def _heads(width: int) -> int:
    return min((h for h in range(1, width + 1) if width % h == 0), key=lambda h: abs(width / h - _HEAD))


class Pass:
    """A model with everything that one forward and backward pass of its task needs."""

    def __init__(self, task: Task) -> None:
        torch.manual_seed(task.seed)
        device = torch.device(task.device)
        self.task, self.device = task, device
        self.width = equal_width(task.model, task.width, task.layers)
        self.model = build(task.model, self.width, task.layers, task.length).to(device)
        self.parameters = count(self.model)
        self.tokens = torch.randn(task.batch, task.length, self.width, device=device, requires_grad=True)
        self.gradient = torch.randn(task.batch, task.length, self.width, device=device)
        # A transformer is not asked for a cache, see __call__.
        size = 0 if task.model == "transformer" else self._model.state_size
        self.state = torch.zeros(task.batch, task.layers, size, device=device)
        self.starts = episode_starts(task)
        if device.type == "cuda" and task.model == "transformer":
            transformer._turned = _compiled_turn()  # else much of its time goes to its positions
        self._ready: Callable[[], object] | None = None

    @property
    def _model(self) -> Any:
        return self.model

    def __call__(self) -> None:
        """Outputs from the tokens, and gradients for them and for every parameter, which are dropped."""
        with self._autocast():
            if self.task.model == "transformer":
                outputs = self._model(self.tokens)
            else:
                outputs, _ = self._model.scan(self.tokens, self.state, self.starts)
        outputs.backward(self.gradient.to(outputs.dtype))
        self.model.zero_grad(set_to_none=True)
        self.tokens.grad = None

    def seconds(self) -> float:
        """The time of one pass; on CUDA as one graph, without what Python takes to launch its kernels.

        GRU and LSTM, with a kernel per step far more than a graph is good for, keep the device busy without one.
        Passes with episode starts are not graphs either: where an LSTM has to be cut up is read from the device.
        """
        if self._ready is None:
            steps = any(isinstance(m, nn.RNNBase) for m in self.model.modules())
            plain = self.device.type == "cpu" or self.starts is not None or steps
            self._ready = self if plain else replay(self)
        return seconds(self._ready, self.device)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.task.dtype == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, getattr(torch, self.task.dtype))


@cache
def _compiled_turn() -> Any:
    return torch.compile(transformer._turned, dynamic=False)


def replay(function: Callable[[], object]) -> Callable[[], object]:
    """`function` as a CUDA graph, ready to be launched."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        function()  # what is compiled or allocated at the first call
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay


def seconds(function: Callable[[], object], device: torch.device, times: int = 1) -> float:
    """Wall-clock time of one call, over `times` calls in a row."""
    synchronise = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    synchronise()
    began = time.perf_counter()
    for _ in range(times):
        function()
    synchronise()
    return (time.perf_counter() - began) / times


def random(*shape: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Numbers as activations have them: hardware is faster on zeros."""
    return torch.randn(*shape, device=device).to(dtype)
