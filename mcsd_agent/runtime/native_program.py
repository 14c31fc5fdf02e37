"""What `native.c` runs: instructions, and how operands are walked through.

The compiled library is made when the package is installed, where there is a C compiler, and belongs to this version.
"""

from __future__ import annotations

import ctypes
import functools
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray

#: The operations of `native.c`, in its order, and their kinds.
UNARY, BINARY, COMPARE, SELECT, CAST, PRODUCT, MATMUL, NORM, ROTARY, REDUCE, SOFTMAX, ARGMAX, GATHER, COPY = range(14)
#: As at the end of `native.c`.
_VERSION = 1


class Instruction(ctypes.Structure):
    """Fields and order as in `native.c`."""

    _fields_ = (
        ("operation", ctypes.c_int32),
        ("kind", ctypes.c_int32),
        ("size", ctypes.c_int64 * 3),
        ("stride", (ctypes.c_int64 * 3) * 4),
        ("operand", ctypes.c_void_p * 4),
        ("alpha", ctypes.c_float),
        ("beta", ctypes.c_float),
    )


class Operation:
    """One instruction, and the arrays whose addresses it holds."""

    def __init__(
        self,
        operation: int,
        kind: int,
        size: Sequence[int],
        output: Array,
        operands: Sequence[Array],
        strides: Sequence[Sequence[int]] = (),
        alpha: float = 0.0,
        beta: float = 0.0,
    ) -> None:
        """`strides` in elements, of the output first; what is left out is 0."""
        self.arrays = (output, *operands)
        filled = [tuple(s) for s in strides] + [(0, 0, 0)] * (4 - len(strides))
        self.instruction = Instruction(
            operation,
            kind,
            (ctypes.c_int64 * 3)(*size),
            ((ctypes.c_int64 * 3) * 4)(*((ctypes.c_int64 * 3)(*steps) for steps in filled)),
            (ctypes.c_void_p * 4)(*(a.ctypes.data for a in self.arrays)),
            alpha,
            beta,
        )


@functools.cache
def library() -> Any:
    """The compiled code; None where it was not compiled, or for another version."""
    path = Path(__file__).with_name("_native" + sysconfig.get_config_var("EXT_SUFFIX"))
    try:
        # With Python's lock held: a step is shorter than waiting to get the lock back can be.
        native = ctypes.PyDLL(str(path))
        native.mcsd_version.restype = ctypes.c_int64
        if native.mcsd_version() != 1000 * _VERSION + ctypes.sizeof(Instruction):
            return None
        native.mcsd_run.argtypes, native.mcsd_run.restype = (ctypes.c_void_p, ctypes.c_int64), None
    except (OSError, AttributeError):
        return None
    return native


def is_compiled() -> bool:
    """Whether the `native` engine is there."""
    return library() is not None


class Program:
    """One call for operations that follow each other."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.arrays = [o.arrays for o in operations]
        self.instructions = (Instruction * len(operations))(*(o.instruction for o in operations))
        self._run, self._start = library().mcsd_run, ctypes.byref(self.instructions)

    def __call__(self) -> None:
        self._run(self._start, len(self.instructions))


def walk(output: Array, *operands: Array) -> tuple[list[int], list[list[int]]] | None:
    """How to visit `output` and its operands, broadcast to it: sizes of three loops, and strides of each in them.

    Dimensions along which all move on alike are one loop; None where there are more than three.
    """
    arrays = [output, *(np.broadcast_to(a, output.shape) for a in operands)]
    loops: list[tuple[int, list[int]]] = []
    for axis, size in enumerate(output.shape):
        if size == 1:
            continue
        steps = [a.strides[axis] // a.itemsize for a in arrays]
        if loops and all(before == step * size for before, step in zip(loops[-1][1], steps, strict=True)):
            loops[-1] = (loops[-1][0] * size, steps)
        else:
            loops.append((size, steps))
    if len(loops) > 3:
        return None
    if not loops:
        loops = [(1, [1] * len(arrays))]
    loops = [(1, [0] * len(arrays))] * (3 - len(loops)) + loops
    return [size for size, _ in loops], [list(steps) for steps in zip(*(steps for _, steps in loops), strict=True)]
