"""The `onnx` engine: runs an exported step in onnxruntime, on one thread, with bound buffers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.runtime.onnx_file import Port
from mcsd_agent.runtime.package import Package


class OnnxEngine:
    """`run({name: array}) -> tuple of arrays`.

    Inputs are copied into buffers that onnxruntime reads and writes in place, so that a tick allocates
    nothing but its results. One engine serves one thread.
    """

    def __init__(self, package: Package) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise UserError(
                "engine 'onnx' needs onnxruntime; pip install 'mcsd-agent[robot]' or use engine='numpy'"
            ) from None
        options = onnxruntime.SessionOptions()
        # A step is too small to share between threads, and idle workers would spin on the robot's cores.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(package.step, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no public class
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{package.where}: onnxruntime cannot load step.onnx ({reason}); export it again") from None
        self._binding: Any = self._session.io_binding()
        self._inputs = {port.name: _buffer(port) for port in package.model.inputs}
        self._outputs = [_buffer(port) for port in package.model.outputs]
        for name, array in self._inputs.items():
            self._binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        for port, array in zip(package.model.outputs, self._outputs, strict=True):
            self._binding.bind_output(port.name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def run(self, inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        """Outputs in the model's order; the arrays belong to the caller."""
        for name, array in self._inputs.items():
            array[...] = inputs[name]
        self._session.run_with_iobinding(self._binding)
        return tuple([array.copy() for array in self._outputs])


def _buffer(port: Port) -> np.ndarray:
    # The package was read: all shapes are known to be fixed.
    return np.zeros([n or 0 for n in port.shape], port.dtype)
