"""`mcsd-agent bench scan`: how fast every backbone trains on sequences, and in how much memory, by their length.

All models have the parameters of the extended MCSD backbone, by choice of their width, and are given the same number
of tokens, in fewer sequences the longer these are. Models take turns, so that a machine that is busy for a while is
busy for all of them; times are medians. Beside each time stand floors measured in the same turns (`scan_floors`).

Peak memory is what one forward and backward pass needs besides what was there before the model: parameters, inputs,
activations, gradients. On CUDA it is torch's own count of allocated bytes (`max_memory_allocated`). On a CPU it is the
growth of the resident memory of a fresh process per model and length (`scan_memory`), because kernels that are
compiled at run time allocate past torch's counters.
"""

from __future__ import annotations

import argparse
import gc
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcsd_agent.console import Reporter, table
from mcsd_agent.errors import UserError, nearest

if TYPE_CHECKING:
    from mcsd_agent.bench.scan_models import Task

#: In the order of the table. `mcsd-extended` sets the number of parameters.
MODELS = ("mcsd-extended", "mcsd-paper", "transformer", "ssm", "mingru", "gru", "lstm", "none")
LENGTHS = (64, 256, 1024, 4096, 16384)
#: Tokens per pass, width of the extended MCSD backbone, and the dtype of activations.
_DEFAULTS: dict[str, tuple[int, int, str]] = {"cpu": (8192, 128, "float32"), "cuda": (65536, 512, "bfloat16")}
#: Sequences in which episodes start: their length, the steps between starts, and who runs them; for each of `MODELS`
#: there, the ways in which it can run them.
_STARTS = (512, 50, {"mcsd-extended": ("mcsd-extended",), "lstm": ("lstm", "lstm-by-step")})
#: A pass that takes longer than this many seconds is not repeated.
_PATIENCE = 10.0

