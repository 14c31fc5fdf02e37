"""`mcsd-agent bench generate`: recurrent generation against a Transformer of the same size with a key-value cache."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcsd_agent.console import Reporter, table
from mcsd_agent.errors import UserError

if TYPE_CHECKING:
    from mcsd_agent.bench.language_models import ByteModel, ByteModelConfig

#: What is measured where the user does not say: on CUDA the sizes of the results in the documents, on a CPU little.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "cuda": {
        "width": 768,
        "layers": 13,
        "lengths": [2048, 4096, 8192, 16384, 32768],
        "length_batches": [1, 16],
        "batches": [1, 2, 4, 8, 16, 32, 64, 128, 192, 256],
        "batch_lengths": [2048, 8192],
        "further_batches": [512, 1024, 2048, 4096],
    },
    "cpu": {
        "width": 128,
        "layers": 2,
        "lengths": [512, 1024, 2048, 4096],
        "length_batches": [1],
        "batches": [1, 4, 16],
        "batch_lengths": [2048],
        "further_batches": [64],
    },
}
_POINTS = 8
_NAMES = {"mcsd": "MCSD", "transformer": "Transformer with cache"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where torch finds it")
    parser.add_argument("--width", type=int, help="default: 768 on cuda (about 100M parameters), 128 on cpu")
    parser.add_argument("--layers", type=int, help="default: 13 on cuda, 2 on cpu")
    parser.add_argument("--preset", choices=("extended", "paper"), default="extended")
    parser.add_argument("--conv", action=argparse.BooleanOptionalAction, help="MCSD's short convolution")
    for name, text in (
        ("lengths", "bytes to generate, for memory and latency by length"),
        ("length-batches", "batches at which all lengths are measured"),
        ("batches", "batches, for latency and throughput by batch"),
        ("batch-lengths", "lengths at which all batches are measured"),
        ("further-batches", "batches that only MCSD is asked for"),
    ):
        parser.add_argument(f"--{name}", type=int, nargs="+", metavar="N", help=text)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="torch.compile (default: on cuda)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="also write generate.json and three plots there")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print a table, write the plots; the result for `--json`."""
    import torch

    from mcsd_agent.bench.language_models import MODELS, ByteModelConfig

    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no CUDA device; use --device cpu")
    for name, default in _DEFAULTS[device].items():
        if getattr(options, name) is None:
            setattr(options, name, default)
    _check(options)
    if device == "cpu":
        torch.set_num_threads(1)
    sizes = {"width": options.width, "layers": options.layers, "preset": options.preset, "conv": options.conv}
    report, began = Reporter(options.quiet), time.monotonic()
    rows: list[dict[str, Any]] = []
    result: dict[str, Any] = {"rows": rows, "device": torch.cuda.get_device_name() if device == "cuda" else "cpu"}
    compiled = options.compile if options.compile is not None else device == "cuda"
    result |= {"torch": torch.__version__, "dtype": "bfloat16" if device == "cuda" else "float32", "compiled": compiled}
    result["config"] = {**sizes, **{name: getattr(options, name) for name in _DEFAULTS[device]}}
    result["parameters"] = {}
    for name in MODELS:
        model = _model(ByteModelConfig(model=name, **sizes), device, compiled=compiled)
        result["parameters"][name] = model.parameter_count
        if name == "mcsd":
            measured = _measure_mcsd(model, options, device, report)
        else:
            measured, result["attention_ms"] = _measure_transformer(model, options, device, report)
        rows += [{"model": name, **row} for row in measured]
        del model
    report.close()
    result["seconds"] = time.monotonic() - began
    result["headline"] = headline(rows)
    _show(result)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "generate.json").write_text(json.dumps(result, indent=1) + "\n")
        for path in plots(result, options.out):
            print(path)
    return result


def _check(options: argparse.Namespace) -> None:
    from mcsd_agent.bench.decoding import STEPS

    for name in ("lengths", "batch_lengths"):
        for value in getattr(options, name):
            if value < 2 * STEPS:
                raise UserError(f"--{name.replace('_', '-')} {value} must be at least {2 * STEPS} bytes")
    for name in ("batches", "length_batches", "further_batches"):
        for value in getattr(options, name):
            if value < 1:
                raise UserError(f"--{name.replace('_', '-')} {value} must be at least 1")


def _model(config: ByteModelConfig, device: str, *, compiled: bool) -> ByteModel:
    import torch

    from mcsd_agent.bench.decoding import compile_layers
    from mcsd_agent.bench.language_models import build

    torch.manual_seed(0)
    model = build(config).requires_grad_(False)
    if device == "cuda":
        model = model.cast_products(torch.bfloat16).to(device)
    if compiled:
        compile_layers(model)
    return model


def _measure_mcsd(model: ByteModel, options: argparse.Namespace, device: str, report: Reporter) -> list[dict[str, Any]]:
    """The rows of MCSD: every length in one go per batch, then every batch."""
    import torch

    from mcsd_agent.bench.decoding import by_length, constant, out_of_memory

    rows = []
    for i, batch in enumerate(options.length_batches):
        report("mcsd", i / len(options.length_batches), f"batch {batch}, up to {max(options.lengths)} bytes")
        rows += by_length(model, batch, options.lengths, device)
    for batch in sorted({*options.batches, *options.further_batches}):
        for length in options.batch_lengths:
            if not any(r["batch"] == batch and r["length"] == length for r in rows):
                report("mcsd", 1.0, f"batch {batch}")
                try:
                    rows.append(constant(model, batch, length, device))
                except torch.OutOfMemoryError:
                    rows.append(out_of_memory(batch, length))
    return rows


