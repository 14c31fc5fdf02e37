"""One trial step over zeros, each operation's size known before it runs.

A graph is a program, and a small file can ask for any amount of memory and time: a chain of `Tile`, a
`ConstantOfShape` of a terabyte. So before an engine gets a step, its operations are walked through once
with NumPy, and each is refused if what it makes or computes is too large. Shapes do not depend on the
values of observations (operators that would make them so are refused), hence what holds for zeros holds
for every tick. Only operators of the `numpy` engine pass, with the attributes it knows; what comes out
must be what the outputs declare.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.runtime.onnx_batch import sized
from mcsd_agent.runtime.onnx_file import Model, Node
from mcsd_agent.runtime.onnx_numpy import OPSETS
from mcsd_agent.runtime.onnx_operators import FACTORIES, NodeReader
from mcsd_agent.runtime.onnx_sizes import MAX_VALUES, work_of

#: Most multiply-adds of all operations together, and most operations.
MAX_WORK, MAX_NODES = 1 << 32, 20_000

#: What NumPy raises for operands that do not fit each other.
_MALFORMED = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError, RuntimeError)


def try_step(model: Model, where: str) -> None:
    """Raises `UserError` naming the node for a step that cannot run, or is not safe to run.

    A step whose first dimension is open is tried for one, two and three robots: the work must grow with their
    number, not with its square, so that what is safe for one is safe for as many as there is room for.
    """
    if all(None not in port.shape[:1] for port in (*model.inputs, *model.outputs)):
        _try(sized(model, 1, where), where)
        return
    one, two, three = (_try(sized(model, robots, where), where) for robots in (1, 2, 3))
    if three - two != two - one:
        raise UserError(f"{where}: the work for several robots does not grow with their number; export it again")


def _try(model: Model, where: str) -> int:
    """The work of one step of a model whose ports have fixed shapes."""
    if model.opset not in OPSETS:
        raise UserError(
            f"{where} uses ONNX operator set {model.opset}; this program runs {OPSETS.start} to {OPSETS.stop - 1}: "
            "export it again with the version installed here"
        )
    if len(model.nodes) > MAX_NODES:
        raise UserError(f"{where} has {len(model.nodes)} nodes, more than {MAX_NODES}; export it again")
    values: dict[str, Any] = {"": None, **model.constants}
    for port in model.inputs:
        shape = [n or 0 for n in port.shape]
        if port.name in values or math.prod(shape) > MAX_VALUES:
            raise UserError(f"{where}: input {port.name!r} is doubled or too large; export it again")
        values[port.name] = np.zeros(shape, port.dtype)
    constant, work = {"", *model.constants}, 0
    for node in model.nodes:
        try:
            work += _run(node, model.opset, values, constant)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        except _MALFORMED as error:
            reason = " ".join(str(error).split())[:120]
            raise UserError(
                f"{where}: ONNX operator {node.operator} is malformed ({reason}); export it again"
            ) from None
        if work > MAX_WORK:
            raise UserError(f"{where} asks for more than {MAX_WORK:.0e} operations a tick; export it again")
    for port in model.outputs:
        found = values.get(port.name)
        if found is None or port.name in model.constants:
            raise UserError(f"{where}: output {port.name!r} is computed by no node; export it again")
        if (found.shape, found.dtype) != (port.shape, port.dtype):
            raise UserError(
                f"{where}: output {port.name!r} is declared {port.dtype} {port.shape} and computed as "
                f"{found.dtype} {found.shape}; export it again"
            )
    return work


def _run(node: Node, opset: int, values: dict[str, Any], constant: set[str]) -> int:
    """Runs one node into `values`; returns the work it took."""
    name = f"{node.domain}::{node.operator}" if node.domain else node.operator
    if name not in FACTORIES:
        raise UserError(f"ONNX operator {name} is not supported; export it again")
    for output in node.outputs:
        if output in values and output != "":
            raise ValueError(f"{output!r} is computed twice")
    names = list(node.inputs)
    while names and names[-1] == "":
        names.pop()
    inputs = [values[n] for n in names]
    known = tuple(values[n] if n in constant else None for n in names)
    work = work_of(node, inputs, known)
    if work > MAX_WORK:
        raise ValueError("it computes too much")
    with np.errstate(all="ignore"):
        reader = NodeReader(node, known, opset)
        kernel = FACTORIES[name](reader)
        reader.check_all_read()
        results = kernel(*inputs)
    results = results if isinstance(results, (tuple, list)) else (results,)
    for output, result in zip(node.outputs, results, strict=False):
        values[output] = np.asarray(result)
        # Shapes are fixed once those of the inputs are.
        if all(n in constant for n in names) or node.operator in ("Shape", "Size"):
            constant.add(output)
        elif not values[output].size:
            raise ValueError("it computes nothing: a dimension is 0")
    return work
