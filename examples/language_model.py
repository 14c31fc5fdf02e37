"""The policy's backbone as a language model of bytes: train it on text, then let it write with constant memory.

    python examples/language_model.py                                  # a minute on one CPU core
    python examples/language_model.py --folder ~/notes --tokens 2e6
    python examples/language_model.py --device cuda --width 512 --layers 8 --context 1024 --batch 32 --tokens 3e7

With --compare it trains MCSD (with and without its convolution) and a Transformer of as many parameters on
the same bytes in the same order: every learning rate of --lrs for each of them with --tune-tokens, then
each at its best with --seeds seeds. The results go to OUT.json and OUT.png:

    python examples/language_model.py --compare --seeds 3 --out lm --tokens 1e5 --tune-tokens 3e4
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import statistics
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mcsd_agent.bench.language_models import MODELS, TEXT_START, ByteModel, ByteModelConfig, build, memory_bytes
from mcsd_agent.errors import UserError

#: One file in so many is held out.
HELD_OUT_SHARE = 20
#: What an MCSD cell learns besides products: decay would pull these rates, angles and taps to a meaningless 0.
NOT_DECAYED = ("embedding.weight", "log_decay_rate", "angle", "taps")


@dataclass(frozen=True)
class Text:
    """Bytes to train on and bytes held out, from different files."""

    train: Tensor
    held_out: Tensor
    files: int


@dataclass(frozen=True)
class Recipe:
    """How one model is trained."""

    tokens: int
    context: int
    batch: int
    lr: float
    seed: int
    device: str
    judged: int  # bytes of held-out text for the last evaluation; the others on the way have a quarter
    evaluations: int = 8

    @property
    def steps(self) -> int:
        """Updates."""
        return max(1, self.tokens // (self.context * self.batch))


def read_text(folder: Path | None) -> Text:
    """The .py files of Python's standard library (pydoc's topics are one of them), or every file of a folder.

    Files are sorted by path and end with a zero byte; the hash of its path says on which side a file is.
    """
    root = folder or Path(sysconfig.get_path("stdlib"))
    paths = sorted(p.relative_to(root) for p in root.rglob("*.py" if folder is None else "*") if (root / p).is_file())
    if folder is None:
        paths = [p for p in paths if p.parts[0] not in ("site-packages", "dist-packages")]
    sides: tuple[list[bytes], list[bytes]] = ([], [])
    for path in paths:
        held_out = int.from_bytes(hashlib.sha256(path.as_posix().encode()).digest()[:4]) % HELD_OUT_SHARE == 0
        sides[held_out].append((root / path).read_bytes() + b"\0")
    train, held = (torch.frombuffer(bytearray(b"".join(side) or b"\0"), dtype=torch.uint8) for side in sides)
    return Text(train, held, len(paths))


def batches(text: Text, recipe: Recipe) -> Iterator[tuple[Tensor, Tensor]]:
    """Windows of bytes and the byte after each, drawn at random: sizes and seed alone decide which."""
    generator = torch.Generator().manual_seed(recipe.seed)
    shape = (recipe.steps, recipe.batch, 1)
    starts = torch.randint(0, len(text.train) - recipe.context, shape, generator=generator).to(recipe.device)
    data, positions = text.train.to(recipe.device), torch.arange(recipe.context + 1, device=recipe.device)
    for start in starts:
        window = data[start + positions].long()
        yield window[:, :-1], window[:, 1:]


def learning_rate(step: int, steps: int, peak: float) -> float:
    """A twentieth of the steps of warm-up, then half a cosine down to a tenth of the peak."""
    warm_up = max(1, steps // 20)
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return peak * (0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up))))


def optimiser(model: ByteModel) -> torch.optim.AdamW:
    """AdamW; only matrices that multiply tokens decay."""
    decayed, free = [], []
    for name, parameter in model.named_parameters():
        (free if parameter.dim() < 2 or name.endswith(NOT_DECAYED) else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), fused=decayed[0].is_cuda)


def loss_of(model: ByteModel, inputs: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats; products in bfloat16 on a GPU."""
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=inputs.is_cuda):
        logits = model(inputs)
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


