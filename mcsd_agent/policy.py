"""The policy: observation encoder -> backbone -> action head, and a value head for training.

import torch
from mcsd_agent import Policy, PolicyConfig
from mcsd_agent.spaces import BoxSpec, DiscreteSpec

policy = Policy({"observation": BoxSpec((4,))}, DiscreteSpec(2), PolicyConfig(width=32))
state = policy.initial_state()
action, state = policy.act({"observation": torch.zeros(1, 4)}, state)
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcsd_agent.backbone import Backbone, MCSDBackbone
from mcsd_agent.cell import MCSDConfig
from mcsd_agent.controls import (
    MemorylessControl,
    MinGRUControl,
    RecurrentControl,
    StateSpaceControl,
    TransformerControl,
)
from mcsd_agent.encoders import EncoderConfig, ObservationEncoder
from mcsd_agent.errors import UserError
from mcsd_agent.heads import make_head
from mcsd_agent.kernels.linear import Linear
from mcsd_agent.runtime.text_encoders import TextEncoder
from mcsd_agent.spaces import Spec


@dataclass(frozen=True)
class PolicyConfig:
    """Everything that shapes the network. The switches of the cell override the preset where given.

    `listens` puts one more layer of the backbone between what is said and what it modulates, so that an
    instruction goes on modulating what is seen after it can no longer be heard. `window` is how many tokens
    a transformer sees. With `share_backbone=false` reinforcement learning gives the value function an encoder
    and a backbone of its own, which are not deployed. With `predict_success` the policy also says at every tick how
    likely its instruction has been carried out.
    """

    backbone: Literal["mcsd", "gru", "lstm", "transformer", "ssm", "mingru", "none"] = "mcsd"
    preset: Literal["extended", "paper"] = "extended"
    layers: int = 2
    width: int = 128
    channels: int = 8
    horizon: int = 512
    expansion: int = 2
    window: int = 256
    selective: bool | None = None
    rotating: bool | None = None
    conv: bool | None = None
    block_diagonal: bool | None = None
    listens: bool = False
    share_backbone: bool = True
    head: Literal["gaussian", "squashed", "binned"] = "gaussian"
    bins: tuple[int, ...] = (9,)
    predict_success: bool = False
    encoder: EncoderConfig = field(default_factory=EncoderConfig)

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise UserError(f"layers={self.layers} must be at least 1")
        if self.backbone == "mcsd":
            self.cell  # noqa: B018 -- sizes and switches are checked when the config is made
        for name in ("width", "expansion", "window"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)} must be at least 1")

    @property
    def cell(self) -> MCSDConfig:
        """The cell's config: the preset with this config's sizes and switches."""
        sizes = {k: getattr(self, k) for k in ("width", "channels", "horizon", "expansion")}
        switches = {k: getattr(self, k) for k in ("selective", "rotating", "conv", "block_diagonal")}
        return MCSDConfig.preset(self.preset, **sizes, **{k: v for k, v in switches.items() if v is not None})


def make_backbone(config: PolicyConfig, layers: int) -> Backbone:
    """The sequence encoder that `config.backbone` names, with `layers` layers."""
    width, expansion = config.width, config.expansion
    match config.backbone:
        case "mcsd":
            return MCSDBackbone(config.cell, layers)
        case "gru" | "lstm":
            return RecurrentControl(nn.GRU if config.backbone == "gru" else nn.LSTM, width, layers)
        case "transformer":
            return TransformerControl(width, layers, config.window, expansion=expansion)
        case "ssm":
            return StateSpaceControl(width, layers, expansion)
        case "mingru":
            return MinGRUControl(width, layers, expansion)
        case "none":
            return MemorylessControl(width, layers, expansion)


class SequenceEncoder(nn.Module):
    """Named observations and a recurrent state to features and the next state: encoder, then backbone.

    Observations are dicts of tensors with the batch first; Text entries are word ids. The state is
    `(batch, layers, state_size)`, zeros at an episode start. State in, state out.

    The first tick of an episode is marked by a learned vector: a memory whose rates depend on tokens alone could
    not tell it from those that follow, and what it is to keep for an episode is often seen there.
    """

    def __init__(
        self, observation: dict[str, Spec], config: PolicyConfig, vocabulary: TextEncoder | None = None
    ) -> None:
        super().__init__()
        self.config, self.observation_specs, self.vocabulary = config, dict(observation), vocabulary
        listens = config.listens
        self.encoder = ObservationEncoder(
            self.observation_specs, config.width, config.encoder, vocabulary, listens=listens
        )
        if listens and self.encoder.text is None:
            raise UserError("policy.listens=true needs an observation entry that is Text")
        self.listener: Backbone | None = make_backbone(config, 1) if listens else None
        self.backbone = make_backbone(config, config.layers)
        # Without a memory nothing tells a first tick from others.
        has_memory = config.backbone != "none"
        self.first = nn.Parameter(torch.randn(config.width) / math.sqrt(config.width)) if has_memory else None

    @property
    def state_shape(self) -> tuple[int, int]:
        """`(layers, state_size)`."""
        return self.backbone.layers + self.config.listens, self.backbone.state_size

    def copied(self) -> Self:
        """A network of its own that is like this one, to be kept while this one learns."""
        kept = copy.deepcopy(self)
        for module in kept.modules():
            if isinstance(module, nn.RNNBase):
                module.flatten_parameters()  # a copy's weights are scattered, and CUDA would gather them each time
        return kept

    def initial_state(self, batch: int = 1) -> Tensor:
        """Zeros `(batch, layers, state_size)`."""
        return next(self.parameters()).new_zeros(batch, *self.state_shape)

    def step(
        self, observation: dict[str, Tensor], state: Tensor, episode_starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """One tick: `(batch, *shape)` arrays to features `(batch, width)` and the next state."""
        code, begins = None, _is_empty(state)
        if episode_starts is not None:
            begins = begins | episode_starts.bool()[:, None]
        if self.listener is not None:
            code, heard = self.listener.step(self.encoder.hear(observation), state[:, :1], episode_starts)
            state = state[:, 1:]
        token, *others = self.encoder(observation, code)
        if self.first is not None:
            token = torch.where(begins, token + self.first, token)
        features, state = self.backbone.step(token, state, episode_starts)
        for token in others:
            features, state = self.backbone.step(token, state)
        return features, state if self.listener is None else torch.cat([heard, state], 1)

    def scan(
        self, observations: dict[str, Tensor], state: Tensor, episode_starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """A sequence: `(batch, time, *shape)` arrays to features `(batch, time, width)` and the final state.

        `episode_starts` `(batch, time)` is true at the first tick of an episode.
        """
        code, begins = None, _is_empty(state)
        if self.listener is not None:
            words = self.encoder.hear_over_time(observations)
            code, heard = self.listener.scan(words, state[:, :1], episode_starts)
            state = state[:, 1:]
        tokens = self.encoder.over_time(observations, code)
        k = tokens.shape[2]
        if self.first is not None:
            marks = begins.new_zeros(tokens.shape[:2]) if episode_starts is None else episode_starts.bool()
            marks = torch.cat([marks[:, :1] | begins, marks[:, 1:]], 1)
            tokens = tokens + F.pad((marks[..., None] * self.first)[:, :, None], (0, 0, 0, k - 1))
        if k > 1 and episode_starts is not None:
            starts = episode_starts.new_zeros(*episode_starts.shape, k)
            starts[..., 0] = episode_starts  # an episode starts at its tick's first token
            episode_starts = starts.flatten(1)
        features, state = self.backbone.scan(tokens.flatten(1, 2), state, episode_starts)
        features = features[:, k - 1 :: k]  # read out at the last token of a tick
        return features, state if self.listener is None else torch.cat([heard, state], 1)


def _is_empty(state: Tensor) -> Tensor:
    """Which rows `(batch, 1)` have no past. Only an episode start has an all-zero state."""
    return torch.linalg.vector_norm(state.flatten(1), 1, dim=1, keepdim=True) == 0


def value_net(width: int) -> nn.Sequential:
    """Features to one value."""
    return nn.Sequential(Linear(width, width), nn.SiLU(), Linear(width, 1))


class Policy(SequenceEncoder):
    """Named observations and a recurrent state to an action and the next state; see `SequenceEncoder`."""

    def __init__(
        self,
        observation: dict[str, Spec],
        action: Spec,
        config: PolicyConfig | None = None,
        vocabulary: TextEncoder | None = None,
    ) -> None:
        super().__init__(observation, config or PolicyConfig(), vocabulary)
        self.action_spec, width = action, self.config.width
        self.head = make_head(action, self.config.head, self.config.bins)
        last = Linear(width, self.head.size)
        self.action_net = nn.Sequential(Linear(width, width), nn.SiLU(), last)
        self.value_net = value_net(width)
        # The last to be made, so that all others begin as they do without it.
        self.success_net = Linear(width, 1) if self.config.predict_success else None
        with torch.no_grad():
            last.weight.mul_(0.01)  # close to uniform at the start
            last.bias.zero_()
            if self.success_net is not None:
                self.success_net.weight.mul_(0.01)
                self.success_net.bias.fill_(-3.0)  # most ticks are not the last

    def act(self, observation: dict[str, Tensor], state: Tensor) -> tuple[Tensor, Tensor]:
        """The most probable action `(batch, …)` in physical units, and the next state. This is what is exported."""
        features, state = self.step(observation, state)
        return self.head.mode(self.action_net(features)), state

    def act_and_judge(self, observation: dict[str, Tensor], state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`act`, and in the middle how likely the instruction has been carried out, `(batch,)`."""
        features, state = self.step(observation, state)
        return self.head.mode(self.action_net(features)), self.success(features), state

    def success(self, features: Tensor) -> Tensor:
        """How likely the instruction has been carried out, `(…,)` in [0, 1], from features `(…, width)`."""
        return torch.sigmoid(self.success_logits(features))

    def success_logits(self, features: Tensor) -> Tensor:
        """The same before the sigmoid; `UserError` for a policy without `predict_success`."""
        if self.success_net is None:
            raise UserError("this policy does not predict success; train it with policy.predict_success=true")
        return self.success_net(features).squeeze(-1)

    def values(self, features: Tensor) -> Tensor:
        """Value estimates `(…,)` from features `(…, width)`."""
        return self.value_net(features).squeeze(-1)
