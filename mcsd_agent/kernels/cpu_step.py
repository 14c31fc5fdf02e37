"""One step of a whole MCSD backbone on a CPU, without gradients: what a rollout does at every tick.

For one token a call costs as much as its arithmetic. So constants are computed once per version of the
weights, and a layer is four products and five compiled loops. The results are those of
`MCSDBackbone.step` up to rounding.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from mcsd_agent.kernels import cpu_rows, cpu_sections
from mcsd_agent.kernels.linear import linear

if TYPE_CHECKING:
    from mcsd_agent.backbone import MCSDBackbone


class PackedStep:
    """The constants of a backbone's layers as arrays, for as long as its weights do not change."""

    def __init__(self, net: MCSDBackbone) -> None:
        self.version = version(net)
        self._config = net.config
        self._layers: list[tuple[Any, ...]] = []
        with torch.no_grad():
            for cell, mlp in net.paired_layers():
                c = cell.constants()
                assert c.rate_bias is not None
                assert c.angle is not None
                gamma = torch.exp(-c.decay_rate)
                slope = tuple(v.detach().numpy() for v in (c.slope_rate / math.log(2), c.rate_bias))
                decay = tuple(v.detach().numpy() for v in (gamma * c.angle.cos(), gamma * c.angle.sin(), c.decay_scale))
                weight = c.norm_weight.detach().numpy()
                self._layers.append((cell.project_all, cell.output.weight, mlp, slope, decay, weight))
            self._norms = [cast(Tensor, n.weight).detach().numpy() for n in net.norms]

    def __call__(self, x: Tensor, state: Tensor, starts: Tensor | None) -> tuple[Tensor, Tensor]:
        """`(batch, width)`, `(batch, layers, size)`, `(batch,)` to output and next state."""
        batch, width = x.shape
        epsilon, channel = np.float32(1e-6), cpu_sections.channel_argument(self._config.channel_width)
        inverse = np.empty(batch, np.float32)
        begins = np.zeros((batch, 1), np.bool_) if starts is None else starts.bool().view(batch, 1).numpy()
        before = state.transpose(0, 1).contiguous()
        after = torch.empty_like(before)
        total, normed = x.contiguous(), torch.empty_like(x)
        stream, n = total.numpy(), normed.numpy()
        gated, scratch = x.new_empty(batch, 2 * width), np.empty((batch, 1, 2 * width), np.float32)
        g = gated.numpy()
        cpu_rows.norm_forward(stream, self._norms[0], epsilon, n, inverse)
        for i, (project, output, mlp, slope, decay, weight) in enumerate(self._layers):
            p = project(normed).numpy()[:, None]
            # Two calls: a loop that is compiled into another one as well adds up in another order there, and which of
            # the two runs would depend on whether it was compiled in this process or read from Numba's cache.
            first, last = (p, begins, before[i].numpy()), (weight, channel, g[:, None], after[i].numpy(), scratch)
            cpu_sections.selective_forward(*first, *slope, *last)
            cpu_sections.rotating_forward(*first, *decay, *last)
            stream = _add(stream, linear(gated, output), self._norms[2 * i + 1], epsilon, n, inverse)
            h = mlp.inward(normed)
            hidden = h.new_empty(batch, h.shape[1] // 2)
            cpu_rows.gated_forward(h.numpy(), hidden.numpy())
            stream = _add(stream, mlp.outward(hidden), self._norms[2 * i + 2], epsilon, n, inverse)
        return normed, after.transpose(0, 1)


def _add(stream: np.ndarray, y: Tensor, weight: np.ndarray, epsilon: Any, n: np.ndarray, inverse: np.ndarray) -> Any:
    total = y.numpy()
    cpu_rows.add_norm_forward(stream, total, weight, epsilon, total, n, inverse)
    return total


def version(net: MCSDBackbone) -> tuple[Any, ...]:
    """Changes with every change of a weight in place and with every replaced one."""
    return tuple((p.data_ptr(), p._version) for p in net.parameters())
