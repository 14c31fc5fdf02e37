"""`mcsd-agent bench step`: one step of the backbone on one thread, batch 1, in every engine and beside other backbones.

The floor is "read every weight once": NumPy's matrix-vector products over the same weights, and nothing else. A step's
quality is its time over the floor of its own weights. The controls have as many parameters and run in onnxruntime; the
transformer keeps the keys and values of the last `context` tokens and has seen that many.

All contestants take turns of some steps each, so that a machine that is busy for a while is busy for all of them;
figures are percentiles over all steps. What is timed is an engine's `run`, which copies inputs and state in and out.
The work is done in a process of its own, because the number of threads of NumPy's products is settled when it starts.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mcsd_agent.console import Reporter, table
from mcsd_agent.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

Report = Callable[[str, float, str], None]

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
#: Steps at the beginning of a turn that are not counted: they fetch the weights into the processor's caches.
_WARM_UP = 5
#: The default channels of a cell; a width that they do not divide gets fewer.
_CHANNELS = 8


@dataclass(frozen=True)
class Settings:
    """`turns` of `steps` each; `context` is what the transformer sees."""

    width: int = 128
    layers: int = 2
    context: int = 1024
    turns: int = 40
    steps: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("layers", "context", "turns", "steps"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)} must be at least 1")
        if self.width < 16 or self.width % (2 * _CHANNELS):
            raise UserError(f"width={self.width} must be a positive multiple of {2 * _CHANNELS}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    default = Settings()
    parser.add_argument("--width", type=int, default=default.width, help="D, a multiple of 16")
    parser.add_argument("--layers", type=int, default=default.layers)
    parser.add_argument("--context", type=int, default=default.context, help="tokens that the transformer sees")
    parser.add_argument("--turns", type=int, default=default.turns, help="of every contestant")
    parser.add_argument("--steps", type=int, default=default.steps, help="per turn")
    parser.add_argument("--seed", type=int, default=default.seed)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure in a fresh process on one thread and print a table; the result for `--json`."""
    settings = Settings(**{name: getattr(options, name) for name in Settings.__dataclass_fields__})
    arguments = json.dumps({"settings": asdict(settings), "quiet": getattr(options, "quiet", False)})
    done = subprocess.run(
        [sys.executable, "-m", "mcsd_agent.bench.step", arguments],
        env={**os.environ, **dict.fromkeys(_THREADS, "1")},
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode != 0:
        raise UserError(f"the measuring process ended with code {done.returncode}; its message is above")
    result = json.loads(done.stdout.splitlines()[-1])
    count = settings.turns * settings.steps
    print(f"width {settings.width}, {settings.layers} layers, batch 1, one thread, {count} steps")
    print(describe(result))
    return result


def run_step_benchmark(
    settings: Settings | None = None, report: Report = lambda stage, fraction, text: None
) -> dict[str, Any]:
    """What `--json` prints. Times hold for as many threads as this process has given torch and NumPy."""
    import torch

    from mcsd_agent.backbone import MCSDBackbone
    from mcsd_agent.cell import MCSDConfig

    settings = settings or Settings()
    torch.set_num_threads(1)
    torch.manual_seed(settings.seed)
    report("step", 0.0, "exporting")
    net = MCSDBackbone(MCSDConfig(width=settings.width, channels=_CHANNELS), settings.layers).eval()
    params = _count(net)
    contestants = {f"engine {name}": step for name, step in _engines(net, settings, _names()).items()}
    contestants["floor"] = _floor(net)
    controls = _controls(settings, params)
    for name, control in controls.items():
        contestants[f"control {name}"] = _engines(control, settings, ("onnx",))["onnx"]
        contestants[f"floor of {name}"] = _floor(control)
    times = _take_turns(contestants, settings, report)
    floor, own = times["floor"]["p50_us"], times["engine onnx"]["p50_us"]
    return {
        "params": params,
        "state_bytes": 4 * net.layers * net.state_size,
        "floor_us": floor,
        "engines": {
            name: {**times[f"engine {name}"], "ratio_to_floor": times[f"engine {name}"]["p50_us"] / floor}
            for name in _names()
        },
        "ratio_to_floor": own / floor,
        "controls_equal_params": {
            name: {
                "params": _count(control),
                "state_bytes": 4 * control.layers * control.state_size,
                **times[f"control {name}"],
                "floor_us": times[f"floor of {name}"]["p50_us"],
                "ratio_to_floor": times[f"control {name}"]["p50_us"] / times[f"floor of {name}"]["p50_us"],
                "ratio_to_mcsd": times[f"control {name}"]["p50_us"] / own,
            }
            for name, control in controls.items()
        },
    }


# --- contestants ---------------------------------------------------------------------------------


def _count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def _names() -> list[str]:
    from mcsd_agent.runtime.stream import engines_here

    return engines_here()


def _engines(net: Any, settings: Settings, names: Sequence[str]) -> dict[str, Any]:
    """A function without arguments per engine: one step, its memory carried on."""
    import numpy as np
    import torch

    from mcsd_agent.export.onnx_step import export_backbone
    from mcsd_agent.runtime.onnx_file import read_model
    from mcsd_agent.runtime.onnx_numpy import NumpyEngine
    from mcsd_agent.runtime.onnx_session import OnnxEngine

    width = _width(net)
    step = export_backbone(net, width)
    model = read_model(step, "the backbone")
    rng = np.random.default_rng(settings.seed)
    tokens = rng.standard_normal((64, 1, width), np.float32)

    def torch_run(inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            y, state = net.step(torch.from_numpy(inputs["x"]), torch.from_numpy(inputs["state"]))
        return y.numpy(), state.numpy()

    runs: dict[str, Any] = {}
    if "onnx" in names:
        runs["onnx"] = OnnxEngine(step, model, "the backbone").run
    if "native" in names:
        from mcsd_agent.runtime.onnx_native import NativeEngine

        runs["native"] = NativeEngine(model).run
    if "numpy" in names:
        runs["numpy"] = NumpyEngine(model).run
    if "torch" in names:
        runs["torch"] = torch_run
    return {name: _stepper(run, tokens, _full_state(net, settings)) for name, run in runs.items()}


def _stepper(run: Any, tokens: np.ndarray, state: np.ndarray) -> Callable[[], None]:
    inputs, count = {"x": tokens[0], "state": state}, 0

    def step() -> None:
        nonlocal count
        count += 1
        inputs["x"] = tokens[count % len(tokens)]
        _, inputs["state"] = run(inputs)

    return step


def _width(net: Any) -> int:
    if hasattr(net, "config"):
        return net.config.width
    return net.norm.weight.numel()


def _full_state(net: Any, settings: Settings) -> np.ndarray:
    """Zeros, but for a transformer that of a full window."""
    import numpy as np

    state = np.zeros((1, net.layers, net.state_size), np.float32)
    if hasattr(net, "window"):
        state[..., -1] = settings.context
    return state


def _floor(net: nn.Module) -> Callable[[], None]:
    """Every matrix of `net` times a vector, in the layout that NumPy is fastest with."""
    import numpy as np

    rng = np.random.default_rng(0)
    products = []
    for weight in net.parameters():
        if weight.ndim == 2:
            rows, columns = weight.shape
            matrix = rng.standard_normal((rows, columns), np.float32)
            products.append((rng.standard_normal(rows, np.float32), matrix, np.empty(columns, np.float32)))

    def floor() -> None:
        for x, matrix, out in products:
            np.dot(x, matrix, out=out)

    return floor


def _controls(settings: Settings, params: int) -> dict[str, Any]:
    """GRU, LSTM and transformer with most nearly `params` parameters."""
    from torch import nn

    from mcsd_agent.controls import RecurrentControl, TransformerControl

    layers, context = settings.layers, settings.context
    makers: dict[str, tuple[int, Callable[[int], nn.Module]]] = {
        "gru": (1, lambda width: RecurrentControl(nn.GRU, width, layers)),
        "lstm": (1, lambda width: RecurrentControl(nn.LSTM, width, layers)),
        f"transformer_{context}": (8, lambda width: TransformerControl(width, layers, context)),
    }
    found = {}
    for name, (step, make) in makers.items():
        width = min(range(step, 4 * settings.width, step), key=lambda w: abs(_count_at(name, w, layers) - params))
        found[name] = make(width).eval()
    return found


def _count_at(name: str, width: int, layers: int) -> int:
    """Parameters of a control, to first order exactly as many as it has."""
    per_layer = {"gru": 6 * width**2 + 6 * width, "lstm": 8 * width**2 + 8 * width}
    return layers * per_layer.get(name, 10 * width**2 + 2 * width) + width


# --- measuring -----------------------------------------------------------------------------------


def _take_turns(
    contestants: dict[str, Callable[[], None]], settings: Settings, report: Report
) -> dict[str, dict[str, float]]:
    import numpy as np

    times: dict[str, list[int]] = {name: [] for name in contestants}
    gc.collect()
    gc.disable()
    try:
        for turn in range(settings.turns):
            for name, step in contestants.items():
                for i in range(_WARM_UP + settings.steps):
                    began = time.perf_counter_ns()
                    step()
                    taken = time.perf_counter_ns() - began
                    if i >= _WARM_UP:
                        times[name].append(taken)
            report("step", (turn + 1) / settings.turns, f"turn {turn + 1} of {settings.turns}")
    finally:
        gc.enable()
    percentiles = {name: np.percentile(taken, (50, 99)) / 1e3 for name, taken in times.items()}
    return {name: {"p50_us": float(p50), "p99_us": float(p99)} for name, (p50, p99) in percentiles.items()}


def describe(result: dict[str, Any]) -> str:
    """The result as a table: one line per engine, for the floor, and per control."""
    floor, own = result["floor_us"], result["engines"]["onnx"]["p50_us"]

    def row(name: str, params: int, times: dict[str, float], floor: float) -> list[str]:
        p50 = times["p50_us"]
        return [name, str(params), f"{p50:.1f}", f"{times['p99_us']:.1f}", f"{p50 / floor:.2f}", f"{p50 / own:.2f}"]

    rows = [row(f"mcsd, {name}", result["params"], times, floor) for name, times in result["engines"].items()]
    for name, control in result["controls_equal_params"].items():
        rows.append(row(f"{name}, onnx", control["params"], control, control["floor_us"]))
    header = ["step", "params", "p50 µs", "p99 µs", "times its floor", "times mcsd, onnx"]
    return f"{table(header, rows)}\nfloor of mcsd: {floor:.1f} µs; state: {result['state_bytes']} bytes"


def _main() -> int:
    arguments = json.loads(sys.argv[1])
    report = Reporter(arguments["quiet"])
    try:
        result = run_step_benchmark(Settings(**arguments["settings"]), report)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        report.close()
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(_main())
