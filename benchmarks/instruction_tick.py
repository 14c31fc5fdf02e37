"""What the instruction adds to a tick: the same policy of Nav without instructions, with words, and with sentences.

    python benchmarks/instruction_tick.py --json
    python benchmarks/instruction_tick.py --conditioning attention

Medians of blocks of ticks that take turns, so that what else the machine does falls on all alike; and what a sentence
costs when it is heard for the first time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from mcsd_agent.artifact import export_policy
from mcsd_agent.conditioning import Conditioning
from mcsd_agent.encoders import EncoderConfig
from mcsd_agent.language import Vocabulary
from mcsd_agent.policy import Policy, PolicyConfig
from mcsd_agent.runtime import Stream
from mcsd_agent.runtime.sentences import Sentences
from mcsd_agent.runtime.stream import engines_here
from mcsd_agent.spaces import BoxSpec, MultiDiscreteSpec, TextSpec

_TEXT = "go to the green cone, then the red box"
_BLOCKS, _TICKS = 60, 200


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--conditioning", choices=get_args(Conditioning), default="film", help="default: film")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    report: dict[str, Any] = {"ticks": _BLOCKS * _TICKS, "conditioning": arguments.conditioning}
    with tempfile.TemporaryDirectory() as folder:
        paths = {kind: _artifact(kind, Path(folder), arguments.conditioning) for kind in ("none", "words", "sentence")}
        for engine in (name for name in engines_here() if name != "torch"):
            report[engine] = _compare(paths, engine)
        stream = Stream.load(paths["sentence"])
        began = time.perf_counter()
        stream.read(_observation("please approach the big yellow box"))
        report["first_time_ms"] = 1e3 * (time.perf_counter() - began)
    print(json.dumps(report, indent=None if arguments.json else 1))


def _artifact(kind: str, folder: Path, conditioning: Conditioning) -> Path:
    specs = {
        "ranges": BoxSpec((31,), low=(0.0,), high=(4.0,)),
        "labels": MultiDiscreteSpec((14,) * 31),
        "wheel_velocities": BoxSpec((2,)),
    }
    encoder = None
    if kind == "words":
        encoder, specs["instruction"] = Vocabulary.from_texts([_TEXT]), TextSpec(24)
    if kind == "sentence":
        encoder = Sentences.from_texts([_TEXT])
        specs["instruction"] = TextSpec(encoder.max_tokens, embedding=encoder.size, dtype="float32")
    config = PolicyConfig(
        width=96,
        layers=1,
        encoder=EncoderConfig(
            scan=("ranges", "labels"),
            scan_factors=(4, 3),
            ray_width=24,
            word_width=32,
            instruction_width=128,
            instruction="sentence" if kind == "sentence" else "words",
            conditioning=conditioning,
        ),
    )
    torch.manual_seed(0)
    path = folder / f"{kind}.mcsd"
    export_policy(Policy(specs, BoxSpec((2,)), config, encoder), path, rate_hz=10.0, parity_observations=20)
    return path


def _observation(text: str | None) -> dict[str, object]:
    seen = {
        "ranges": np.ones(31, np.float32),
        "labels": np.zeros(31, np.int64),
        "wheel_velocities": np.zeros(2, np.float32),
    }
    return seen if text is None else seen | {"instruction": text}


def _compare(paths: dict[str, Path], engine: str) -> dict[str, float]:
    streams = {kind: Stream.load(path, engine) for kind, path in paths.items()}
    states = {kind: stream.initial_state() for kind, stream in streams.items()}
    times: dict[str, list[float]] = {kind: [] for kind in streams}
    for _ in range(_BLOCKS):
        for kind, stream in streams.items():
            seen, state = _observation(None if kind == "none" else _TEXT), states[kind]
            began = time.perf_counter()
            for _ in range(_TICKS):
                _, state = stream.step(seen, state)
            times[kind].append((time.perf_counter() - began) / _TICKS)
            states[kind] = state
    micro = {kind: 1e6 * float(np.median(values)) for kind, values in times.items()}
    added = {f"{kind}_adds": micro[kind] / micro["none"] - 1 for kind in ("words", "sentence")}
    return {**{f"{kind}_us": value for kind, value in micro.items()}, **added}


if __name__ == "__main__":
    main()
