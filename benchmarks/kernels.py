"""The fused sections of a cell on a CUDA device: whether they compute the right thing, and how fast.

    python benchmarks/kernels.py --peak --out benchmarks/results/kernels_h100.json

check      values and every gradient against `mcsd_agent.mixing.mix_reference` in float64, by preset, dtype and length,
           with episode starts; a deviation beyond its tolerance ends the command with exit code 1
sections   forward and backward as one CUDA graph each, bfloat16, beside the time in which a copy moves what they must
block      `--peak`: forward and backward of a stack of layers and of controls with as many parameters: time, and peak
           memory as torch counts it, as a graph too where the model's benchmark uses one

Kernels are compiled in processes beside each other first. A part prints its rows as it has them, and one that fails
is reported and leaves the others alone; `--out` is written again after each.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor

from mcsd_agent.bench.scan_floors import MixFloor
from mcsd_agent.bench.scan_memory import peak_bytes
from mcsd_agent.bench.scan_models import CHANNELS, Pass, Task, replay, seconds
from mcsd_agent.kernels import cuda_sections
from mcsd_agent.mixing import Constants, mix_reference

PRESETS = ("extended", "paper")
BLOCKS = ("mcsd-extended", "transformer", "lstm")
#: Relative deviations, in the norm: of what a kernel rounds to the dtype of activations, and of what stays in float32.
#: Angles that are rounded to float32 are 1e-7 off, and what is remembered turned by them for a thousand steps.
_PRECISE = 5e-4
_ROUNDING = {"bfloat16": 6e-3, "float16": 8e-4, "float32": _PRECISE}
_STARTS_EVERY = 50
_LAYERS = 2
_PROCESSES = 16  # that compile

Rows = Iterator[dict[str, Any]]


def sections_task(preset: str, length: int, batch: int, width: int, dtype: str, every: int | None, device: str) -> Task:
    """A layer's sections."""
    return Task(f"mcsd-{preset}", device, length, batch, width, 1, dtype, 0, every)


# ---------------------------------------------------------------------------------------------- check


def check_tasks(width: int, length: int, device: str) -> list[Task]:
    """Odd lengths for every dtype; and one so long that chunks are linked over several others."""
    kinds: list[tuple[int, int, str, int | None]] = [(3, length, dtype, 13) for dtype in _ROUNDING]
    kinds += [(3, length, "bfloat16", None), (1, 12 * length, "float32", 400)]
    return [
        sections_task(preset, length, batch, width, dtype, every, device)
        for preset in PRESETS
        for batch, length, dtype, every in kinds
    ]


def deviations(task: Task) -> dict[str, float]:
    """By how much each result of the kernels is off, relative to its norm."""
    torch.manual_seed(task.seed)
    inputs: Any = MixFloor(task, task.width).inputs
    state, projected, starts, normaliser, *values, channels = inputs
    state, constants = torch.randn_like(state), Constants(*values)
    kind = channels, constants.rate_bias is not None, constants.angle is not None
    gated, final, saved = cuda_sections.mix_forward(projected, state, starts, normaliser, constants, *kind)
    outer = torch.randn_like(gated), torch.randn_like(final)
    grads = cuda_sections.mix_backward(*outer, projected, state, starts, normaliser, constants, *kind, saved)

    def leaf(x: Tensor | None) -> Any:
        return None if x is None else x.detach().double().requires_grad_()

    p, s, z, c = leaf(projected), leaf(state), leaf(normaliser), Constants(*map(leaf, constants))
    expected_gated, expected_final = mix_reference(p, s, starts, z, c, channels)
    torch.autograd.backward((expected_gated, expected_final), [x.double() for x in outer])
    expected = {
        name: x.grad
        for name, x in {**c._asdict(), "projected": p, "state": s, "normaliser": z}.items()
        if x is not None
    }
    pairs = {"gated": (gated, expected_gated.detach()), "final": (final, expected_final.detach())}
    pairs |= {f"d {name}": (x, expected[name]) for name, x in grads._asdict().items() if x is not None}
    return {name: float((x.double() - y).norm() / y.norm().clamp_min(1e-30)) for name, (x, y) in pairs.items()}


