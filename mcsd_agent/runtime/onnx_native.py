"""The `native` engine: the step as one call into compiled code.

The graph is compiled as for NumPy: every value has its array for good. Here an operation is not a few calls of NumPy
but an instruction of `native.c` with the addresses of its operands, and instructions that follow each other are one
call. Weights are laid out for that once, so that a tick reads them from their beginning to their end. What `native.c`
does not know (convolutions, GRU) NumPy computes in between.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.runtime.native_operators import Parts, compiled
from mcsd_agent.runtime.native_program import Operation, Program, is_compiled
from mcsd_agent.runtime.onnx_file import Model, Node
from mcsd_agent.runtime.onnx_into import Call
from mcsd_agent.runtime.onnx_numpy import NumpyEngine
from mcsd_agent.runtime.onnx_operators import Kernel


class NativeEngine(NumpyEngine):
    """`NumpyEngine` with compiled operations: the same results to within rounding, and the same refusals."""

    def __init__(self, model: Model, where: str = "the model", steady: Iterable[str] = (), batch: int = 1) -> None:
        if not is_compiled():
            raise UserError(
                "engine 'native' was not compiled when mcsd-agent was installed; install a C compiler and then "
                "mcsd-agent again, or use engine='onnx' or 'numpy'"
            )
        super().__init__(model, where, steady, batch)
        self._calls, self._steady_calls = _joined(self._calls), _joined(self._steady_calls)
        #: Whether a tick is compiled code alone.
        self.is_whole = all(isinstance(call, Program) for call in self._calls)
        if self.is_whole and not self._steady_calls:
            self._quietly = contextlib.nullcontext

    def _bound(
        self, node: Node, operands: Sequence[Any], known: Sequence[Any], arrays: Sequence[np.ndarray], kernel: Kernel
    ) -> list[Any]:
        if len(arrays) == 1:
            constant = [k is not None or x is None for k, x in zip(known, operands, strict=True)]
            operations = compiled(Parts(node, operands, constant, arrays[0]))
            if operations is not None:
                return operations
        return super()._bound(node, operands, known, arrays, kernel)


def _joined(calls: Sequence[Call | Operation]) -> list[Call]:
    """The same, with operations that follow each other as one call."""
    joined: list[Call] = []
    run: list[Operation] = []
    for call in (*calls, None):
        if isinstance(call, Operation):
            run.append(call)
            continue
        if run:
            joined.append(Program(run))
            run = []
        if call is not None:
            joined.append(call)
    return joined
