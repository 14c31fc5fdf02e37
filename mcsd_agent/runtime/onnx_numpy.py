"""The `numpy` engine: runs an exported step with NumPy alone.

The graph is compiled once into a list of operations over numbered slots. Whatever depends on
constants only is computed at load; what depends on steady inputs only (an instruction) is computed
when they change. A tick copies the slot list and walks through the other operations. Nothing but that
memo is kept between ticks, and it is replaced whole, so one engine may serve several threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any

import numpy as np

# Importing these two registers their operators.
from mcsd_agent.errors import UserError, nearest
from mcsd_agent.runtime import onnx_layers, onnx_shapes  # noqa: F401
from mcsd_agent.runtime.onnx_file import Model, Node
from mcsd_agent.runtime.onnx_operators import FACTORIES, Kernel, NodeReader

#: Operator set versions whose meanings the operators here follow.
OPSETS = range(18, 24)

_Arguments = Callable[[list[Any]], tuple[Any, ...]]
_Step = tuple[Kernel, _Arguments, int | tuple[int, ...]]


class NumpyEngine:
    """Computes a model's outputs from its inputs: `run({name: array}) -> tuple of arrays`.

    >>> from mcsd_agent.runtime.onnx_file import DTYPES, Model, Node, Port
    >>> port = Port("x", DTYPES[1], (2,))
    >>> model = Model(20, (port,), (Port("y", DTYPES[1], (2,)),), {}, (Node("Neg", "", ("x",), ("y",), {}),))
    >>> NumpyEngine(model).run({"x": np.float32([1, 2])})
    (array([-1., -2.], dtype=float32),)
    """

    def __init__(self, model: Model, where: str = "the model", steady: Iterable[str] = ()) -> None:
        """`steady` names the inputs that seldom change; results are the same without.

        Raises `UserError` naming the operator for anything the engine cannot run.
        """
        if model.opset not in OPSETS:
            raise UserError(
                f"{where} uses ONNX operator set {model.opset}; the numpy engine runs "
                f"{OPSETS.start} to {OPSETS.stop - 1}: use engine='onnx' or export again"
            )
        self._slots: dict[str, int] = {}
        self._template: list[Any] = []
        self._steps: list[_Step] = []
        self._steady_steps: list[_Step] = []
        # A left-out optional input reads this slot.
        self._define("", None)
        for name, array in model.constants.items():
            self._define(name, array)
        constant = set(self._slots)
        for port in model.inputs:
            self._define(port.name, None)
        settled = constant | set(steady)
        for node in model.nodes:
            with np.errstate(all="ignore"):
                self._add(node, constant, settled, model.opset, where)
        slots = [(port.name, self._slots[port.name]) for port in model.inputs]
        self._steady_inputs = tuple((n, s) for n, s in slots if n in settled)
        self._inputs = tuple((n, s) for n, s in slots if n not in settled)
        self._outputs = tuple(self._slot(port.name, "the outputs", where) for port in model.outputs)
        # The steady inputs' bytes, and the slots as they are once the steady operations have run.
        self._memo: tuple[tuple[bytes, ...] | None, list[Any]] = (None, self._template)

    @property
    def operations(self) -> int:
        """How many operations a tick runs while the steady inputs stay the same."""
        return len(self._steps)

    def run(self, inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        """Outputs in the model's order; the arrays belong to the caller."""
        key, settled = self._memo
        # Overflow in exp is how sigmoid saturates: not worth a warning, and results are checked anyway.
        with np.errstate(all="ignore"):
            new_key = tuple([inputs[name].tobytes() for name, _ in self._steady_inputs])
            if new_key != key:
                settled = self._template.copy()
                for name, slot in self._steady_inputs:
                    settled[slot] = inputs[name].copy()
                _run(self._steady_steps, settled)
                self._memo = (new_key, settled)
            values = settled.copy()
            for name, slot in self._inputs:
                values[slot] = inputs[name]
            _run(self._steps, values)
        return tuple([np.array(values[slot]) for slot in self._outputs])

    def _define(self, name: str, value: Any) -> int:
        self._slots[name] = len(self._template)
        self._template.append(value)
        return self._slots[name]

    def _slot(self, name: str, reader: str, where: str) -> int:
        if name not in self._slots:
            raise UserError(f"{where}: {reader} read {name!r}, which nothing before computes; export it again")
        return self._slots[name]

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
        slots = [self._slot(n, node.operator, where) for n in names]
        known = tuple(self._template[s] if n in constant else None for n, s in zip(names, slots, strict=True))
        reader = NodeReader(node, known, opset)
        try:
            kernel = FACTORIES[name](reader)
            reader.check_all_read()
            results = kernel(*known) if all(n in constant for n in names) else None
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        except (ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
            raise UserError(f"{where}: ONNX operator {name} is malformed ({_line(error)}); export it again") from None
        outputs = node.outputs
        if results is not None:
            for output, value in zip(outputs, results if len(outputs) > 1 else (results,), strict=False):
                self._define(output, np.asarray(value))
            constant.update(outputs)
            settled.update(outputs)
            return
        targets = tuple(self._define(output, None) for output in outputs)
        steps = self._steps
        if all(n in settled for n in names):
            settled.update(outputs)
            steps = self._steady_steps
        steps.append((kernel, _getter(slots), targets[0] if len(targets) == 1 else targets))


def _run(steps: list[_Step], values: list[Any]) -> None:
    for kernel, arguments, output in steps:
        if type(output) is int:
            values[output] = kernel(*arguments(values))
        else:
            for slot, value in zip(output, kernel(*arguments(values)), strict=False):  # type: ignore[arg-type]
                values[slot] = value


def _getter(slots: list[int]) -> _Arguments:
    """The arguments of one operation out of the slot list; itemgetter runs in C."""
    if len(slots) == 1:
        (slot,) = slots
        return lambda values: (values[slot],)
    return itemgetter(*slots)


def _hint(name: str) -> str:
    close = nearest(name, FACTORIES)
    return "" if close.startswith("; choose") else f" ({close[2:-1]})"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