def checked(task: Task) -> dict[str, Any]:
    """A row: the largest deviations, and what is out of tolerance (NaN is)."""
    found = deviations(task)
    rounded = {"gated", "d projected"}
    limits = {name: _ROUNDING[task.dtype] if name in rounded else _PRECISE for name in found}
    return {
        "preset": task.model.removeprefix("mcsd-"),
        "dtype": task.dtype,
        "T": task.length,
        "starts_every": task.starts_every,
        "rounded": max(found[name] for name in rounded),
        "precise": max((x, name) for name, x in found.items() if name not in rounded),
        "wrong": {name: x for name, x in found.items() if not x <= limits[name]},
    }


def compiled(task: Task) -> None:
    """Run the sections once: what is compiled stays on disk."""
    with torch.no_grad():
        inputs = MixFloor(task, task.width).inputs
        gated, final, saved = torch.ops.mcsd.mix_forward(*inputs)
        torch.ops.mcsd.mix_backward(gated, final, saved, *inputs)
    torch.cuda.synchronize()


def distinct(tasks: list[Task]) -> list[Task]:
    """One task per kernel to compile, of one sequence."""
    kernels: dict[Any, Task] = {}
    for task in tasks:
        tiles = [
            cuda_sections.tile(way, CHANNELS, task.width // CHANNELS, task.length) for way in ("forward", "backward")
        ]
        whole = tuple(task.length % (t.segments * t.run) == 0 for t in tiles)
        key = task.model, task.starts_every is None, *tiles, whole
        shortest = min(task.length, kernels[key].length) if key in kernels else task.length
        kernels[key] = Task(**{**vars(task), "length": shortest, "batch": 1})
    return list(kernels.values())


def check(options: argparse.Namespace) -> Rows:
    """Check every task, and compile what will be timed, in processes beside each other."""
    tasks = check_tasks(options.check_width, options.check_length, options.device)
    if options.device == "cpu":
        for task in tasks:
            yield checked(task)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(_PROCESSES, os.cpu_count() or 1), mp_context=context) as pool:
        warm = [pool.submit(compiled, task) for task in distinct(timed_tasks(options))]
        jobs: dict[Future[Any], Task] = {pool.submit(checked, task): task for task in tasks}
        for job in as_completed(jobs):
            try:
                yield job.result()
            except Exception as error:
                yield {**vars(jobs[job]), "wrong": {f"raised {error!r}": float("nan")}}
        for done in warm:
            done.result()


# -------------------------------------------------------------------------------------------- sections


