"""Byte-level language models: MCSD and the Transformer that it is compared with.

Both are an embedding of 256 bytes, a trunk of residual layers, and a head. The Transformer is what one
would build today: pre-norm, rotary positions, gated MLP, exact causal attention. Its MLP is as wide as makes
the numbers of parameters equal: an MCSD layer of expansion 2 has 5 + 2 + 6 products of width x width, and
so has a Transformer layer with an MLP three times as wide as its tokens (4 + 9).

    model = build(ByteModelConfig(model="mcsd", width=64, layers=2))
    logits = model(text)                              # (batch, time) -> (batch, time, 256)
    memory = model.begin(batch=1, length=512)
    logits, memory = model.step(byte, memory)         # (batch,) -> (batch, 256)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcsd_agent.backbone import MCSDBackbone
from mcsd_agent.cell import MCSDCell, MCSDConfig
from mcsd_agent.errors import UserError, nearest

BYTES = 256
#: The token before the first byte of a text.
TEXT_START = 0
_ROTARY_BASE = 10_000.0
MODELS = ("mcsd", "transformer")


class Trunk(Protocol):
    """What lies between embedding and head. A memory belongs to `batch` texts of at most `length` bytes."""

    def read(self, xs: Tensor) -> Tensor:
        """Texts from their beginning: `(batch, time, width)` to the same shape."""
        ...

    def begin(self, batch: int, length: int) -> Any:
        """The memory before the first byte."""
        ...

    def step(self, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        """One byte of each text: `(batch, width)` to the same shape, and the next memory."""
        ...


class MCSDTrunk(nn.Module):
    """`MCSDBackbone`; its memory is the state `(batch, layers, state_size)`, in float32, whatever the length."""

    def __init__(self, config: MCSDConfig, layers: int) -> None:
        super().__init__()
        self.backbone = MCSDBackbone(config, layers)

    def read(self, xs: Tensor) -> Tensor:
        """See `Trunk`."""
        return self.backbone.scan(xs, self.begin(xs.shape[0], xs.shape[1]))[0]

    def begin(self, batch: int, length: int) -> Tensor:
        """See `Trunk`; `length` changes nothing."""
        weight = next(self.parameters())
        precise = torch.promote_types(weight.dtype, torch.float32)
        return torch.zeros(batch, self.backbone.layers, self.backbone.state_size, dtype=precise, device=weight.device)

    def step(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """See `Trunk`."""
        return self.backbone.step(x, memory)


@dataclass(frozen=True)
class KeyValueCache:
    """A Transformer's memory: keys and values of the first `used` bytes. `step` writes into the tensors in place."""

    keys: Tensor  # (layers, batch, heads, length, head_width)
    values: Tensor
    rotation: tuple[Tensor, Tensor]  # cos, sin: (length, head_width / 2)
    used: int


