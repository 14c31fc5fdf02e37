"""The MCSD cell: a slope section (short context) and a decay section (long context), fused.

After "MCSD: An Efficient Language Model with Diverse Fusion" (Yang, Li, Li; arXiv 2406.12230). The
paper's formulas for the weights were not available: the forms below are our reading, and the two
presets are called by these names in all documents.

Symbols
    x (batch, time, D)   input tokens                C, Dc   channels and their width, D = C * Dc
    u, v                 gate and value branches     a, γ    weight kept per step, in (0, 1)
    h                    history                     s       1 where an episode starts, else 0

Preset `paper`, predefined weights only
    slope   p ← (1-s) e^(-m_c) p + v,   z ← (1-s) e^(-m_c) z + 1,   h = p / z,       m_c = 2^(-8c/C)
    decay   h ← (1-s) γ_c h + sqrt(1-γ_c²) v,     γ_c = 1 - 2^(-k_c), k_c evenly from 3 to log2(horizon)+1
    out     y = W_O [silu(u_slope) ⊙ rmsnorm(h_slope) ; silu(u_decay) ⊙ rmsnorm(h_decay)]   (norm per channel)

Preset `extended`, every switch alone
    selective        slope: a = exp(-m softplus(W_r x + b) / ln 2),  h ← (1-s) a h + (1-a) v
    rotating         decay: v read as Dc/2 complex numbers, h ← (1-s) γ e^{iθ} h + sqrt(1-γ²) v; γ and θ learned
    conv             causal depthwise convolution of width 4 and silu on the v branch
    block_diagonal   off: W_U, W_V mix channels (one dense projection); on: (C, Dc, Dc) each, as in the paper
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcsd_agent.errors import UserError, nearest
from mcsd_agent.kernels.linear import Linear, linear
from mcsd_agent.mixing import Constants, mix_one, mix_sequence
from mcsd_agent.recurrence import linear_recurrence

_CONV_WIDTH = 4


@dataclass(frozen=True)
class MCSDConfig:
    """Sizes and switches of one cell; see the module's symbol table."""

    width: int = 128
    channels: int = 8
    horizon: int = 512
    expansion: int = 2
    selective: bool = True
    rotating: bool = True
    conv: bool = False
    block_diagonal: bool = False

    def __post_init__(self) -> None:
        if self.width < 1 or self.channels < 1 or self.width % self.channels:
            raise UserError(f"width={self.width} must be a positive multiple of channels={self.channels}")
        if self.rotating and (self.width // self.channels) % 2:
            raise UserError(
                f"width/channels={self.width // self.channels} must be even with rotating=true; change width"
            )
        if self.horizon < 2:
            raise UserError(f"horizon={self.horizon} must be at least 2 steps")
        if self.expansion < 1:
            raise UserError(f"expansion={self.expansion} must be at least 1")

    @classmethod
    def preset(cls, name: str, **changes: object) -> MCSDConfig:
        """The preset `paper` or `extended`, with single fields changed."""
        presets = {
            "paper": cls(selective=False, rotating=False, conv=False, block_diagonal=True),
            "extended": cls(),
        }
        if name not in presets:
            raise UserError(f"unknown preset {name!r}{nearest(name, presets)}")
        return replace(presets[name], **changes)  # type: ignore[arg-type]

    @property
    def channel_width(self) -> int:
        """Dc."""
        return self.width // self.channels


class MCSDCell(nn.Module):
    """Mixes tokens over time; `step` and `scan` are the same function.

    The state is one tensor `(batch, state_size)`: slope history, decay history, slope normaliser
    (fixed rates only), last three conv inputs (conv only). All zeros where an episode starts.

    >>> cell = MCSDCell(MCSDConfig(width=16, channels=4))
    >>> xs, state = torch.randn(2, 5, 16), cell.initial_state(2)
    >>> ys, final = cell.scan(xs, state)
    >>> y, state = cell.step(xs[:, 0], state)
    >>> bool(torch.allclose(y, ys[:, 0], atol=1e-5))
    True
    """

    log_slope: Tensor

    def __init__(self, config: MCSDConfig) -> None:
        super().__init__()
        self.config = config
        width, channels, dc = config.width, config.channels, config.channel_width
        index = torch.arange(channels, dtype=torch.get_default_dtype())
        branches = 5 if config.selective else 4  # u_slope, u_decay, v_slope, v_decay [, r]
        if config.block_diagonal:
            self.project = nn.Parameter(torch.randn(branches, channels, dc, dc) / math.sqrt(dc))
        else:
            self.project = nn.Parameter(torch.randn(width, branches * width) / math.sqrt(width))

        slope = 2.0 ** (-8.0 * (index + 1) / channels)
        self.register_buffer("log_slope", slope.log(), persistent=False)
        if config.selective:
            with torch.no_grad():
                # W_r = b = 0: the fixed slope again
                (self.project[4] if config.block_diagonal else self.project[:, 4 * width :]).zero_()
            self.rate_bias = nn.Parameter(torch.zeros(width))

        exponent = torch.linspace(3.0, math.log2(config.horizon) + 1.0, channels)
        log_rate = (-torch.log1p(-(2.0**-exponent))).log()  # γ = exp(-rate) = 1 - 2^-k
        per_feature = dc // 2 if config.rotating else 1
        log_rate = log_rate[:, None].repeat(1, per_feature)
        if config.rotating:
            self.log_decay_rate = nn.Parameter(log_rate)
            octave = 4.0 * torch.rand(channels, per_feature)
            self.angle = nn.Parameter(math.pi * torch.rand(channels, per_feature) * 2.0**-octave)
        else:
            self.register_buffer("log_decay_rate", log_rate, persistent=False)

        if config.conv:
            taps = 0.1 * torch.randn(_CONV_WIDTH, 2 * width)
            taps[-1] += 1.0  # starts close to the identity
            self.taps = nn.Parameter(taps)
        self.norm_weight = nn.Parameter(torch.ones(2 * width))
        self.output = Linear(2 * width, width, bias=False)
        nn.init.normal_(self.output.weight, std=1.0 / math.sqrt(2 * width))

    @property
    def state_size(self) -> int:
        """Numbers of state per sequence."""
        config = self.config
        normaliser = 0 if config.selective else config.channels
        window = (_CONV_WIDTH - 1) * 2 * config.width if config.conv else 0
        return 2 * config.width + normaliser + window

    def initial_state(self, batch: int = 1) -> Tensor:
        """The state at an episode start: zeros `(batch, state_size)`."""
        return self.norm_weight.new_zeros(batch, self.state_size)

    def step(self, x: Tensor, state: Tensor, episode_starts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One token `(batch, D)` and state to output `(batch, D)` and next state.

        `episode_starts` `(batch,)` is true where `x` is the first token of an episode.
        """
        config, width = self.config, self.config.width
        if episode_starts is not None:
            state = state.masked_fill(episode_starts.bool()[:, None], 0.0)
        memory, rest = state[:, : 2 * width], state[:, 2 * width :]
        projected = self.project_all(x)
        normaliser, parts = None, []
        if config.conv:
            gate, value, *rate = projected.split([2 * width, 2 * width] + [width] * config.selective, -1)
            window = torch.cat([rest[:, rest.shape[1] - 6 * width :].unflatten(1, (3, -1)), value[:, None]], 1)
            value = F.silu((window * self.taps).sum(1))
            projected, parts = torch.cat([gate, value.to(gate.dtype), *rate], -1), [window[:, 1:].flatten(1)]
        if not config.selective:
            normaliser = torch.exp(-self.log_slope.exp()) * rest[:, : config.channels] + 1.0  # z ← e^-m z + 1
            parts = [normaliser, *parts]
        gated, memory = mix_one(projected, memory, normaliser, self.constants(), config.channels)
        return self.output(gated), torch.cat([memory, *parts], -1)

    def scan(
        self, xs: Tensor, state: Tensor, episode_starts: Tensor | None = None, scale: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Tokens `(batch, time, D)` from `state`: outputs of the same shape and the final state.

        `episode_starts` `(batch, time)`; None means that no episode starts in `xs`. The tokens are `xs` ⊙ `scale`
        `(D,)` where one is given. The recurrences run in float32 at least, whatever the autocast dtype.
        """
        config, width = self.config, self.config.width
        projected = self.project_all(xs, scale)
        with torch.autocast(xs.device.type, enabled=False):
            state = state.to(torch.promote_types(state.dtype, torch.float32))
            memory, rest = state[:, : 2 * width], state[:, 2 * width :]
            normaliser, parts = None, []
            if config.conv:
                gate, value, *rate = projected.split([2 * width, 2 * width] + [width] * config.selective, -1)
                past = rest[:, rest.shape[1] - 6 * width :]
                value, window = self._conv_scan(value.to(state.dtype), past, episode_starts)
                projected, parts = torch.cat([gate, value.to(gate.dtype), *rate], -1), [window]
            if not config.selective:
                keep = torch.exp(-self.log_slope.exp()).expand(*xs.shape[:2], -1)
                if episode_starts is not None:
                    keep = keep.masked_fill(episode_starts.bool()[..., None], 0.0)
                normaliser = linear_recurrence(keep, torch.ones_like(keep), rest[:, : config.channels])
                parts = [normaliser[:, -1], *parts]
            gated, memory = mix_sequence(
                projected, memory, episode_starts, normaliser, self.constants(), config.channels
            )
        return self.output(gated), torch.cat([memory, *parts], -1)

    def project_all(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """All input projections side by side, `(…, 5D)` or `(…, 4D)`: u_slope, u_decay, v_slope, v_decay (, r)."""
        project: Tensor = self.project
        if not self.config.block_diagonal:
            return linear(x, (project if scale is None else project * scale[:, None]).t())
        if scale is not None:
            project = project * scale.view(self.config.channels, self.config.channel_width, 1)
        # (C, rows, Dc) @ (C, Dc, branches * Dc): one product for all branches of a channel
        grouped = x.reshape(-1, self.config.channels, self.config.channel_width).transpose(0, 1)
        weight = project.permute(1, 2, 0, 3).flatten(2)
        out = torch.bmm(grouped, weight).unflatten(-1, (project.shape[0], -1))
        return out.permute(1, 2, 0, 3).reshape(*x.shape[:-1], -1)

    def constants(self) -> Constants:
        """Rates, rotations and norm weights per feature."""
        config = self.config
        repeats = 1 if config.rotating else config.channel_width  # rotating: (C, Dc/2) already, else (C, 1)
        rate = self.log_decay_rate.exp().flatten().repeat_interleave(repeats)
        return Constants(
            slope_rate=self.log_slope.exp().repeat_interleave(config.channel_width),
            rate_bias=self.rate_bias if config.selective else None,
            decay_rate=rate,
            angle=self.angle.flatten() if config.rotating else None,
            decay_scale=torch.sqrt(-torch.expm1(-2 * rate)),
            norm_weight=self.norm_weight,
        )

    def _conv_scan(self, value: Tensor, window: Tensor, starts: Tensor | None) -> tuple[Tensor, Tensor]:
        """The convolution over time and the inputs it still needs; taps never reach across an episode start."""
        time = value.shape[1]
        past = _CONV_WIDTH - 1
        padded = torch.cat([window.unflatten(1, (past, -1)), value], 1)
        out = padded[:, past:] * self.taps[-1]
        if starts is None:
            starts = torch.zeros(value.shape[:2], dtype=torch.bool, device=value.device)
        started = F.pad(starts.bool(), (past, 0))[..., None]
        lost = torch.zeros_like(started[:, past:])  # whether an episode has started since the input `back` steps ago
        for back in range(1, _CONV_WIDTH):
            lost = lost | started[:, past - back + 1 : past - back + 1 + time]
            reached = padded[:, past - back : past - back + time].masked_fill(lost, 0.0)
            out = out + reached * self.taps[past - back]
        # An input stays in the window unless an episode starts after it.
        after = [started[:, started.shape[1] - k :].any(1, keepdim=True) for k in range(past - 1, 0, -1)]
        gone = torch.cat([*after, torch.zeros_like(after[0])], 1)
        return F.silu(out), padded[:, -past:].masked_fill(gone, 0.0).flatten(1)
