"""The fused sections as torch operators with gradients, so that autograd, autocast and torch.compile see them.

`fused` says whether a tensor's device and dtype have kernels in this installation. Where they have not
(float64, no Numba, no Triton) callers use torch's own operations: the same mathematics.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor

from mcsd_agent.mixing import Constants

_library = torch.library.Library("mcsd", "DEF")
_constants = (
    "Tensor slope_rate, Tensor? rate_bias, Tensor decay_rate, Tensor? angle, Tensor decay_scale, Tensor norm_weight"
)
_inputs = f"Tensor projected, Tensor? starts, Tensor? normaliser, {_constants}, int channels"
_library.define(f"mix_forward(Tensor state, {_inputs}) -> (Tensor, Tensor, Tensor)")
_library.define(
    f"mix_backward(Tensor grad_gated, Tensor grad_final, Tensor saved, Tensor state, {_inputs}) -> Tensor[]"
)

_HAS_NUMBA = importlib.util.find_spec("numba") is not None
_HAS_TRITON = importlib.util.find_spec("triton") is not None


def fused(x: Tensor) -> bool:
    """Whether the kernels of this module take `x`. An exported graph has torch's own operations only."""
    if torch.compiler.is_exporting():
        return False
    if x.is_cuda:
        return x.dtype in (torch.float32, torch.bfloat16, torch.float16) and _HAS_TRITON
    return x.device.type == "cpu" and x.dtype is torch.float32 and _HAS_NUMBA


# ------------------------------------------------------------------------------------------------- mix


def mix(
    projected: Tensor,
    state: Tensor,
    starts: Tensor | None,
    normaliser: Tensor | None,
    constants: Constants,
    channels: int,
) -> tuple[Tensor, Tensor]:
    """`mixing.mix_reference` through the kernels."""
    starts = None if starts is None else starts.bool()
    return _Mix.apply(projected.contiguous(), state, starts, normaliser, channels, *constants)


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        projected: Tensor,
        state: Tensor,
        starts: Tensor | None,
        normaliser: Tensor | None,
        channels: int,
        *constants: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        gated, final, saved = torch.ops.mcsd.mix_forward(
            state.contiguous(), projected, starts, normaliser, *constants, channels
        )
        ctx.save_for_backward(saved, state, projected, starts, normaliser, *constants)
        ctx.channels = channels
        return gated, final

    @staticmethod
    def backward(ctx: Any, grad_gated: Tensor, grad_final: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives()
        saved, state, projected, starts, normaliser, *constants = ctx.saved_tensors
        present = torch.ops.mcsd.mix_backward(
            grad_gated.contiguous(),
            grad_final.contiguous(),
            saved,
            state,
            projected,
            starts,
            normaliser,
            *constants,
            ctx.channels,
        )
        names = _names(normaliser is not None, constants[1] is not None, constants[3] is not None)
        grads = dict(zip(names, present, strict=True))
        of_constants = [grads.get(name) for name in Constants._fields]
        return grads["projected"], grads["state"], None, grads.get("normaliser"), None, *of_constants


def _names(normalised: bool, selective: bool, rotating: bool) -> list[str]:
    """What `mix_backward` returns, in order: an operator's list cannot hold None."""
    names = ["projected", "state", "norm_weight"]
    names += ["normaliser"] * normalised + ["rate_bias"] * selective
    return names + ["decay_rate", "angle", "decay_scale"] * rotating


def _kernels(device: str) -> Any:
    if device == "cpu":
        from mcsd_agent.kernels import cpu_mix

        return cpu_mix
    from mcsd_agent.kernels import cuda_sections

    return cuda_sections


def _mix_forward(
    state: Tensor, projected: Tensor, starts: Tensor | None, normaliser: Tensor | None, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    constants, channels = Constants(*rest[:-1]), rest[-1]
    variant = constants.rate_bias is not None, constants.angle is not None
    kernels = _kernels(projected.device.type)
    return kernels.mix_forward(projected, state, starts, normaliser, constants, channels, *variant)


def _mix_backward(
    grad_gated: Tensor,
    grad_final: Tensor,
    saved: Tensor,
    state: Tensor,
    projected: Tensor,
    starts: Tensor | None,
    normaliser: Tensor | None,
    *rest: Any,
) -> list[Tensor]:
    constants, channels = Constants(*rest[:-1]), rest[-1]
    variant = constants.rate_bias is not None, constants.angle is not None
    grads = _kernels(projected.device.type).mix_backward(
        grad_gated, grad_final, projected, state, starts, normaliser, constants, channels, *variant, saved
    )
    return [getattr(grads, name) for name in _names(normaliser is not None, *variant)]


def _mix_forward_shapes(
    state: Tensor, projected: Tensor, starts: Tensor | None, normaliser: Tensor | None, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    constants, channels = Constants(*rest[:-1]), rest[-1]
    batch, time, _ = projected.shape
    width = state.shape[1]
    saved = _kernels(projected.device.type).saved_shape(projected, width // 2, channels, constants.angle is not None)
    return projected.new_empty(batch, time, width), torch.empty_like(state), state.new_empty(saved)


def _mix_backward_shapes(
    grad_gated: Tensor,
    grad_final: Tensor,
    saved: Tensor,
    state: Tensor,
    projected: Tensor,
    starts: Tensor | None,
    normaliser: Tensor | None,
    *rest: Any,
) -> list[Tensor]:
    constants = Constants(*rest[:-1])
    like = {**constants._asdict(), "projected": projected, "state": grad_final, "normaliser": normaliser}
    names = _names(normaliser is not None, constants.rate_bias is not None, constants.angle is not None)
    return [torch.empty_like(like[name]) for name in names]


def refuse_second_derivatives() -> None:
    """Raise where a gradient is being recorded for another derivative."""
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise RuntimeError("the fused kernels have no second derivative; use float64, where torch's own operations run")


for _device in ("CPU", "CUDA"):
    _library.impl("mix_forward", _mix_forward, _device)
    _library.impl("mix_backward", _mix_backward, _device)
torch.library.register_fake("mcsd::mix_forward", _mix_forward_shapes, lib=_library)
torch.library.register_fake("mcsd::mix_backward", _mix_backward_shapes, lib=_library)