class TransformerLayer(nn.Module):
    """Attention, then a gated MLP, each around a residual connection."""

    def __init__(self, width: int, heads: int, hidden: int, output_scale: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.RMSNorm(width, eps=1e-6)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.mlp_norm = nn.RMSNorm(width, eps=1e-6)
        self.inward = nn.Linear(width, 2 * hidden, bias=False)
        self.outward = nn.Linear(hidden, width, bias=False)
        # As in MCSDBackbone: every product keeps the variance, and the branches share the residual stream's.
        for linear, scale in (
            (self.query_key_value, 1.0),
            (self.output, output_scale),
            (self.inward, 1.0),
            (self.outward, output_scale),
        ):
            nn.init.normal_(linear.weight, std=scale / math.sqrt(linear.in_features))

    def forward(self, xs: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """`(batch, time, width)` to the same shape; `cos`, `sin` `(time, head_width / 2)`."""
        query, key, value = self._heads(xs)
        attended = F.scaled_dot_product_attention(
            _rotate(query, cos, sin), _rotate(key, cos, sin), value, is_causal=True
        )
        return self.after_attention(xs, attended)

    def before_attention(self, x: Tensor, cos: Tensor, sin: Tensor, key_slot: Tensor, value_slot: Tensor) -> Tensor:
        """The query of one byte `(batch, heads, 1, head_width)`; its key and value go into the cache's slots."""
        query, key, value = self._heads(x[:, None])
        key_slot.copy_(_rotate(key, cos, sin))
        value_slot.copy_(value)
        return _rotate(query, cos, sin)

    def after_attention(self, xs: Tensor, attended: Tensor) -> Tensor:
        """From what the heads brought, `(batch, heads, time, head_width)`, to the layer's output."""
        xs = xs + self.output(attended.transpose(1, 2).reshape(xs.shape))
        gate, value = self.inward(self.mlp_norm(xs)).chunk(2, -1)
        return xs + self.outward(F.silu(gate) * value)

    def _heads(self, xs: Tensor) -> list[Tensor]:
        """Query, key and value, each `(batch, heads, time, head_width)`."""
        products = self.query_key_value(self.attention_norm(xs)).chunk(3, -1)
        return [p.unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in products]


class Transformer(nn.Module):
    """The control: `layers` of causal attention over the whole past."""

    def __init__(self, width: int, layers: int, heads: int, hidden: int) -> None:
        super().__init__()
        if width % (2 * heads):
            raise UserError(f"width={width} must be a multiple of 2 * heads={2 * heads}; change width")
        scale = 1.0 / math.sqrt(2 * layers)
        self.head_width = width // heads
        self.layers = nn.ModuleList(TransformerLayer(width, heads, hidden, scale) for _ in range(layers))
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.heads = heads

    def read(self, xs: Tensor) -> Tensor:
        """See `Trunk`."""
        cos, sin = _rotation(xs.shape[1], self.head_width, xs.device)
        for layer in self.layers:
            xs = layer(xs, cos, sin)
        return self.norm(xs)

    def begin(self, batch: int, length: int) -> KeyValueCache:
        """See `Trunk`: room for `length` bytes, in the dtype of the weights."""
        weight = self.norm.weight
        shape = (len(self.layers), batch, self.heads, length, self.head_width)
        keys = torch.zeros(shape, dtype=weight.dtype, device=weight.device)
        return KeyValueCache(keys, torch.zeros_like(keys), _rotation(length, self.head_width, weight.device), 0)

    def step(self, x: Tensor, memory: KeyValueCache) -> tuple[Tensor, KeyValueCache]:
        """See `Trunk`; `UserError` when the cache is full."""
        at, until = memory.used, memory.used + 1
        if until > memory.keys.shape[3]:
            raise UserError(f"the cache has room for {at} bytes; begin with a greater length")
        cos, sin = (table[at:until] for table in memory.rotation)
        for i, layer in enumerate(cast(list[TransformerLayer], self.layers)):
            keys, values = memory.keys[i], memory.values[i]
            query = layer.before_attention(x, cos, sin, keys[:, :, at:until], values[:, :, at:until])
            # The past is the whole prefix: nothing is masked.
            attended = F.scaled_dot_product_attention(query, keys[:, :, :until], values[:, :, :until])
            x = layer.after_attention(x, attended)
        return self.norm(x), KeyValueCache(memory.keys, memory.values, memory.rotation, until)


def _rotation(length: int, head_width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin of position times frequency, `(length, head_width / 2)`, in float32."""
    frequency = _ROTARY_BASE ** -(torch.arange(head_width // 2, device=device) / (head_width // 2))
    angle = torch.arange(length, device=device)[:, None] * frequency
    return angle.cos(), angle.sin()


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Features k and k + head_width/2 as one complex number, turned by its position's angle."""
    real, imaginary = x.chunk(2, -1)
    return torch.cat([real * cos - imaginary * sin, real * sin + imaginary * cos], -1).to(x.dtype)


@dataclass(frozen=True)
class ByteModelConfig:
    """Sizes of a byte model. `conv` None leaves the preset's choice; the Transformer takes MCSD's sizes from here."""

    model: str = "mcsd"
    width: int = 64
    layers: int = 2
    preset: str = "extended"
    conv: bool | None = None
    channels: int = 8
    horizon: int = 512
    expansion: int = 2
    tied: bool = False

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise UserError(f"unknown model {self.model!r}{nearest(self.model, MODELS)}")
        if self.layers < 1:
            raise UserError(f"layers={self.layers} must be at least 1")

    @property
    def cell(self) -> MCSDConfig:
        """The cell of the MCSD model of these sizes."""
        changes = {} if self.conv is None else {"conv": self.conv}
        sizes = {"width": self.width, "channels": self.channels, "horizon": self.horizon}
        return MCSDConfig.preset(self.preset, **sizes, expansion=self.expansion, **changes)

    @property
    def heads(self) -> int:
        """Attention heads: 64 features each, but two heads at least."""
        return max(2, self.width // 64)


class ByteModel(nn.Module):
    """Embedding, trunk, head."""

    def __init__(self, trunk: MCSDTrunk | Transformer, width: int, tied: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(BYTES, width)
        self.trunk = trunk
        self.head = nn.Linear(width, BYTES, bias=False)
        # Tokens of unit size enter the residual stream; logits start near 0, the loss near 8 bits.
        self.scale = math.sqrt(width) if tied else 1.0
        nn.init.normal_(self.embedding.weight, std=1.0 / self.scale)
        if tied:
            self.head.weight = self.embedding.weight
        else:
            nn.init.normal_(self.head.weight, std=0.1 / math.sqrt(width))

    @property
    def parameter_count(self) -> int:
        """Learned numbers."""
        return sum(p.numel() for p in self.parameters())

    def forward(self, text: Tensor) -> Tensor:
        """Bytes `(batch, time)` to the logits of the byte that follows each, `(batch, time, 256)`."""
        return self.head(self.trunk.read(self.embedding(text) * self.scale))

    def begin(self, batch: int, length: int) -> Any:
        """The memory of `batch` texts before their first byte; `length` is the most bytes they may get."""
        return self.trunk.begin(batch, length)

    def step(self, byte: Tensor, memory: Any) -> tuple[Tensor, Any]:
        """One byte of each text `(batch,)` to the logits of the next `(batch, 256)`, and the next memory."""
        y, memory = self.trunk.step(self.embedding(byte) * self.scale, memory)
        return self.head(y), memory

    def cast_products(self, dtype: torch.dtype) -> ByteModel:
        """Weights of products, norms and embedding in `dtype`, in place; the cell's rates and its state stay.

        A rate rounded to bfloat16 would forget at another pace: 1 - 2^-10 has no such number beside it.
        """
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding, nn.RMSNorm)):
                module.to(dtype)
            elif isinstance(module, MCSDCell):
                module.project.data = module.project.data.to(dtype)
        return self


def build(config: ByteModelConfig) -> ByteModel:
    """The model of a config, with random weights; the Transformer has MCSD's number of parameters, to within 1 %."""
    if config.model == "mcsd":
        return ByteModel(MCSDTrunk(config.cell, config.layers), config.width, config.tied)
    with torch.device("meta"):
        wanted = _count(MCSDTrunk(config.cell, config.layers))
        narrowest = _count(Transformer(config.width, config.layers, config.heads, hidden=1))
    per_feature = 3 * config.width * config.layers
    without = narrowest - per_feature
    unit = 16 if config.width >= 512 else 1  # products of odd sizes are slow on tensor cores
    hidden = unit * round((wanted - without) / per_feature / unit)
    total = wanted + BYTES * config.width * (1 if config.tied else 2)
    if hidden < 1 or abs(hidden * per_feature + without - wanted) > 0.01 * total:
        raise UserError(f"no Transformer of width={config.width} has MCSD's number of parameters; change width")
    return ByteModel(Transformer(config.width, config.layers, config.heads, hidden), config.width, config.tied)


def memory_bytes(memory: Any) -> int:
    """What one memory occupies."""
    if isinstance(memory, Tensor):
        return memory.nbytes
    tensors: list[Tensor] = [memory.keys, memory.values, *memory.rotation]
    return sum(t.nbytes for t in tensors)


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
