"""The `onnx` engine: runs an exported step in onnxruntime, on one thread, with bound buffers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.runtime.onnx_batch import BATCH, sized
from mcsd_agent.runtime.onnx_file import Model, Port
from mcsd_agent.runtime.onnx_steady import cut


class OnnxEngine:
    """`run({name: array}) -> tuple of arrays`.

    Inputs are copied into buffers that onnxruntime reads and writes in place, so that a tick allocates
    nothing but its results. What depends on steady inputs only (an instruction) is computed when they change.
    One engine serves one thread.
    """

    def __init__(self, step: bytes, model: Model, where: str, batch: int = 1, steady: Iterable[str] = ()) -> None:
        """`step` is the file that `model` was read from; `batch` is the first dimension of inputs and outputs.

        `steady` names the inputs that seldom change; results are the same without.
        """
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise UserError(
                "engine 'onnx' needs onnxruntime; pip install 'mcsd-agent[onnx]' or use engine='auto'"
            ) from None
        ports = sized(model, batch, where)
        parts = cut(step, model, steady, where, batch)
        self._steady = None
        buffers = {port.name: _buffer(port) for port in ports.inputs}
        if parts is not None:
            self._steady, step = parts
            buffers = {name: array for name, array in buffers.items() if name not in self._steady.inputs}
            buffers |= {name: np.zeros_like(array) for name, array in self._steady.values.items()}
        options = onnxruntime.SessionOptions()
        # A step is too small to share between threads, and idle workers would spin on the robot's cores.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A step's arrays are small: looking for one to use again costs more than another one.
        options.enable_mem_reuse = False
        # With every shape known, shapes are computed once, and so is what small weights are expanded from.
        options.add_free_dimension_override_by_name(BATCH, batch)
        try:
            self._session = onnxruntime.InferenceSession(step, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no public class
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{where}: onnxruntime cannot load step.onnx ({reason}); export it again") from None
        self._binding: Any = self._session.io_binding()
        self._outputs = [_buffer(port) for port in ports.outputs]
        for name, array in buffers.items():
            self._binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        for port, array in zip(ports.outputs, self._outputs, strict=True):
            self._binding.bind_output(port.name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

        self._settled = [] if self._steady is None else [(name, buffers.pop(name)) for name in self._steady.values]
        self._inputs = tuple(buffers.items())

    def run(self, inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        """Outputs in the model's order; the arrays belong to the caller."""
        if self._steady is not None and self._steady.update(inputs):
            for name, array in self._settled:
                array[...] = self._steady.values[name]
        for name, array in self._inputs:
            array[...] = inputs[name]
        self._session.run_with_iobinding(self._binding)
        return tuple([array.copy() for array in self._outputs])


def _buffer(port: Port) -> np.ndarray:
    # The package was read: all other shapes are known to be fixed.
    return np.zeros([n or 0 for n in port.shape], port.dtype)