Report = Callable[[str, float, str], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where torch finds it")
    parser.add_argument("--lengths", type=int, nargs="+", metavar="T", default=list(LENGTHS))
    parser.add_argument("--models", nargs="+", metavar="MODEL", default=list(MODELS), help=f"of {', '.join(MODELS)}")
    parser.add_argument("--tokens", type=int, help="per pass (default: 65536 on cuda, 8192 on cpu)")
    parser.add_argument("--width", type=int, help="of MCSD (default: 512 on cuda, 128 on cpu)")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, metavar="PLOT.png", help="also draw the result")
    parser.add_argument("--seed", type=int, default=0)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print a table, write the plot; the result for `--json`."""
    import torch

    report = Reporter(getattr(options, "quiet", False))
    result = run_scan_benchmark(
        options.device or ("cuda" if torch.cuda.is_available() else "cpu"),
        options.lengths,
        options.models,
        options.tokens,
        options.width,
        options.layers,
        seed=options.seed,
        repeats=options.repeats,
        report=report,
    )
    report.close()
    print(result["device"])
    print(describe(result["rows"]))
    if options.out is not None:
        from mcsd_agent.bench.scan_plot import plot_scan

        plot_scan(result, options.out)
        print(f"plot: {options.out}")
    return result


def run_scan_benchmark(
    device: str,
    lengths: Sequence[int] = LENGTHS,
    models: Sequence[str] = MODELS,
    tokens: int | None = None,
    width: int | None = None,
    layers: int = 2,
    dtype: str | None = None,
    seed: int = 0,
    repeats: int = 5,
    memory: bool = True,
    starts: bool = True,
    report: Report = lambda stage, fraction, text: None,
) -> dict[str, Any]:
    """`{"rows": [...], "device": ...}`, one row per model and length, and per model with episode starts.

    Keys of a row: model, T, B, D (the model's own width), params, tokens_per_s, peak_bytes; ratio_to_gemm_floor, which
    takes the fastest routine for each product, and ratio_to_torch_mm, which takes `torch.mm` for all;
    ratio_to_bandwidth_floor (null but for MCSD on CUDA); starts_every (null without episode starts), seconds (median
    of a pass), passes, gemm_seconds, layers, dtype, and for MCSD on CUDA mix_forward_bandwidth and
    mix_backward_bandwidth, as shares of the copy bandwidth. `memory=False` leaves peak_bytes null, `starts=False`
    leaves out the rows with episode starts. On a CPU one thread is used.
    """
    if device not in _DEFAULTS:
        raise UserError(f"device={device!r} must be cpu or cuda")
    import torch

    from mcsd_agent.bench.scan_models import Task

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda: torch finds no CUDA device; use cpu")
    default_tokens, default_width, default_dtype = _DEFAULTS[device]
    tokens, width, dtype = tokens or default_tokens, width or default_width, dtype or default_dtype
    _check(lengths, models, tokens, width, layers, repeats, dtype)
    if device == "cpu":
        torch.set_num_threads(1)

    def task(model: str, length: int, starts_every: int | None = None) -> Task:
        return Task(model, device, length, max(1, tokens // length), width, layers, dtype, seed, starts_every)

    groups = [[task(m, length) for m in models] for length in lengths]
    if starts:
        length, every, who = _STARTS
        plain = [] if length in lengths else [task(m, length) for m in models if m in who]
        groups.append(plain + [task(way, length, every) for m in models for way in who.get(m, ())])
    rows: list[dict[str, Any]] = []
    for i, group in enumerate(groups):
        share = partial(_share_of, report, i / len(groups), 1 / len(groups))
        rows += _measure_together(group, repeats, memory, share) if group else []
    return {"rows": rows, "device": _device_name(device)}


def _share_of(report: Report, begin: float, width: float, fraction: float, text: str) -> None:
    """Report a part of the work as its share of all of it."""
    report("scan", begin + width * fraction, text)


def _measure_together(
    group: list[Task], repeats: int, memory: bool, report: Callable[[float, str], None]
) -> list[dict[str, Any]]:
    """A row per task of one length; the tasks take turns."""
    from mcsd_agent.bench.scan_floors import MixFloor, Products
    from mcsd_agent.bench.scan_memory import peak_bytes
    from mcsd_agent.bench.scan_models import Pass

    rounds, done = (repeats + 2) * len(group), 0

    def progress(text: str) -> None:
        nonlocal done
        done += 1
        report(min(1.0, done / rounds), text)

    peaks: list[int | None] = []
    for one in group:
        peaks.append(peak_bytes(one) if memory else None)
        progress(f"{one} memory")
    passes, products, times, floors, plain = [], [], [], [], []
    for one in group:
        passes.append(Pass(one))
        products.append(Products.of(passes[-1]))  # runs it, which is also the warm-up
        first = passes[-1].seconds()
        times.append([first])
        floors.append([products[-1].seconds()])
        plain.append([products[-1].torch_seconds()])
        progress(f"{one} {first:.3g} s")
    for _ in range(repeats - 1):
        for one, run_pass, product, seconds, floor, mm in zip(
            group, passes, products, times, floors, plain, strict=True
        ):
            if seconds[0] < _PATIENCE:
                seconds.append(run_pass.seconds())
                floor.append(product.seconds())
                mm.append(product.torch_seconds())
            progress(f"{one} {seconds[-1]:.3g} s")
    rows = []
    for one, run_pass, seconds, floor, mm, peak in zip(group, passes, times, floors, plain, peaks, strict=True):
        median, gemm = statistics.median(seconds), statistics.median(floor)
        row = {
            "model": one.model,
            "T": one.length,
            "B": one.batch,
            "D": run_pass.width,
            "params": run_pass.parameters,
            "tokens_per_s": one.length * one.batch / median,
            "peak_bytes": peak,
            "ratio_to_gemm_floor": median / gemm,
            "ratio_to_bandwidth_floor": None,
            "starts_every": one.starts_every,
            "seconds": median,
            "passes": len(seconds),
            "gemm_seconds": gemm,
            "ratio_to_torch_mm": median / statistics.median(mm),
            "layers": one.layers,
            "dtype": one.dtype,
        }
        if one.device == "cuda" and one.model.startswith("mcsd-"):
            row |= MixFloor(one, run_pass.width).measure(repeats)
        rows.append(row)
    del passes, products
    gc.collect()
    return rows


def describe(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a table."""
    header = [
        "model",
        "T",
        "B",
        "D",
        "params",
        "tokens/s",
        "peak MB",
        "over gemm",
        "over torch.mm",
        "over bandwidth",
        "starts every",
    ]

    def number(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    return table(
        header,
        [
            [
                row["model"],
                str(row["T"]),
                str(row["B"]),
                str(row["D"]),
                str(row["params"]),
                number(row["tokens_per_s"], ".4g"),
                number(None if row["peak_bytes"] is None else row["peak_bytes"] / 1e6, ".1f"),
                number(row["ratio_to_gemm_floor"], ".2f"),
                number(row["ratio_to_torch_mm"], ".2f"),
                number(row["ratio_to_bandwidth_floor"], ".2f"),
                number(row["starts_every"], "d"),
            ]
            for row in rows
        ],
    )


def _check(
    lengths: Sequence[int], models: Sequence[str], tokens: int, width: int, layers: int, repeats: int, dtype: str
) -> None:
    for name in models:
        if name not in MODELS:
            raise UserError(f"unknown model {name!r}{nearest(name, MODELS)}")
    for key, value in (
        ("tokens", tokens),
        ("layers", layers),
        ("repeats", repeats),
        *(("lengths", t) for t in lengths),
    ):
        if value < 1:
            raise UserError(f"{key}={value} must be at least 1")
    if width < 16 or width % 16:
        raise UserError(f"width={width} must be a positive multiple of 16")
    if dtype not in ("float32", "bfloat16"):
        raise UserError(f"dtype={dtype!r} must be float32 or bfloat16")


def _device_name(device: str) -> str:
    import torch

    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = "CPU"
    return f"{name}, one thread, torch {torch.__version__}"
