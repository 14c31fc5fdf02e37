"""Generation one byte at a time, timed: what a step costs, and what memory it takes.

Every step feeds the byte it found most likely into the next one. On CUDA a few consecutive steps are one
CUDA graph, for either model alike: at small batches a step is hundreds of short kernels, and launching
them one by one would cost more than they do.
"""

from __future__ import annotations

import functools
import gc
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from mcsd_agent.backbone import GatedMLP
from mcsd_agent.bench.language_models import ByteModel, KeyValueCache, TransformerLayer, memory_bytes
from mcsd_agent.cell import MCSDCell

#: Consecutive steps in one graph.
STEPS = 4
_BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}


class Loop:
    """`STEPS` steps of a batch of texts, called again and again.

    MCSD's memory goes on from call to call. A Transformer's cache keeps its length, so that every call
    costs what steps at that length cost.
    """

    def __init__(self, model: ByteModel, memory: Any, batch: int) -> None:
        self.model, self.memory = model, memory
        self.byte = torch.zeros(batch, dtype=torch.long, device=next(model.parameters()).device)
        self.call: Callable[[], None] = self._run
        if self.byte.is_cuda:
            self.call = _captured(self._run)

    def _run(self) -> None:
        memory = self.memory
        for _ in range(STEPS):
            logits, memory = self.model.step(self.byte, memory)
            self.byte.copy_(logits.argmax(-1))
        if isinstance(memory, Tensor):
            self.memory.copy_(memory)


@functools.cache
def _capture_stream() -> torch.cuda.Stream:
    """One for all graphs: cuBLAS keeps a workspace for every stream it has seen, which would count as the model's."""
    return torch.cuda.Stream()


def _captured(function: Callable[[], None]) -> Callable[[], None]:
    stream = _capture_stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # compilation and the libraries' set-up stay outside the graph
        function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        function()
    return graph.replay


class Clock:
    """Marks in the device's own time, read together at the end."""

    def __init__(self, device: str) -> None:
        self.cuda = device != "cpu"
        self.marks: list[Any] = []

    def mark(self) -> None:
        """Now, where the device is."""
        if self.cuda:
            self.marks.append(torch.cuda.Event(enable_timing=True))
            self.marks[-1].record()
        else:
            self.marks.append(time.perf_counter())

    def milliseconds(self) -> list[float]:
        """From the first mark to each of the others."""
        if not self.cuda:
            return [1000 * (m - self.marks[0]) for m in self.marks[1:]]
        torch.cuda.synchronize()
        return [self.marks[0].elapsed_time(m) for m in self.marks[1:]]


def repeated(call: Callable[[], None], device: str, at_least_ms: float, at_least: int = 3) -> float:
    """Milliseconds per call, after one to warm up: the median of single calls, of which the first tells how many."""
    call()
    first = Clock(device)
    first.mark()
    call()
    first.mark()
    count = max(at_least, min(64, round(at_least_ms / max(first.milliseconds()[0], 1e-3))))
    clock = Clock(device)
    clock.mark()
    for _ in range(count):
        call()
        clock.mark()
    times = [0.0, *clock.milliseconds()]
    return statistics.median(b - a for a, b in itertools.pairwise(times))


@contextmanager
def measured_memory(device: str) -> Iterator[None]:
    """Forget what came before, and leave nothing behind: the peak is that of the block, weights included."""
    gc.collect()
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        yield
    finally:
        gc.collect()
        if device != "cpu":
            torch.cuda.empty_cache()


def peak_bytes(model: ByteModel, memory: Any) -> int:
    """CUDA: the allocator's peak, with weights, memory and all that steps need. CPU: weights and memory, counted."""
    if next(model.parameters()).is_cuda:
        return torch.cuda.max_memory_allocated()
    return sum(p.nbytes for p in model.parameters()) + memory_bytes(memory)


# ------------------------------------------------------------------------------------------------ the models


