"""A step in two: what depends on seldom changing inputs alone (an instruction), and the rest.

onnxruntime computes a whole graph at every tick. The nodes that only the steady inputs reach are therefore cut off:
`SteadyPart` runs them, with the numpy engine, when these inputs change, and its results are inputs of what is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from mcsd_agent.runtime.onnx_file import Model, Port
from mcsd_agent.runtime.onnx_numpy import NumpyEngine
from mcsd_agent.runtime.onnx_tensors import DTYPES
from mcsd_agent.runtime.onnx_write import with_nodes
from mcsd_agent.runtime.unchanged import Unchanged

_CODES = {dtype: code for code, dtype in DTYPES.items()}


class SteadyPart:
    """Computes the values that the rest of a step needs from the steady inputs: `update`, then read `values`."""

    def __init__(self, model: Model, steady: set[str], ends: list[str], where: str, batch: int) -> None:
        ports = tuple(Port(name, np.dtype(np.float32), (None,)) for name in ends)
        self._engine = NumpyEngine(replace(model, outputs=ports), where, batch=batch)
        self.inputs = [port.name for port in model.inputs if port.name in steady]
        self._unchanged = Unchanged()
        # Of the other inputs the shapes may be asked for.
        self._arrays = {port.name: np.zeros([n or batch for n in port.shape], port.dtype) for port in model.inputs}
        self.values = dict(zip(ends, self._engine.run(self._arrays), strict=True))

    def update(self, inputs: Mapping[str, np.ndarray]) -> bool:
        """Whether `values` are others than after the last call."""
        steady = [inputs[name] for name in self.inputs]
        if self._unchanged.is_so(steady):
            return False
        self._unchanged.forget()
        results = self._engine.run(self._arrays | {name: inputs[name] for name in self.inputs})
        self.values = dict(zip(self.values, results, strict=True))
        self._unchanged.remember(steady)
        return True


def cut(step: bytes, model: Model, steady: Iterable[str], where: str, batch: int) -> tuple[SteadyPart, bytes] | None:
    """The steady part, and the file of the rest; None where nothing depends on `steady` alone.

    `step` is the file that `model` was read from.
    """
    names = set(steady)
    constant = {"", *model.constants}
    given = {port.name for port in model.inputs} - names
    settled: set[str] = set(names)
    early: list[int] = []
    for i, node in enumerate(model.nodes):
        is_shape = node.operator in ("Shape", "Size") and all(n in given for n in node.inputs)
        if is_shape or all(n in constant for n in node.inputs):
            constant.update(node.outputs)
        elif all(n in constant or n in settled for n in node.inputs):
            settled.update(node.outputs)
            early.append(i)
    late = [i for i in range(len(model.nodes)) if i not in set(early)]
    wanted = [n for i in late for n in model.nodes[i].inputs] + [port.name for port in model.outputs]
    ends = list(dict.fromkeys(n for n in wanted if n in settled))
    if not early or any(n in names for n in ends):
        return None
    # Nodes that need nothing but constants and shapes run on both sides.
    before = tuple(node for node in model.nodes if all(n in constant or n in settled for n in node.outputs))
    part = SteadyPart(replace(model, nodes=before), names, ends, where, batch)
    codes = [(name, _CODES[array.dtype], array.shape) for name, array in part.values.items()]
    return part, with_nodes(step, set(late), names, codes)
