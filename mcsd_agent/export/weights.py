"""Weights in fewer bytes: float16, bfloat16, or int8 with one scale per output channel, symmetric.

Only the matrices of products, convolutions and embeddings are rounded; biases, norms, rates and angles stay float32.
Everything is computed in float32: the engines expand the weights when they load the file. So both members of the
artifact are small, and a step is that of the rounded policy, which `rounded` returns.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from mcsd_agent.cell import MCSDCell
from mcsd_agent.errors import UserError
from mcsd_agent.policy import Policy
from mcsd_agent.runtime import weights_file

Kind = Literal["float32", "float16", "bfloat16", "int8"]
KINDS: tuple[Kind, ...] = ("float32", "float16", "bfloat16", "int8")

#: What follows the name of an int8 tensor in the name of its scales.
SCALE = ".scale"
#: Smaller matrices cost more in scales and operators than they save.
_SMALLEST = 1024


def rounded(policy: Policy, kind: Kind) -> tuple[Policy, dict[str, Tensor]]:
    """The policy that the artifact will hold, and its tensors as they are stored.

    Raises `UserError` where a weight is too large for the type.
    """
    if kind == "float32":
        return policy, dict(policy.state_dict())
    policy = copy.deepcopy(policy)
    stored = {}
    with torch.no_grad():
        for module in policy.modules():
            if isinstance(module, MCSDCell):
                # The step multiplies both: round what it multiplies by.
                module.output.weight.mul_(module.norm_weight)
                module.norm_weight.fill_(1.0)
        for name, weight, axes in _matrices(policy):
            if kind == "int8":
                scale = weight.abs().amax(axes, keepdim=True) / 127
                scale = torch.where(scale > 0, scale, torch.ones_like(scale))
                numbers = torch.round(weight / scale).to(torch.int8)
                weight.copy_(numbers * scale)
                stored[name], stored[name + SCALE] = numbers, scale
            else:
                stored[name] = weight.to(getattr(torch, kind))
                if not bool(torch.isfinite(stored[name]).all()):
                    raise UserError(
                        f"weight {name!r} holds {weight.abs().max():.3g}, too large for {kind}; use weights='bfloat16'"
                    )
                weight.copy_(stored[name])
    return policy, {**policy.state_dict(), **stored}


def _matrices(policy: Policy) -> Iterator[tuple[str, Tensor, tuple[int, ...]]]:
    """Name and values of every matrix that is rounded, and the axes that one output channel runs along."""
    for prefix, module in policy.named_modules():
        for name, weight in module.named_parameters(prefix, recurse=False):
            if weight.ndim < 2 or weight.numel() < _SMALLEST:
                continue
            if isinstance(module, MCSDCell) and name.endswith("project"):
                yield name, weight, (-2,)
            elif isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding, nn.GRU, nn.LSTM)):
                yield name, weight, tuple(range(1, weight.ndim))


def to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """`weights.safetensors`."""
    from safetensors.torch import save

    for name, tensor in tensors.items():
        if tensor.dtype is not torch.bfloat16:
            dtype = torch.empty(0, dtype=tensor.dtype).numpy().dtype.newbyteorder("<")
            if dtype not in weights_file.DTYPES.values():
                raise UserError(f"weight {name!r} has dtype {dtype}, which artifacts cannot hold")
    return save({name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()})


def restored(weights: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """The policy's tensors out of those that an artifact holds."""
    tensors = {}
    for name, array in weights.items():
        if name.removesuffix(SCALE) in weights and name.endswith(SCALE):
            continue
        # Copied: torch tensors may not share the file's read-only bytes.
        tensor = torch.from_numpy(array.copy())
        if name + SCALE in weights:
            tensor = tensor * torch.from_numpy(weights[name + SCALE].copy())
        tensors[name] = tensor.float() if tensor.dtype is torch.float16 else tensor
    return tensors