def _measure_transformer(
    model: ByteModel, options: argparse.Namespace, device: str, report: Reporter
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of the Transformer, and what its attention kernels took."""
    import torch

    from mcsd_agent.bench.decoding import attention_times, growing, out_of_memory

    # Which kernel is fastest depends on whether the batch alone fills the device.
    alone = attention_times(model, 1, max(options.lengths), device)
    many = attention_times(model, max(2, min(32, *options.batches)), max(options.batch_lengths), device)
    cells = [(batch, length) for batch in options.length_batches for length in options.lengths]
    cells += [(batch, length) for batch in options.batches for length in options.batch_lengths]
    rows = []
    for i, (batch, length) in enumerate(dict.fromkeys(cells)):
        report("transformer", i / len(cells), f"batch {batch}, {length} bytes")
        try:
            rows.append(growing(model, batch, length, device, _POINTS, alone if batch == 1 else many))
        except torch.OutOfMemoryError:
            rows.append(out_of_memory(batch, length))
    return rows, {"batch 1": alone, "larger batches": many}


def headline(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the rows say in a few numbers."""
    kept = [r for r in rows if not r.get("out_of_memory")]
    found: dict[str, Any] = {}
    for model in ("mcsd", "transformer"):
        mine = sorted((r for r in kept if r["model"] == model and r["batch"] == 1), key=lambda r: r["length"])
        if len(mine) > 1:
            first, last = mine[0], mine[-1]
            found[model] = {
                "lengths": [first["length"], last["length"]],
                "memory_ratio": last["peak_bytes"] / first["peak_bytes"],
                "latency_ratio": last["ms_per_token"] / first["ms_per_token"],
            }
    found["throughput"] = []
    for length in sorted({r["length"] for r in kept}):
        ours, theirs = (
            {r["batch"]: r["tokens_per_s"] for r in kept if r["model"] == m and r["length"] == length}
            for m in ("mcsd", "transformer")
        )
        if not ours.keys() & theirs.keys():
            continue
        batch = max(ours.keys() & theirs.keys())
        found["throughput"].append(
            {
                "length": length,
                "batch": batch,  # the largest that both held
                "ratio": ours[batch] / theirs[batch],
                "largest_batch": max(ours),  # MCSD's
                "ratio_of_maxima": max(ours.values()) / max(theirs.values()),  # each at its best batch
            }
        )
    return found


def _show(result: dict[str, Any]) -> None:
    cells = []
    for r in sorted(result["rows"], key=lambda r: (r["model"], r["length"], r["batch"])):
        numbers = ["out of memory", "", ""]
        if not r.get("out_of_memory"):
            numbers = [f"{r['ms_per_token']:.3f}", f"{r['tokens_per_s']:,.0f}", f"{r['peak_bytes'] / 2**20:,.1f}"]
        cells.append([r["model"], str(r["length"]), str(r["batch"]), *numbers])
    print(table(["model", "length", "batch", "ms/token", "tokens/s", "peak MiB"], cells))
    for entry in result["headline"]["throughput"]:
        print(
            f"length {entry['length']}: MCSD's throughput is {entry['ratio']:.2f} times the Transformer's at batch "
            f"{entry['batch']}, the largest that both held"
        )
    print(f"measured in {result['seconds']:.0f} s on {result['device']}", file=sys.stderr)


def plots(result: dict[str, Any], folder: Path) -> list[Path]:
    """Memory by length, latency by batch, throughput by batch: three PNGs."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = [r for r in result["rows"] if not r.get("out_of_memory")]
    config = result["config"]
    # file, horizontal axis, vertical axis, its unit, and what distinguishes the lines: of which column, which values
    pictures = (
        ("memory", "length", "peak_bytes", 2**-30, "batch", config["length_batches"]),
        ("latency", "batch", "ms_per_token", 1.0, "length", config["batch_lengths"]),
        ("throughput", "batch", "tokens_per_s", 1.0, "length", config["batch_lengths"]),
    )
    labels = {
        "peak_bytes": "peak memory, GiB",
        "ms_per_token": "ms per step (one byte of each text)",
        "tokens_per_s": "bytes generated per second",
        "length": "bytes generated",
        "batch": "texts at once",
    }
    refused = {(r["model"], r["length"]) for r in result["rows"] if r.get("out_of_memory")}
    written = []
    for name, x, y, unit, line, values in pictures:
        figure, axes = plt.subplots(figsize=(6, 4), constrained_layout=True)
        for style, value in zip(("-o", "--s", ":^", "-.d") * len(values), values, strict=False):
            for colour, model in zip(("C0", "C1"), _NAMES, strict=True):
                points = sorted((r[x], r[y] * unit) for r in rows if r["model"] == model and r[line] == value)
                if len(points) > 1:
                    label = f"{_NAMES[model]}, {line} {value}"
                    axes.plot(*zip(*points, strict=True), style, color=colour, label=label, markersize=4)
                    if line == "length" and (model, value) in refused:
                        where = points[-1][0], points[-1][1] * 1.15
                        axes.text(*where, "more: out of memory", color=colour, ha="center", fontsize=8)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_yscale("log")
        axes.set_xlabel(labels[x])
        axes.set_ylabel(labels[y])
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize=8)
        written.append(folder / f"generate_{name}.png")
        figure.savefig(written[-1], dpi=120)
        plt.close(figure)
    return written