@torch.no_grad()
def bits_per_byte(model: ByteModel, text: Text, recipe: Recipe, judged: int) -> float:
    """Of `judged` held-out bytes, in windows spread evenly over the files, each read from an empty memory."""
    context = recipe.context
    count = (len(text.held_out) - 1) // context
    chosen = torch.linspace(0, count - 1, max(1, min(count, judged // context))).long()[:, None] * context
    nats = []
    for starts in chosen.split(recipe.batch):
        window = text.held_out[starts + torch.arange(context + 1)].to(recipe.device).long()
        nats.append(len(starts) * loss_of(model, window[:, :-1], window[:, 1:]))
    return float(torch.stack(nats).sum()) / len(chosen) / math.log(2)


def train(config: ByteModelConfig, recipe: Recipe, text: Text, quiet: bool = False) -> tuple[ByteModel, dict[str, Any]]:
    """The trained model and what it measured."""
    cuda = recipe.device.startswith("cuda")
    torch.manual_seed(recipe.seed)
    model = build(config).to(recipe.device)
    adamw = optimiser(model)
    steps, every = recipe.steps, math.ceil(recipe.steps / recipe.evaluations)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    seconds, curve, began = 0.0, [], time.perf_counter()
    for step, (inputs, targets) in enumerate(batches(text, recipe)):
        for group in adamw.param_groups:
            group["lr"] = learning_rate(step, steps, recipe.lr)
        loss = loss_of(model, inputs, targets)
        adamw.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adamw.step()
        if (step + 1) % every == 0 or step + 1 == steps:
            if cuda:
                torch.cuda.synchronize()
            seconds += time.perf_counter() - began  # of training alone
            bits = bits_per_byte(model, text, recipe, recipe.judged if step + 1 == steps else recipe.judged // 4)
            curve.append(((step + 1) * recipe.context * recipe.batch, bits))
            if not quiet:
                print(f"{curve[-1][0]:>11,} bytes  {bits:.4f} bits per byte  ({seconds:.0f} s)", file=sys.stderr)
            began = time.perf_counter()
    return model, {
        "lr": recipe.lr,
        "seed": recipe.seed,
        "tokens": steps * recipe.context * recipe.batch,
        "parameters": model.parameter_count,
        "bits_per_byte": curve[-1][1],
        "seconds": seconds,
        "tokens_per_s": steps * recipe.context * recipe.batch / seconds,
        "peak_bytes": torch.cuda.max_memory_allocated() if cuda else None,
        "curve": curve,
    }


@torch.no_grad()
def write(model: ByteModel, prompt: bytes, length: int, seed: int, temperature: float = 0.8) -> tuple[bytes, int]:
    """Read the prompt, then draw `length` bytes one at a time; also the bytes that the memory takes."""
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    written = [TEXT_START, *prompt]
    memory = model.begin(1, len(written) + length)
    for i in range(len(prompt) + length):
        logits, memory = model.step(torch.tensor([written[i]], device=device), memory)
        if i >= len(prompt):
            chances = torch.softmax(logits[0].float().cpu() / temperature, 0)
            written.append(int(torch.multinomial(chances, 1, generator=generator)))
    return bytes(written[1:]), memory_bytes(memory)


# ------------------------------------------------------------------------------------------- the comparison


def compare(options: argparse.Namespace, config: ByteModelConfig, recipe: Recipe, text: Text) -> None:
    """Tune and train MCSD and the Transformer alike; write OUT.json and OUT.png."""
    variants = {
        "mcsd": replace(config, model="mcsd", conv=False),
        "mcsd, conv": replace(config, model="mcsd", conv=True),
        "transformer": replace(config, model="transformer"),
    }
    if options.conv is not None:  # the user has chosen
        del variants["mcsd" if options.conv else "mcsd, conv"]
    tuning, rows = [], []

    def one(name: str, changed: Recipe) -> dict[str, Any]:
        _, measured = train(variants[name], changed, text, quiet=True)
        row = {"model": name, **measured}
        print(
            f"{name:<12} lr {row['lr']:<7g} seed {row['seed']}  {row['tokens']:>11,} bytes  "
            f"{row['bits_per_byte']:.4f} bits per byte  {row['tokens_per_s']:>9,.0f} bytes/s",
            flush=True,
        )
        return row

    for name in variants:
        for lr in options.lrs:
            tuning.append(one(name, replace(recipe, lr=lr, tokens=int(options.tune_tokens), seed=0)))
    ranked = sorted(tuning, key=lambda r: r["bits_per_byte"])
    best = {name: next(r for r in ranked if r["model"] == name) for name in variants}
    cell = min((n for n in variants if n != "transformer"), key=lambda n: best[n]["bits_per_byte"])
    for seed in range(options.seeds):
        for name in (cell, "transformer"):
            rows.append(one(name, replace(recipe, lr=best[name]["lr"], seed=seed)))
    means = {
        name: statistics.mean(r["bits_per_byte"] for r in rows if r["model"] == name) for name in (cell, "transformer")
    }
    ratio = means[cell] / means["transformer"]
    print(f"bits per byte, mean of {options.seeds} seeds: {means}; {cell} / transformer = {ratio:.4f}")
    result = {
        "command": " ".join(["python", "examples/language_model.py", *sys.argv[1:]]),
        "device": torch.cuda.get_device_name() if recipe.device.startswith("cuda") else "cpu",
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "text": {"files": text.files, "train_bytes": len(text.train), "held_out_bytes": len(text.held_out)},
        "config": {**vars(config), "context": recipe.context, "batch": recipe.batch},
        "tuning": tuning,
        "rows": rows,
        "bits_per_byte": means,
        "ratio": ratio,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    plot(rows, options.out.with_suffix(".png"))


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Held-out bits per byte by bytes seen, one line per seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), constrained_layout=True)
    names = list(dict.fromkeys(row["model"] for row in rows))
    for row in rows:
        tokens, bits = zip(*row["curve"], strict=True)
        label = f"{row['model']} ({row['parameters'] / 1e6:.1f}M)" if row["seed"] == 0 else None
        axes.plot([t / 1e6 for t in tokens], bits, color=f"C{names.index(row['model'])}", marker=".", label=label)
    axes.set_xlabel("bytes of text seen, millions")
    axes.set_ylabel("bits per byte, held-out files")
    axes.set_yscale("log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


# ------------------------------------------------------------------------------------------------ arguments


def arguments() -> argparse.Namespace:
    """What the user asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="mcsd")
    parser.add_argument("--preset", choices=("extended", "paper"), default="extended")
    parser.add_argument("--conv", action=argparse.BooleanOptionalAction, help="MCSD's short convolution")
    parser.add_argument("--tied", action="store_true", help="the head's weights are the embedding's")
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--horizon", type=int, default=512, help="MCSD: steps over which its slowest channel forgets")
    parser.add_argument("--tokens", type=float, default=1.5e6, help="bytes to train on")
    parser.add_argument("--context", type=int, default=128, help="bytes per window")
    parser.add_argument("--batch", type=int, default=32, help="windows per update")
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--judged", type=float, default=3e5, help="held-out bytes for the last evaluation")
    parser.add_argument("--folder", type=Path, help="text to learn (default: Python's standard library)")
    parser.add_argument("--prompt", default="def ", help="how the sample begins")
    parser.add_argument("--sample", type=int, default=300, help="bytes to write in the end")
    parser.add_argument("--out", type=Path, help="weights, or with --compare the results without suffix")
    parser.add_argument("--compare", action="store_true", help="MCSD against a Transformer of equal size")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lrs", type=float, nargs="+", default=[1e-3, 2e-3, 4e-3])
    parser.add_argument("--tune-tokens", type=float, default=3e5)
    return parser.parse_args()


def check(options: argparse.Namespace) -> None:
    """Refuse numbers that cannot train anything."""
    for name in ("tokens", "context", "batch", "lr", "judged", "sample", "seeds", "tune_tokens", "lrs"):
        value = getattr(options, name)
        for number in value if isinstance(value, list) else [value]:
            if not 0 < number < float("inf"):
                raise UserError(f"--{name.replace('_', '-')} {number} must be a positive number")
    if options.device.partition(":")[0] not in ("cpu", "cuda"):
        raise UserError(f"--device {options.device} must be cpu or cuda")


def main() -> None:
    """Train, judge, write."""
    options = arguments()
    check(options)
    if options.device == "cpu":
        torch.set_num_threads(1)
    elif not torch.cuda.is_available():
        raise UserError(f"--device {options.device}: torch finds no CUDA device; use --device cpu")
    text = read_text(options.folder)
    if min(len(text.train), len(text.held_out)) < 2 * options.context:
        where = options.folder or "the standard library"
        raise UserError(f"{str(where)!r} has too little text for --context {options.context}; add files, 20 or more")
    config = ByteModelConfig(**{f.name: getattr(options, f.name) for f in fields(ByteModelConfig) if f.name in options})
    recipe = Recipe(
        tokens=int(options.tokens),
        context=options.context,
        batch=options.batch,
        lr=options.lr,
        seed=options.seed,
        device=options.device,
        judged=int(options.judged),
    )
    print(f"{text.files} files: {len(text.train):,} bytes to learn, {len(text.held_out):,} held out", file=sys.stderr)
    if options.compare:
        options.out = options.out or Path("benchmarks/results/language_model")
        compare(options, config, recipe, text)
        return
    model, measured = train(config, recipe, text)
    print(f"{measured['parameters']:,} parameters: {measured['bits_per_byte']:.4f} bits per byte on files never seen")
    sample, size = write(model, options.prompt.encode(), options.sample, options.seed)
    print(f"{options.sample} bytes written with {size:,} bytes of memory:")
    print(sample.decode(errors="replace"))
    if options.out is not None:
        torch.save({"config": vars(config), "weights": model.state_dict()}, options.out)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
