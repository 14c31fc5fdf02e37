"""Action heads: features to a distribution over actions, its mode, and the loss for imitation.

- `CategoricalHead` for Discrete actions, `MultiCategoricalHead` for MultiDiscrete and MultiBinary ones; both
  know action masks;
- `GaussianHead` for Box actions, a mean and a learned log standard deviation, clipped to the bounds;
- `SquashedGaussianHead` for bounded Box actions, a Gaussian through tanh whose deviation depends on the state:
  what soft actor-critic needs;
- `BinnedHead` for bounded Box actions: a categorical over evenly spaced values per dimension. Demonstrations
  with two good answers (left or right around) are not averaged into a bad one, as a mean would.

All actions are in the environment's physical units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcsd_agent.errors import UserError
from mcsd_agent.spaces import BoxSpec, DiscreteSpec, MultiDiscreteSpec, Spec

#: Logit of an action that is not available: its probability is exactly 0, and so is its share of the entropy.
_NEVER = -1e9


def _sample(logits: Tensor) -> Tensor:
    """A random index per row `(…, n)`: where `log(e) - logit` is least, for exponentially distributed e.

    (The Gumbel-max trick.) Unlike `torch.multinomial` it never waits for the device.
    """
    return (logits - torch.empty_like(logits).exponential_().clamp_min_(1e-30).log_()).argmax(-1)


def _divergence(logits: Tensor, reference: Tensor) -> Tensor:
    """What each value `(…, n)` adds to KL(logits ‖ reference); nothing where neither ever takes it."""
    log_p = torch.log_softmax(logits, -1)
    return log_p.exp() * (log_p - torch.log_softmax(reference, -1))


@dataclass(frozen=True)
class LabelLoss:
    """How far a policy is from labels.

    `smoothing` is the share of a label that all values of a choice have alike. `huber` is the error of a mean, in half
    ranges, beyond which it counts in proportion and not squared; the slope there is 0.5, whatever it is.
    """

    smoothing: float = 0.0
    huber: float = 0.5


_PLAIN = LabelLoss()


def _smoothed(loss: Tensor, log_p: Tensor, valid: Tensor, smoothing: float) -> Tensor:
    """`loss` `(…,)` for labels that are spread over the valid values of each choice, `log_p` `(…, choices, most)`."""
    if not smoothing:
        return loss
    shares = valid / valid.sum(-1, keepdim=True)
    return (1.0 - smoothing) * loss - smoothing * (log_p * shares).sum((-2, -1))


def _huber(predicted: Tensor, target: Tensor, how: LabelLoss) -> Tensor:
    """`(…,)`, summed over dimensions."""
    if how.smoothing:
        raise UserError(
            f"imitation.label_smoothing={how.smoothing} needs actions that are chosen: policy.head=binned, or 0"
        )
    loss = F.huber_loss(predicted, target, reduction="none", delta=how.huber).sum(-1)
    return loss if how.huber == 0.5 else loss * (0.5 / how.huber)


class _ChoiceHead(nn.Module):
    """Logits, `size` in all."""

    size: int

    def masked(self, parameters: Tensor, mask: Tensor) -> Tensor:
        """Logits under which a value whose entry of `mask` `(…, size)` is false is never taken."""
        if mask.shape != parameters.shape:
            raise UserError(
                f"an action mask of {mask.shape[-1]} entries must have {self.size}: one per action, or per value of "
                "each choice one after the other"
            )
        return parameters.masked_fill(~mask.bool(), _NEVER)


class CategoricalHead(_ChoiceHead):
    """Logits over the `n` actions of a Discrete space."""

    def __init__(self, spec: DiscreteSpec) -> None:
        super().__init__()
        self.size = spec.n

    def mode(self, parameters: Tensor) -> Tensor:
        """`(…, n)` to `(…,)` int64."""
        return parameters.argmax(-1)

    def sample(self, parameters: Tensor) -> Tensor:
        """One random action per row."""
        return _sample(parameters)

    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        """`(…,)` log-probabilities of actions `(…,)`."""
        return torch.log_softmax(parameters, -1).gather(-1, action.long().unsqueeze(-1)).squeeze(-1)

    def entropy(self, parameters: Tensor) -> Tensor:
        """`(…,)` in nats."""
        log_p = torch.log_softmax(parameters, -1)
        return -(log_p.exp() * log_p).sum(-1)

    def divergence(self, parameters: Tensor, reference: Tensor) -> Tensor:
        """KL(parameters ‖ reference) `(…,)` in nats."""
        return _divergence(parameters, reference).sum(-1)

    def imitation_loss(self, parameters: Tensor, action: Tensor, how: LabelLoss = _PLAIN) -> Tensor:
        """Cross-entropy, `(…,)`."""
        return F.cross_entropy(
            parameters.flatten(0, -2), action.long().flatten(), reduction="none", label_smoothing=how.smoothing
        ).view(action.shape)


class MultiCategoricalHead(_ChoiceHead):
    """Logits of several independent choices, one after the other: `sum(nvec)`.

    They are laid out as a rectangle, one row per choice; what a shorter row lacks has probability 0.
    """

    place: Tensor
    valid: Tensor

    def __init__(self, spec: MultiDiscreteSpec) -> None:
        super().__init__()
        self.size, most = sum(spec.nvec), max(spec.nvec)
        counts = torch.tensor(spec.nvec)
        steps = torch.arange(most)
        first = counts.cumsum(0) - counts
        self.register_buffer("valid", steps < counts[:, None], persistent=False)
        place = (first[:, None] + steps).clamp(max=self.size - 1)
        self.register_buffer("place", place.flatten(), persistent=False)
        self.shape = (len(spec.nvec), most)

    def _logits(self, parameters: Tensor) -> Tensor:
        rows = parameters.index_select(-1, self.place).unflatten(-1, self.shape)
        return rows.masked_fill(~self.valid, 2 * _NEVER)

    def mode(self, parameters: Tensor) -> Tensor:
        """`(…, sum(nvec))` to `(…, choices)` int64."""
        return self._logits(parameters).argmax(-1)

    def sample(self, parameters: Tensor) -> Tensor:
        """One random value per choice."""
        return _sample(self._logits(parameters))

    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        """`(…,)` log-probabilities of actions `(…, choices)`."""
        log_p = torch.log_softmax(self._logits(parameters), -1)
        return log_p.gather(-1, action.long().unsqueeze(-1)).squeeze(-1).sum(-1)

    def entropy(self, parameters: Tensor) -> Tensor:
        """`(…,)` in nats."""
        log_p = torch.log_softmax(self._logits(parameters), -1)
        return -(log_p.exp() * log_p).sum((-2, -1))

    def divergence(self, parameters: Tensor, reference: Tensor) -> Tensor:
        """KL(parameters ‖ reference) `(…,)` in nats."""
        return _divergence(self._logits(parameters), self._logits(reference)).sum((-2, -1))

    def imitation_loss(self, parameters: Tensor, action: Tensor, how: LabelLoss = _PLAIN) -> Tensor:
        """Cross-entropy, `(…,)`."""
        log_p = torch.log_softmax(self._logits(parameters), -1)
        loss = -log_p.gather(-1, action.long().unsqueeze(-1)).squeeze(-1).sum(-1)
        return _smoothed(loss, log_p, self.valid, how.smoothing)


class _BoxHead(nn.Module):
    """Bounds of a one-dimensional Box."""

    low: Tensor
    high: Tensor

    def __init__(self, spec: BoxSpec) -> None:
        super().__init__()
        if len(spec.shape) != 1:
            raise UserError(f"Box actions of shape {spec.shape} are not supported; use one dimension")
        low, high = spec.bounds()
        self.register_buffer("low", torch.from_numpy(low.copy()), persistent=False)
        self.register_buffer("high", torch.from_numpy(high.copy()), persistent=False)
        self.dims = spec.size

    def masked(self, parameters: Tensor, mask: Tensor) -> Tensor:
        """Refused."""
        raise UserError(f"action masks need discrete actions, not {self.dims} of a Box; remove action_masks()")


class GaussianHead(_BoxHead):
    """Diagonal Gaussian; bounded dimensions are parametrised in units of half their range."""

    centre: Tensor
    half_range: Tensor

    def __init__(self, spec: BoxSpec, initial_log_std: float = 0.0) -> None:
        super().__init__(spec)
        bounded = torch.isfinite(self.low) & torch.isfinite(self.high)
        self.register_buffer("centre", torch.where(bounded, (self.low + self.high) / 2, 0.0), persistent=False)
        self.register_buffer("half_range", torch.where(bounded, (self.high - self.low) / 2, 1.0), persistent=False)
        self.log_std = nn.Parameter(torch.full((self.dims,), initial_log_std))
        self.size = self.dims

    def mode(self, parameters: Tensor) -> Tensor:
        """The mean within bounds."""
        return torch.minimum(torch.maximum(self.centre + self.half_range * parameters, self.low), self.high)

    def sample(self, parameters: Tensor, noise: Tensor | None = None) -> Tensor:
        """Not clipped: the environment gets the clipped action, the log-probability is of this one.

        `noise` `(…, dims)` of unit variance replaces fresh one.
        """
        noise = torch.randn_like(parameters) if noise is None else noise
        return self.centre + self.half_range * (parameters + self.log_std.exp() * noise)

    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        """`(…,)`, summed over dimensions."""
        z = ((action - self.centre) / self.half_range - parameters) * torch.exp(-self.log_std)
        return (-0.5 * z.square() - self.log_std - 0.5 * math.log(2 * math.pi) - self.half_range.log()).sum(-1)

    def entropy(self, parameters: Tensor) -> Tensor:
        """`(…,)` in nats."""
        per_dim = self.log_std + 0.5 * math.log(2 * math.pi * math.e) + self.half_range.log()
        return per_dim.sum().expand(parameters.shape[:-1])

    def divergence(self, parameters: Tensor, reference: Tensor) -> Tensor:
        """KL `(…,)` in nats from a Gaussian around `reference` of this head's deviation: a policy that was cloned has
        means, and no deviation to stay close to."""
        return (0.5 * ((parameters - reference) * torch.exp(-self.log_std)).square()).sum(-1)

    def imitation_loss(self, parameters: Tensor, action: Tensor, how: LabelLoss = _PLAIN) -> Tensor:
        """Huber loss in units of half the range; there are no choices that a label could be spread over."""
        target = (action - self.centre) / self.half_range
        return _huber(parameters, target, how)


class SquashedGaussianHead(_BoxHead):
    """`centre + half_range · tanh(mean + deviation · noise)`; Haarnoja et al., arXiv 1801.01290.

    Its parameters are the means and then the log standard deviations of all dimensions.
    """

    centre: Tensor
    half_range: Tensor
    _LOG_STD = (-5.0, 2.0)
    _MEAN = 4.0  # tanh(4) is 0.9993; further out nothing pulls a mean back

    def __init__(self, spec: BoxSpec) -> None:
        super().__init__(spec)
        if not bool((torch.isfinite(self.low) & torch.isfinite(self.high)).all()):
            raise UserError("head='squashed' needs finite action bounds; use head='gaussian'")
        self.register_buffer("centre", (self.low + self.high) / 2, persistent=False)
        self.register_buffer("half_range", (self.high - self.low) / 2, persistent=False)
        self.size = 2 * self.dims

    def _gaussian(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = parameters.chunk(2, -1)
        low, high = self._LOG_STD
        # Smoothly within its bounds: a clamp would leave no gradient outside of them.
        mean = self._MEAN * torch.tanh(mean / self._MEAN)
        return mean, low + (high - low) * torch.sigmoid(log_std + math.log(-low / high))

    def mode(self, parameters: Tensor) -> Tensor:
        """tanh of the mean, in physical units."""
        return self.centre + self.half_range * torch.tanh(self._gaussian(parameters)[0])

    def rsample_with_log_prob(self, parameters: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """A random action `(…, dims)` through which gradients flow, and its log-probability `(…,)`."""
        mean, log_std = self._gaussian(parameters)
        noise = torch.randn_like(mean) if noise is None else noise
        raw = mean + log_std.exp() * noise
        return self.centre + self.half_range * torch.tanh(raw), self._log_prob(raw, noise, log_std)

    def _log_prob(self, raw: Tensor, noise: Tensor, log_std: Tensor) -> Tensor:
        gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
        # log(1 - tanh(x)²) without cancellation
        slope = 2.0 * (math.log(2.0) - raw - F.softplus(-2.0 * raw))
        return (gaussian - slope - self.half_range.log()).sum(-1)

    def sample(self, parameters: Tensor, noise: Tensor | None = None) -> Tensor:
        """One random action per row; `noise` `(…, dims)` of unit variance replaces fresh one."""
        return self.rsample_with_log_prob(parameters, noise)[0]

    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        """`(…,)`, summed over dimensions; actions on the bounds count as just within."""
        mean, log_std = self._gaussian(parameters)
        inside = ((action - self.centre) / self.half_range).clamp(-1.0 + 1e-6, 1.0 - 1e-6)
        raw = torch.atanh(inside)
        return self._log_prob(raw, (raw - mean) * torch.exp(-log_std), log_std)

    def entropy(self, parameters: Tensor) -> Tensor:
        """An estimate from one sample, `(…,)` in nats; there is no closed form."""
        return -self.rsample_with_log_prob(parameters)[1]

    def divergence(self, parameters: Tensor, reference: Tensor) -> Tensor:
        """KL(parameters ‖ reference) `(…,)` in nats; tanh changes none."""
        (mean, log_std), (centre, log_scale) = self._gaussian(parameters), self._gaussian(reference)
        ratio = log_std - log_scale
        shift = (mean - centre) * torch.exp(-log_scale)
        return (0.5 * (shift.square() + (2.0 * ratio).exp() - 1.0) - ratio).sum(-1)

    def imitation_loss(self, parameters: Tensor, action: Tensor, how: LabelLoss = _PLAIN) -> Tensor:
        """Huber loss in units of half the range; there are no choices that a label could be spread over."""
        target = (action - self.centre) / self.half_range
        return _huber(torch.tanh(self._gaussian(parameters)[0]), target, how)


class BinnedHead(_BoxHead):
    """`bins[i]` evenly spaced values from bound to bound for dimension i."""

    counts: Tensor
    centres: Tensor
    valid: Tensor

    def __init__(self, spec: BoxSpec, bins: tuple[int, ...]) -> None:
        super().__init__(spec)
        if not bool((torch.isfinite(self.low) & torch.isfinite(self.high)).all()):
            raise UserError("head='binned' needs finite action bounds; use head='gaussian'")
        per_dim = bins * self.dims if len(bins) == 1 else bins
        if len(per_dim) != self.dims or min(per_dim) < 2:
            raise UserError(f"bins={list(bins)} must be one number or {self.dims} numbers of at least 2")
        # Dimensions with fewer bins are padded to a rectangle; padding has probability 0.
        self.most = max(per_dim)
        self.register_buffer("counts", torch.tensor(per_dim), persistent=False)
        steps = torch.arange(self.most)
        self.register_buffer("valid", steps < self.counts[:, None], persistent=False)
        fraction = steps / (self.counts[:, None] - 1)
        centres = self.low[:, None] + (self.high - self.low)[:, None] * fraction
        self.register_buffer("centres", torch.where(self.valid, centres, 0.0), persistent=False)
        self.size = self.dims * self.most

    def _logits(self, parameters: Tensor) -> Tensor:
        return parameters.unflatten(-1, (self.dims, self.most)).masked_fill(~self.valid, _NEVER)

    def mode(self, parameters: Tensor) -> Tensor:
        """The local mean around the most probable bin: finer than the bins, but never between two modes."""
        logits = self._logits(parameters)
        best = logits.argmax(-1, keepdim=True)
        near = (torch.arange(self.most, device=logits.device) - best).abs() <= 1
        weight = torch.softmax(logits, -1) * near
        return (weight * self.centres).sum(-1) / weight.sum(-1)

    def sample(self, parameters: Tensor) -> Tensor:
        """The value of a random bin per dimension."""
        index = _sample(self._logits(parameters))
        return self.centres.expand(*index.shape, self.most).gather(-1, index.unsqueeze(-1)).squeeze(-1)

    def _position(self, action: Tensor) -> Tensor:
        fraction = (action.clamp(self.low, self.high) - self.low) / (self.high - self.low)
        return fraction * (self.counts - 1)

    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        """Log-probability of the nearest bins, `(…,)`."""
        index = self._position(action).round().long().unsqueeze(-1)
        return torch.log_softmax(self._logits(parameters), -1).gather(-1, index).squeeze(-1).sum(-1)

    def entropy(self, parameters: Tensor) -> Tensor:
        """`(…,)` in nats."""
        log_p = torch.log_softmax(self._logits(parameters), -1)
        return -(log_p.exp() * log_p * self.valid).sum((-2, -1))

    def divergence(self, parameters: Tensor, reference: Tensor) -> Tensor:
        """KL(parameters ‖ reference) `(…,)` in nats."""
        return _divergence(self._logits(parameters), self._logits(reference)).sum((-2, -1))

    def imitation_loss(self, parameters: Tensor, action: Tensor, how: LabelLoss = _PLAIN) -> Tensor:
        """Cross-entropy to a target spread linearly over the two bins around the action."""
        position = self._position(action)
        lower = torch.minimum(position.floor(), (self.counts - 2).to(position.dtype))
        weight = (position - lower).unsqueeze(-1)
        index = lower.long().unsqueeze(-1)
        log_p = torch.log_softmax(self._logits(parameters), -1)
        loss = -((1 - weight) * log_p.gather(-1, index) + weight * log_p.gather(-1, index + 1)).sum((-2, -1))
        return _smoothed(loss, log_p, self.valid, how.smoothing)


ActionHead = CategoricalHead | MultiCategoricalHead | GaussianHead | SquashedGaussianHead | BinnedHead


def make_head(spec: Spec, head: str, bins: tuple[int, ...]) -> ActionHead:
    """The head for an action space; `head` is `gaussian`, `squashed` or `binned` and matters for Box only."""
    if isinstance(spec, DiscreteSpec):
        return CategoricalHead(spec)
    if isinstance(spec, MultiDiscreteSpec):
        return MultiCategoricalHead(spec)
    if isinstance(spec, BoxSpec):
        match head:
            case "binned":
                return BinnedHead(spec, bins)
            case "squashed":
                return SquashedGaussianHead(spec)
            case _:
                return GaussianHead(spec)
    raise UserError(
        f"actions of kind {spec.kind} are not supported; use a Box, Discrete, MultiDiscrete or MultiBinary action space"
    )
