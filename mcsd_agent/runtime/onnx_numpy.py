"""The `numpy` engine: runs an exported step with NumPy alone.

The graph is compiled once. Every value gets its array for good, so that each operation becomes a few calls whose
operands and results are already bound (`onnx_into`), and a tick is a walk through these calls. Whatever depends on
constants only is computed at load, parts and reshaped views of an array are that array, and what depends on steady
inputs only (an instruction) is computed when they change.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

# Importing these two registers their operators.
from mcsd_agent.errors import UserError, nearest
from mcsd_agent.runtime import onnx_layers, onnx_shapes  # noqa: F401
from mcsd_agent.runtime.onnx_batch import sized
from mcsd_agent.runtime.onnx_file import Model, Node
from mcsd_agent.runtime.onnx_into import Call, bind
from mcsd_agent.runtime.onnx_operators import FACTORIES, Kernel, NodeReader
from mcsd_agent.runtime.unchanged import Unchanged

#: Operator set versions whose meanings the operators here follow.
OPSETS = range(18, 24)


class NumpyEngine:
    """Computes a model's outputs from its inputs: `run({name: array}) -> tuple of arrays`.

    One engine may serve several threads, which wait for each other.

    >>> from mcsd_agent.runtime.onnx_file import DTYPES, Model, Node, Port
    >>> port = Port("x", DTYPES[1], (2,))
    >>> model = Model(20, (port,), (Port("y", DTYPES[1], (2,)),), {}, (Node("Neg", "", ("x",), ("y",), {}),))
    >>> NumpyEngine(model).run({"x": np.float32([1, 2])})
    (array([-1., -2.], dtype=float32),)
    """

    def __init__(self, model: Model, where: str = "the model", steady: Iterable[str] = (), batch: int = 1) -> None:
        """`steady` names the inputs that seldom change; results are the same without. `batch` is the first dimension.

        Raises `UserError` naming the operator for anything the engine cannot run.
        """
        if model.opset not in OPSETS:
            raise UserError(
                f"{where} uses ONNX operator set {model.opset}; the numpy engine runs "
                f"{OPSETS.start} to {OPSETS.stop - 1}: use engine='onnx' or export again"
            )
        model = sized(model, batch, where)
        # A left-out optional input is None.
        self._values: dict[str, Any] = {"": None, **model.constants}
        self._calls: list[Call] = []
        self._steady_calls: list[Call] = []
        self.operations = 0
        constant = set(self._values)
        for port in model.inputs:
            self._values[port.name] = np.zeros([n or 0 for n in port.shape], port.dtype)
        settled = constant | set(steady)
        for node in model.nodes:
            with np.errstate(all="ignore"):
                self._add(node, constant, settled, model.opset, where)
        ports = [(port.name, self._values[port.name]) for port in model.inputs]
        self._steady_inputs = tuple((name, array) for name, array in ports if name in settled)
        self._inputs = tuple((name, array) for name, array in ports if name not in settled)
        self._outputs = tuple(self._value(port.name, "the outputs", where) for port in model.outputs)
        # The steady inputs for which the steady operations have run.
        self._unchanged = Unchanged()
        self._lock = threading.Lock()
        # Overflow in exp is how sigmoid saturates: not worth a warning, and results are checked anyway.
        self._quietly: Callable[[], Any] = partial(np.errstate, all="ignore")

    def run(self, inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        """Outputs in the model's order; the arrays belong to the caller."""
        with self._lock, self._quietly():
            if self._steady_inputs:
                steady = [inputs[name] for name, _ in self._steady_inputs]
                if not self._unchanged.is_so(steady):
                    self._unchanged.forget()
                    for name, array in self._steady_inputs:
                        array[...] = inputs[name]
                    for call in self._steady_calls:
                        call()
                    self._unchanged.remember(steady)
            for name, array in self._inputs:
                array[...] = inputs[name]
            for call in self._calls:
                call()
            return tuple([array.copy() for array in self._outputs])

    def _value(self, name: str, reader: str, where: str) -> Any:
        if name not in self._values:
            raise UserError(f"{where}: {reader} read {name!r}, which nothing before computes; export it again")
        return self._values[name]

    def _add(self, node: Node, constant: set[str], settled: set[str], opset: int, where: str) -> None:
        name = f"{node.domain}::{node.operator}" if node.domain else node.operator
        if name not in FACTORIES:
            raise UserError(
                f"{where}: ONNX operator {name} is not supported by the numpy engine; use engine='onnx'{_hint(name)}"
            )
        # Trailing left-out inputs are dropped, the others are passed as None.
        names = list(node.inputs)
        while names and names[-1] == "":
            names.pop()
        operands = [self._value(n, node.operator, where) for n in names]
        known = tuple(self._values[n] if n in constant else None for n in names)
        reader = NodeReader(node, known, opset)
        try:
            kernel = FACTORIES[name](reader)
            reader.check_all_read()
            results = kernel(*operands)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError) as error:
            raise UserError(f"{where}: ONNX operator {name} is malformed ({_line(error)}); export it again") from None
        results = [np.asarray(r) for r in (results if len(node.outputs) > 1 else (results,))]
        # Shapes are fixed once those of the inputs are.
        if all(n in constant for n in names) or node.operator in ("Shape", "Size"):
            self._values.update(zip(node.outputs, results, strict=False))
            constant.update(node.outputs)
            settled.update(node.outputs)
            return
        arrays = [r if _is_view(r, operands) else np.array(r, order="C") for r in results]
        self._values.update(zip(node.outputs, arrays, strict=False))
        is_settled = all(n in settled for n in names)
        if is_settled:
            settled.update(node.outputs)
        if all(a is r for a, r in zip(arrays, results, strict=True)):
            return  # nothing to compute: they change with the operands
        self.operations += not is_settled
        target = self._steady_calls if is_settled else self._calls
        target.extend(self._bound(node, operands, known, arrays, kernel))

    def _bound(
        self, node: Node, operands: Sequence[Any], known: Sequence[Any], arrays: Sequence[np.ndarray], kernel: Kernel
    ) -> list[Call]:
        """The calls that compute `arrays` from `operands`; `known` has the values of those that never change."""
        calls = bind(node, operands, arrays[0]) if len(arrays) == 1 else None
        return [_copying(kernel, operands, arrays)] if calls is None else calls


def _is_view(result: np.ndarray, operands: list[Any]) -> bool:
    """Whether a result is (part of) an operand's memory; kernels never keep memory of their own."""
    return any(result is a or (a is not None and a.size and np.may_share_memory(result, a)) for a in operands)


def _copying(kernel: Kernel, operands: Sequence[Any], arrays: Sequence[np.ndarray]) -> Call:
    """For operators without a binder."""
    if len(arrays) == 1:
        (array,) = arrays

        def run() -> None:
            array[...] = kernel(*operands)

        return run

    def run_all() -> None:
        for array, result in zip(arrays, kernel(*operands), strict=False):
            array[...] = result

    return run_all


def _hint(name: str) -> str:
    close = nearest(name, FACTORIES)
    return "" if close.startswith("; choose") else f" ({close[2:-1]})"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
