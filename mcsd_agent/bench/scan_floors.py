"""What a pass cannot be faster than: its matrix products alone, and the memory traffic of the fused sections.

Products: the shapes, layouts and dtypes of all matrix products of one forward and backward pass are recorded as torch
executes them, and then run alone, without allocation, each by the fastest of the routines that torch has for it. For
GRU and LSTM, whose kernels hide their products, they are those of all weights with all tokens at once: what they would
be if nothing depended on the step before. The products inside attention belong to its kernel and are not in the floor.

Traffic: forward, the fused sections read 5D numbers per token (4D with fixed rates) and write 2D; backward they read
both and write 5D. Divided by the bandwidth of a plain copy, measured beside it, that is the floor of their kernels.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mcsd_agent.bench.scan_models import CHANNELS, Pass, Task, episode_starts, random, replay, seconds
from mcsd_agent.mixing import Constants

_COPY_BYTES = 2**30


class Product(NamedTuple):
    """`batch` times (rows, inner) @ (inner, columns); whether each operand lies in memory transposed."""

    batch: int
    rows: int
    inner: int
    columns: int
    left_transposed: bool
    right_transposed: bool
    dtype: torch.dtype


class Products:
    """The matrix products of a pass, ready to run alone."""

    def __init__(self, products: list[Product], device: torch.device) -> None:
        self.products, self.device = products, device
        self._fastest: list[Callable[[], object]] | None = None
        self._plain: list[Callable[[], object]] = []

    @classmethod
    def of(cls, run: Pass) -> Products:
        """Those of `run`, which runs once."""
        with _in_one_piece(), _Recorder() as recorder:
            run()
        rnns = [m for m in run.model.modules() if isinstance(m, nn.RNNBase)]
        found = recorder.found
        if rnns:
            dtype = getattr(torch, run.task.dtype)
            weights = [p for rnn in rnns for p in rnn.parameters() if p.dim() == 2]
            tokens = run.task.batch * run.task.length
            found = [product for w in weights for product in _of_a_linear(tokens, w.shape[1], w.shape[0], dtype)]
        return cls(found, run.device)

    def seconds(self) -> float:
        """The time of all products in a row."""
        if self._fastest is None:
            self._fastest = self._choose()
        kernels = self._fastest
        return seconds(lambda: [kernel() for kernel in kernels], self.device)

    def torch_seconds(self) -> float:
        """The same by `torch.mm` and `torch.bmm` alone, which on some CPUs are far from the fastest."""
        if not self._plain:
            pool = _Pool(self.device)
            self._plain = [_kernels(product, pool)[0] for product in self.products]
        return seconds(lambda: [kernel() for kernel in self._plain], self.device)

    def _choose(self) -> list[Callable[[], object]]:
        """A function per product; the same products share theirs."""
        chosen: dict[Product, Callable[[], object]] = {}
        pool = _Pool(self.device)
        for product in self.products:
            if product not in chosen:
                timed: list[tuple[float, int, Callable[[], object]]] = []
                for kernel in _kernels(product, pool):
                    kernel()
                    timed.append((min(seconds(kernel, self.device) for _ in range(3)), len(timed), kernel))
                chosen[product] = min(timed)[2]
        return [chosen[p] for p in self.products]


class _Pool:
    """Memory that all operands share: nothing is allocated while products run."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._held: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, name: str, shape: tuple[int, int, int], transposed: bool, dtype: torch.dtype) -> Tensor:
        """A `(batch, rows, columns)` operand."""
        batch, rows, columns = shape
        size = batch * rows * columns
        held = self._held.get((name, dtype))
        if held is None or held.numel() < size:
            held = self._held[name, dtype] = random(size, device=self.device, dtype=dtype)
        if transposed:
            return held[:size].view(batch, columns, rows).transpose(1, 2)
        return held[:size].view(shape)


def _kernels(product: Product, pool: _Pool) -> list[Callable[[], object]]:
    batch, rows, inner, columns, left_transposed, right_transposed, dtype = product
    left = pool.take("left", (batch, rows, inner), left_transposed, dtype)
    right = pool.take("right", (batch, inner, columns), right_transposed, dtype)
    out = pool.take("out", (batch, rows, columns), False, dtype)
    if batch > 1:
        return [lambda: torch.bmm(left, right, out=out)]
    a, b, c = left[0], right[0], out[0]
    kernels: list[Callable[[], object]] = [lambda: torch.mm(a, b, out=c)]
    if pool.device.type == "cpu" and torch.backends.mkldnn.is_available() and dtype == torch.float32:
        from mcsd_agent.kernels.linear import linear

        kernels.append(torch.no_grad()(lambda: linear(a, b.t())))
    return kernels


def _of_a_linear(tokens: int, inputs: int, outputs: int, dtype: torch.dtype) -> list[Product]:
    """Forward, gradient of the input, gradient of the weight (outputs, inputs)."""
    return [
        Product(1, tokens, inputs, outputs, False, True, dtype),
        Product(1, tokens, outputs, inputs, False, False, dtype),
        Product(1, outputs, tokens, inputs, True, False, dtype),
    ]


