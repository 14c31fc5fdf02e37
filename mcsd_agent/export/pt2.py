"""The step as an ExportedProgram of torch.export, for users who run or compile it with torch.

program = torch.export.load("nav.pt2")
action, state = program.module()(*observations, state)
"""

from __future__ import annotations

import io
from pathlib import Path

import torch

from mcsd_agent.artifact import prepared
from mcsd_agent.export.onnx_step import Step, batch_dimensions, example_inputs, quiet
from mcsd_agent.export.whole_file import write_whole
from mcsd_agent.policy import Policy


def export_pt2(policy: Policy, path: str | Path) -> None:
    """Writes `policy.act` as a `.pt2` file, for any batch.

    Inputs are the observations in the policy's order, then the state; outputs are action, next state and, where it is
    predicted, success. Raises `UserError` where the path cannot be written.
    """
    policy = prepared(policy)
    inputs = example_inputs(policy)
    buffer = io.BytesIO()
    with torch.no_grad(), quiet():
        program = torch.export.export(Step(policy).eval(), inputs, dynamic_shapes=batch_dimensions(inputs))
        torch.export.save(program, buffer)
    write_whole(Path(path), buffer.getvalue())