@torch.no_grad()
def by_length(model: ByteModel, batch: int, lengths: list[int], device: str) -> list[dict[str, Any]]:
    """MCSD writes the longest text once; a row per length: mean time of all steps up to there, and peak so far."""
    with measured_memory(device):
        loop = Loop(model, model.begin(batch, max(lengths)), batch)
        loop.call()
        clock, peaks = Clock(device), []
        clock.mark()
        done = 0
        for length in sorted(lengths):
            for until in (max(length - 64 * STEPS, (done + length) // 2), length):  # the last steps have a mark before
                while done < until:
                    loop.call()
                    done += STEPS
                clock.mark()
            peaks.append(peak_bytes(model, loop.memory))
        times = clock.milliseconds()
    rows, rounded = [], lambda n: -(-n // STEPS) * STEPS  # steps come in graphs
    for i, (length, peak) in enumerate(zip(sorted(lengths), peaks, strict=True)):
        before = sorted(lengths)[i - 1] if i else 0
        last = rounded(length) - rounded(max(length - 64 * STEPS, (rounded(before) + length) // 2))
        row = _row(batch, length, times[2 * i + 1] / rounded(length), peak)
        rows.append({**row, "ms_last_tokens": (times[2 * i + 1] - times[2 * i]) / last, "timed_steps": rounded(length)})
    return rows


@torch.no_grad()
def constant(model: ByteModel, batch: int, length: int, device: str, steps: int = 64 * STEPS) -> dict[str, Any]:
    """MCSD's row at one batch from `steps` consecutive steps: no step knows how many came before it."""
    with measured_memory(device):
        loop = Loop(model, model.begin(batch, length), batch)
        calls = max(1, min(steps, length) // STEPS)
        loop.call()
        clock = Clock(device)
        clock.mark()
        for _ in range(calls):
            loop.call()
        clock.mark()
        ms = clock.milliseconds()[0] / (calls * STEPS)
        return {**_row(batch, length, ms, peak_bytes(model, loop.memory)), "timed_steps": calls * STEPS}


@torch.no_grad()
def growing(
    model: ByteModel, batch: int, length: int, device: str, points: int, attention: dict[str, float | None]
) -> dict[str, Any]:
    """A Transformer's row: room for `length` bytes; the mean time of a step at the middles of `points` equal parts.

    A step's time is linear in the cache's length, so that this is the mean over the generation.
    `attention` are the kernels' times, of which the fastest is taken.
    """
    name = min((n for n, ms in attention.items() if ms is not None), key=lambda n: attention[n] or 0.0)
    with measured_memory(device), sdpa_kernel(_BACKENDS[name]):
        cache = _random_cache(model, batch, length)
        times = []
        places = [int((i + 0.5) * length / points) - STEPS // 2 for i in range(points)]
        for used in [*places, length - STEPS]:
            loop = Loop(model, replace(cache, used=max(0, min(used, length - STEPS))), batch)
            times.append(repeated(loop.call, device, at_least_ms=20) / STEPS)
            del loop
        row = _row(batch, length, statistics.mean(times[:-1]), peak_bytes(model, cache))
        return {**row, "ms_last_tokens": times[-1], "attention": name, "timed_steps": points * STEPS}


@torch.no_grad()
def attention_times(model: ByteModel, batch: int, length: int, device: str) -> dict[str, float | None]:
    """Milliseconds of one query against `length` bytes in all layers, by attention kernel; None where there is none."""
    found: dict[str, float | None] = {}
    with measured_memory(device):
        cache = _random_cache(model, batch, length)
        query = torch.randn_like(cache.keys[0][:, :, :1])
        for name, backend in _BACKENDS.items():

            def attend() -> None:
                for keys, values in zip(cache.keys, cache.values, strict=True):
                    F.scaled_dot_product_attention(query, keys, values)

            try:
                with sdpa_kernel(backend):
                    found[name] = repeated(attend if device == "cpu" else _captured(attend), device, at_least_ms=5)
            except RuntimeError:  # "no available kernel", or no memory for the form that keeps all scores
                found[name] = None
    return found


def _random_cache(model: ByteModel, batch: int, length: int) -> KeyValueCache:
    """Zeros would run faster than what a text leaves in a cache."""
    cache: KeyValueCache = model.begin(batch, length)
    for tensor in (*cache.keys, *cache.values):
        tensor.normal_()
    return cache


def out_of_memory(batch: int, length: int) -> dict[str, Any]:
    """The row of what does not fit."""
    row: dict[str, Any] = dict.fromkeys(_row(batch, length, 1.0, 0))
    return {**row, "batch": batch, "length": length, "out_of_memory": True}


def _row(batch: int, length: int, ms: float, peak: int) -> dict[str, Any]:
    return {
        "batch": batch,
        "length": length,
        "ms_per_token": ms,  # one step; it writes a byte of each text
        "tokens_per_s": 1000 * batch / ms,
        "peak_bytes": peak,
    }


def compile_layers(model: ByteModel) -> None:
    """Fuse what surrounds products and attention with torch.compile, for both models alike, one layer at a time."""
    for module in model.modules():
        if isinstance(module, MCSDCell):
            names = ["step"]
        elif isinstance(module, TransformerLayer):
            names = ["before_attention", "after_attention"]
        elif isinstance(module, GatedMLP):
            names = ["forward"]
        else:
            continue
        for name in names:
            setattr(module, name, torch.compile(getattr(module, name)))