@contextmanager
def _in_one_piece() -> Iterator[None]:
    """The pieces of time that a CPU's scan goes through would make a floor of products within the cache."""
    try:
        from mcsd_agent.kernels import cpu_scan
    except ImportError:  # no Numba, no pieces
        yield
        return
    usual, cpu_scan.ROWS_OF_A_PIECE = cpu_scan.ROWS_OF_A_PIECE, sys.maxsize
    try:
        yield
    finally:
        cpu_scan.ROWS_OF_A_PIECE = usual


class _Recorder(TorchDispatchMode):
    """Notes every matrix product that torch executes, those inside the operator of an MLP as if it had no chunks."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Product] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__ if hasattr(func, "overloadpacket") else ""
        if name in ("mm", "bmm"):
            self._note(args[0], args[1])
        elif name in ("addmm", "addmm_", "baddbmm"):
            self._note(args[1], args[2])
        elif name == "_linear_pointwise":
            self._note(args[0], args[1].t())
        elif func is torch.ops.mcsd_mlp.forward.default:
            x, *weights = args
            self.found += [_of_a_linear(len(x), w.shape[1], w.shape[0], x.dtype)[0] for w in weights]
        elif func is torch.ops.mcsd_mlp.backward.default:
            _, x, _, *weights, _ = args
            self.found += [p for w in weights for p in _of_a_linear(len(x), w.shape[1], w.shape[0], x.dtype)[1:]]
        return func(*args, **(kwargs or {}))

    def _note(self, left: Tensor, right: Tensor) -> None:
        batch = left.shape[0] if left.dim() == 3 else 1
        rows, inner, columns = *left.shape[-2:], right.shape[-1]
        self.found.append(Product(batch, rows, inner, columns, _transposed(left), _transposed(right), left.dtype))


def _transposed(x: Tensor) -> bool:
    return x.stride(-1) != 1 and x.stride(-2) == 1


class MixFloor:
    """The fused sections of one MCSD layer alone, on CUDA, against the bandwidth of a copy."""

    def __init__(self, task: Task, width: int) -> None:
        device, dtype = torch.device(task.device), getattr(torch, task.dtype)
        selective = task.model == "mcsd-extended"
        shape = task.batch, task.length
        self.device, self.reads, self.writes = device, (5 if selective else 4) * width, 2 * width
        self.token_bytes = task.batch * task.length * torch.empty(0, dtype=dtype).element_size()
        projected = random(*shape, self.reads, device=device, dtype=dtype)
        state = torch.zeros(task.batch, 2 * width, device=device)
        features = width // 2 if selective else width
        rates = torch.logspace(-3, -0.5, features, device=device)
        constants = Constants(
            slope_rate=torch.logspace(-2.4, -0.3, width, device=device),
            rate_bias=torch.zeros(width, device=device) if selective else None,
            decay_rate=rates,
            angle=torch.linspace(0.01, 3.0, features, device=device) if selective else None,
            decay_scale=torch.sqrt(-torch.expm1(-2 * rates)),
            norm_weight=torch.ones(2 * width, device=device),
        )
        normaliser = None if selective else 1.0 + torch.rand(*shape, CHANNELS, device=device)
        self.inputs = state, projected, episode_starts(task), normaliser, *constants, CHANNELS

    def measure(self, repeats: int) -> dict[str, float]:
        """Keys of a row: the ratio of both directions to the floor, and each one's share of the bandwidth."""
        forward, backward, copy = self.seconds(repeats)
        forward_floor, backward_floor = self.floor_seconds(copy)
        return {
            "ratio_to_bandwidth_floor": (forward + backward) / (forward_floor + backward_floor),
            "mix_forward_bandwidth": forward_floor / forward,
            "mix_backward_bandwidth": backward_floor / backward,
            "copy_bytes_per_s": 2 * _COPY_BYTES / copy,
        }

    def floor_seconds(self, copy: float) -> tuple[float, float]:
        """Forward and backward, at the bandwidth of a copy that takes `copy` seconds."""
        per_number = self.token_bytes * copy / (2 * _COPY_BYTES)
        return per_number * (self.reads + self.writes), per_number * (2 * self.reads + self.writes)

    @torch.no_grad()
    def seconds(self, repeats: int) -> tuple[float, float, float]:
        """Medians: forward, backward, and a copy of a buffer.

        Each direction is one CUDA graph: its kernels alone, with the buffers they fill, and no time between them.
        """
        gated, final, saved = self._forward()
        gradients = torch.randn_like(gated), torch.randn_like(final)
        source = torch.empty(_COPY_BYTES, dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        functions = [
            replay(self._forward),
            replay(lambda: torch.ops.mcsd.mix_backward(*gradients, saved, *self.inputs)),
            lambda: target.copy_(source),
        ]
        times: list[list[float]] = [[] for _ in functions]
        for _ in range(repeats):
            for function, found in zip(functions, times, strict=True):
                found.append(seconds(function, self.device, times=10))
        forward, backward, copy = (statistics.median(found) for found in times)
        return forward, backward, copy

    def _forward(self) -> tuple[Tensor, Tensor, Tensor]:
        return torch.ops.mcsd.mix_forward(*self.inputs)