def timed_tasks(options: argparse.Namespace) -> list[Task]:
    """Both presets at every length, without and with episode starts."""
    return [
        sections_task(preset, t, max(1, options.tokens // t), options.width, options.dtype, every, options.device)
        for preset in PRESETS
        for t in options.lengths
        for every in (None, _STARTS_EVERY)
    ]


def sections(options: argparse.Namespace) -> Rows:
    """Time the sections alone."""
    for task in timed_tasks(options):
        floor = MixFloor(task, task.width)
        forward, backward, copy = floor.seconds(options.repeats)
        forward_floor, backward_floor = floor.floor_seconds(copy)
        yield {
            "preset": task.model.removeprefix("mcsd-"),
            "T": task.length,
            "B": task.batch,
            "starts_every": task.starts_every,
            "forward_ms": 1e3 * forward,
            "forward_of_copy": forward_floor / forward,
            "backward_ms": 1e3 * backward,
            "backward_of_copy": backward_floor / backward,
            "forward_floor_ms": 1e3 * forward_floor,
            "backward_floor_ms": 1e3 * backward_floor,
            "copy_gb_per_s": 1e-9 * floor.token_bytes * (floor.reads + floor.writes) / forward_floor,
        }


# ----------------------------------------------------------------------------------------------- block


def blocks(options: argparse.Namespace) -> Rows:
    """Time and peak memory of whole passes."""
    for t in options.block_lengths:
        for model in BLOCKS:
            task = Task(model, options.device, t, max(1, options.tokens // t), options.width, _LAYERS, options.dtype, 0)
            yield block(task, options.repeats)
            gc.collect()
            if options.device == "cuda":
                torch.cuda.empty_cache()


def block(task: Task, repeats: int) -> dict[str, Any]:
    """A row. The peak of a graph is that of the pass that records it."""
    peak = peak_bytes(task)
    before = torch.cuda.memory_allocated() if task.device == "cuda" else 0
    run = Pass(task)
    row: dict[str, Any] = {"model": task.model, "T": task.length, "B": task.batch, "D": run.width}
    row |= {"params": run.parameters, "peak_mb": None if peak is None else peak / 1e6}
    run()
    row["eager_ms"] = 1e3 * _median(run, run, repeats)
    if task.device == "cuda" and task.model != "lstm":  # a kernel per step is too much for a graph
        torch.cuda.reset_peak_memory_stats()
        graph = replay(run)
        row["graph_peak_mb"] = (torch.cuda.max_memory_allocated() - before) / 1e6
        graph()
        row["graph_ms"] = 1e3 * _median(graph, run, repeats)
    return row


def _median(function: Callable[[], object], run: Pass, repeats: int) -> float:
    """Seconds; what takes more than one is not repeated."""
    found = [seconds(function, run.device)]
    while len(found) < repeats and found[0] < 1.0:
        found.append(seconds(function, run.device))
    return statistics.median(found)


# ------------------------------------------------------------------------------------------------ main


def written(value: Any) -> str:
    """A cell of a table."""
    if isinstance(value, tuple):
        return f"{value[0]:.1e} ({value[1]})"
    if isinstance(value, dict):
        return ", ".join(f"{name} {x:.1e}" for name, x in value.items()) or "nothing"
    if isinstance(value, float):
        return f"{value:.1e}" if abs(value) < 1e-2 else f"{value:.4g}"
    return "-" if value is None else str(value)


def part(name: str, rows: Rows, result: dict[str, Any], out: Path | None) -> bool:
    """Print rows as they come; whether all came."""
    began = time.perf_counter()
    result[name] = []
    complete = True
    try:
        for row in rows:
            print(f"{name}: " + "  ".join(f"{key} {written(value)}" for key, value in row.items()), flush=True)
            result[name].append(row)
    except Exception:
        traceback.print_exc()
        print(f"{name}: FAILED after {len(result[name])} rows", flush=True)
        complete = False
    print(f"{name}: {time.perf_counter() - began:.0f} s\n", flush=True)
    if out is not None:
        out.write_text(json.dumps(result, indent=1) + "\n")
    return complete


def main() -> int:
    """Run the parts; 0 if all numbers are right and nothing failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: the check, by the interpreter")
    parser.add_argument("--lengths", type=int, nargs="+", metavar="T", default=[512, 4096, 16384, 65536])
    parser.add_argument("--tokens", type=int, default=65536, help="B * T")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--check-width", type=int, default=512)
    parser.add_argument("--check-length", type=int, default=777)
    parser.add_argument("--peak", action="store_true", help="also whole passes: time and peak memory")
    parser.add_argument("--block-lengths", type=int, nargs="+", metavar="T", default=[512, 4096, 16384])
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    cuda = options.device == "cuda"
    if cuda and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no CUDA device; with TRITON_INTERPRET=1, --device cpu does the check")
    name = torch.cuda.get_device_name() if cuda else "CPU"
    result: dict[str, Any] = {
        "device": f"{name}, torch {torch.__version__}, triton {triton.__version__}",
        "shape": f"{options.tokens} tokens, D = {options.width}, C = {CHANNELS}, {options.dtype}",
        "block_layers": _LAYERS,
    }
    print(result["device"], "\n" + result["shape"] + "\n", flush=True)
    complete = part("check", check(options), result, options.out)
    wrong = [row for row in result["check"] if row["wrong"]]
    print(f"check: {'WRONG NUMBERS' if wrong else 'all within tolerance' if complete else 'incomplete'}\n", flush=True)
    if cuda:
        complete &= part("sections", sections(options), result, options.out)
    if options.peak:
        complete &= part("block", blocks(options), result, options.out)
    return 0 if complete and not wrong else 1


if __name__ == "__main__":
    sys.exit(main())
