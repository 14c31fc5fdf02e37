"""How many robots one call of a step serves: the first dimension of everything that goes in and comes out."""

from __future__ import annotations

from dataclasses import replace

from mcsd_agent.errors import UserError
from mcsd_agent.runtime.onnx_file import Model, Port

#: Name of that dimension in the file.
BATCH = "batch"
MAX_BATCH = 4096


def sized(model: Model, batch: int, where: str) -> Model:
    """`model` for `batch` robots at once: its ports with that first dimension where the file leaves it open.

    Raises `UserError` where the file was made for another number.
    """
    if not isinstance(batch, int) or isinstance(batch, bool) or not 1 <= batch <= MAX_BATCH:
        raise UserError(f"batch={batch!r} must be a whole number from 1 to {MAX_BATCH}")
    ports = [*model.inputs, *model.outputs]
    if batch > 1 and any(not port.shape or port.shape[0] is not None for port in ports):
        raise UserError(f"{where} was exported for one robot, not batch={batch}; export it again")

    def fill(port: Port) -> Port:
        return replace(port, shape=(batch, *port.shape[1:])) if port.shape[:1] == (None,) else port

    return replace(model, inputs=tuple(map(fill, model.inputs)), outputs=tuple(map(fill, model.outputs)))
