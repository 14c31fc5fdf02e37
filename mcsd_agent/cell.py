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
from mcsd_agent.recurrence import chunked_recurrence

_CONV_WIDTH = 4
_RMS_EPSILON = 1e-6


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
        self.output = nn.Linear(2 * width, width, bias=False)
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
        gate, value, rate = self._branches(x)
        slope, decay, rest = state[:, :width], state[:, width : 2 * width], state[:, 2 * width :]
        parts = []
        if config.conv:
            window = torch.cat([rest[:, rest.shape[1] - 6 * width :].unflatten(1, (3, -1)), value[:, None]], 1)
            value = F.silu((window * self.taps).sum(1))
            parts = [window[:, 1:].flatten(1)]

        keep, fresh = self._slope_weights(rate)  # a, 1-a
        slope = history = keep * slope + fresh * value[:, :width]
        if not config.selective:
            weight = keep[:: config.channel_width] * rest[:, : config.channels] + 1.0
            history = slope / weight.repeat_interleave(config.channel_width, -1)
            parts = [weight, *parts]

        gamma, scale = self._decay()
        value_decay = value[:, width:] * scale
        if config.rotating:
            half = config.channel_width // 2
            old, new = decay.unflatten(1, (-1, 2, half)), value_decay.unflatten(1, (-1, 2, half))
            cos, sin = gamma * self.angle.cos(), gamma * self.angle.sin()
            real = cos * old[:, :, 0] - sin * old[:, :, 1] + new[:, :, 0]
            imaginary = sin * old[:, :, 0] + cos * old[:, :, 1] + new[:, :, 1]
            decay = torch.stack([real, imaginary], 2).flatten(1)
        else:
            decay = gamma.repeat_interleave(config.channel_width) * decay + value_decay
        y = self._read(gate, torch.cat([history, decay], -1))
        return y, torch.cat([slope, decay, *parts], -1)

    def scan(self, xs: Tensor, state: Tensor, episode_starts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Tokens `(batch, time, D)` from `state`: outputs of the same shape and the final state.

        `episode_starts` `(batch, time)`; None means that no episode starts in `xs`. The recurrences
        run in float32 at least, whatever the autocast dtype.
        """
        config, width = self.config, self.config.width
        precise = torch.promote_types(xs.dtype, torch.float32)
        gate, value, rate = self._branches(xs)
        with torch.autocast(xs.device.type, enabled=False):
            value = value.to(precise)
            rate = None if rate is None else rate.to(precise)
            state = state.to(precise)
            slope, decay, rest = state[:, :width], state[:, width : 2 * width], state[:, 2 * width :]
            alive = None if episode_starts is None else 1.0 - episode_starts.to(precise)[..., None]
            parts = []
            if config.conv:
                value, window = self._conv_scan(value, rest[:, rest.shape[1] - 6 * width :], alive)
                parts = [window]

            value_slope, value_decay = value.chunk(2, -1)
            keep, fresh = self._slope_weights(rate)
            kept = keep.expand_as(value_slope) if alive is None else keep * alive
            slopes = history = chunked_recurrence(kept, fresh * value_slope, slope)
            if not config.selective:
                per_channel = kept[..., :: config.channel_width]
                weights = chunked_recurrence(per_channel, torch.ones_like(per_channel), rest[:, : config.channels])
                history = slopes / weights.repeat_interleave(config.channel_width, -1)
                parts = [weights[:, -1], *parts]

            gamma, scale = self._decay()
            value_decay = value_decay * scale
            if config.rotating:
                half = config.channel_width // 2
                real, imaginary = value_decay.unflatten(-1, (-1, 2, half)).unbind(-2)
                old = decay.unflatten(-1, (-1, 2, half))
                turn = torch.polar(gamma, self.angle.to(precise)).flatten()
                b = torch.complex(real, imaginary).flatten(2)
                h0 = torch.complex(old[..., 0, :], old[..., 1, :]).flatten(1)
                h = chunked_recurrence(turn.expand_as(b) if alive is None else turn * alive, b, h0)
                h = h.unflatten(-1, (-1, half))
                decays = torch.stack([h.real, h.imag], -2).flatten(2)
            else:
                gamma = gamma.repeat_interleave(config.channel_width)
                decays = chunked_recurrence(
                    gamma.expand_as(value_decay) if alive is None else gamma * alive, value_decay, decay
                )
            final = torch.cat([slopes[:, -1], decays[:, -1], *parts], -1)
        return self._read(gate, torch.cat([history, decays], -1)), final

    def _branches(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Gates u (…, 2D), values v (…, 2D) and, when selective, the rate's pre-activation (…, D)."""
        width = self.config.width
        if self.config.block_diagonal:
            # (…, C, 1, Dc) @ (branches, 1…, C, Dc, Dc): one product for all branches and channels
            grouped = x.unflatten(-1, (self.config.channels, 1, -1))
            lead = (1,) * (x.dim() - 1)
            weight = self.project.reshape(self.project.shape[0], *lead, *self.project.shape[1:])
            out = (grouped @ weight).flatten(-3).unbind(0)
            gate, value = torch.cat(out[:2], -1), torch.cat(out[2:4], -1)
            return gate, value, out[4] + self.rate_bias if self.config.selective else None
        # One split, not several slices: the gradient of a slice is a zero-filled copy of the whole.
        gate, value, *rate = (x @ self.project).split([2 * width, 2 * width] + [width] * self.config.selective, -1)
        return gate, value, rate[0] + self.rate_bias if rate else None

    def _slope_weights(self, rate: Tensor | None) -> tuple[Tensor, Tensor]:
        """a = exp(-m softplus(r) / ln 2) and 1 - a; where rates are fixed exp(-m) and 1; (…, D).

        A memory that holds has a close to 1, where 1 - exp(-x) would cancel and the norm behind it
        would blow up what is left. With τ = tanh(x / 2) neither does: a = (1-τ)/(1+τ), 1-a = 2τ/(1+τ).
        """
        slope = self.log_slope.exp().repeat_interleave(self.config.channel_width)
        if rate is None:
            return torch.exp(-slope), torch.ones_like(slope)
        tau = torch.tanh(F.softplus(rate) * (slope / (2 * math.log(2))))
        return (1 - tau) / (1 + tau), 2 * tau / (1 + tau)

    def _decay(self) -> tuple[Tensor, Tensor]:
        """γ per channel `(C,)` or per complex feature `(C, Dc/2)`, and sqrt(1-γ²) per feature `(D,)`."""
        rate = self.log_decay_rate.exp()
        scale = torch.sqrt(-torch.expm1(-2 * rate))
        if self.config.rotating:
            return torch.exp(-rate), torch.cat([scale, scale], -1).flatten()
        return torch.exp(-rate).flatten(), scale.flatten().repeat_interleave(self.config.channel_width)

    def _conv_scan(self, value: Tensor, window: Tensor, alive: Tensor | None) -> tuple[Tensor, Tensor]:
        """The convolution over time and the inputs it still needs; taps never reach across an episode start."""
        time = value.shape[1]
        past = _CONV_WIDTH - 1
        padded = torch.cat([window.unflatten(1, (past, -1)), value], 1)
        out = padded[:, past:] * self.taps[-1]
        if alive is None:
            reach: list[Tensor | float] = [1.0] * past
            ending = padded[:, -past:]
        else:
            extended = torch.cat([alive.new_ones(alive.shape[0], past, 1), alive], 1)
            reach, weight = [], torch.ones_like(alive)
            for back in range(1, _CONV_WIDTH):  # weight of the input `back` steps ago: no start since then
                weight = weight * extended[:, past - back + 1 : past - back + 1 + time]
                reach.append(weight)
            since = [torch.ones_like(extended[:, -1:])]
            for back in range(1, past):
                since.insert(0, since[0] * extended[:, extended.shape[1] - back : extended.shape[1] - back + 1])
            ending = padded[:, -past:] * torch.cat(since, 1)
        for back in range(1, _CONV_WIDTH):
            out = out + padded[:, past - back : past - back + time] * self.taps[past - back] * reach[back - 1]
        return F.silu(out), ending.flatten(1)

    def _read(self, gate: Tensor, history: Tensor) -> Tensor:
        """y = W_O [silu(u) ⊙ rmsnorm(h)], one norm per channel and section."""
        grouped = history.unflatten(-1, (2 * self.config.channels, -1))
        normed = F.rms_norm(grouped, (self.config.channel_width,), eps=_RMS_EPSILON).flatten(-2)
        return self.output((F.silu(gate) * (normed * self.norm_weight)).to(gate.dtype))
