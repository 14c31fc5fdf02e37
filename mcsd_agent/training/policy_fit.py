"""Whether a policy can act in an environment, and learn from demonstrations: names and shapes of observations, the
action with its range, and the rate."""

from __future__ import annotations

import math
from collections.abc import Iterable

import gymnasium
import numpy as np

from mcsd_agent.errors import UserError, nearest
from mcsd_agent.policy import Policy
from mcsd_agent.spaces import (
    BoxSpec,
    DiscreteSpec,
    MultiDiscreteSpec,
    Spec,
    TextSpec,
    spec_from_space,
    specs_from_space,
)
from mcsd_agent.training.episodes import Episode


def check_policy_fits(policy: Policy, env: gymnasium.Env, rate_hz: float | None = None) -> None:
    """`UserError` that names the first thing that does not fit. The rate counts where the environment is real."""
    offered = specs_from_space(env.observation_space)
    name_of = env.spec.id if env.spec is not None else str(env)
    for name, spec in policy.observation_specs.items():
        if name not in offered:
            raise UserError(f"the policy needs observation {name!r}, which {name_of} lacks{nearest(name, offered)}")
        given = offered[name]
        text = isinstance(spec, TextSpec)
        if text != isinstance(given, TextSpec) or (not text and (given.kind, given.shape) != (spec.kind, spec.shape)):
            raise UserError(
                f"observation {name!r} is {spec.kind} of shape {spec.shape} in the policy, "
                f"and {given.kind} of shape {given.shape} in {name_of}"
            )
    action, wanted = spec_from_space(env.action_space), policy.action_spec
    if (action.kind, action.shape) != (wanted.kind, wanted.shape):
        raise UserError(
            f"the policy's action is {wanted.kind} of shape {wanted.shape}, "
            f"that of {name_of} {action.kind} of shape {action.shape}"
        )
    if not env.metadata.get("real_time"):  # a robot may have tighter limits, in the same units, and keeps to them
        _check_range(action, wanted, name_of)
    rate = env.metadata.get("render_fps")
    if rate_hz and rate and env.metadata.get("real_time") and not math.isclose(rate, rate_hz, rel_tol=1e-6):
        raise UserError(f"the policy runs at {rate_hz:g} Hz, {name_of} at {rate:g} Hz; add --set rate_hz={rate_hz:g}")


def _check_range(given: Spec, wanted: Spec, env_name: str) -> None:
    """Where both have bounds they are the same; otherwise an action would be in other units than it was learnt in."""
    if not isinstance(given, BoxSpec) or not isinstance(wanted, BoxSpec):
        return
    for own, other in zip(wanted.bounds(), given.bounds(), strict=True):
        bounded = np.isfinite(own) & np.isfinite(other)  # ClipAction, for one, takes bounds away and no units
        if not np.allclose(own[bounded], other[bounded]):
            raise UserError(
                f"the policy's action is {_range(wanted)}, that of {env_name} {_range(given)}; "
                "use the environment with the action wrapper that the policy was trained with"
            )


def _range(spec: BoxSpec) -> str:
    low, high = (np.unique(b) if len(set(b.ravel())) == 1 else b.ravel() for b in spec.bounds())
    return f"from {_numbers(low)} to {_numbers(high)}"


def _numbers(values: np.ndarray) -> str:
    text = ", ".join(f"{v:g}" for v in values)
    return text if len(values) == 1 else f"[{text}]"


def check_demonstrations_fit(episodes: Iterable[Episode], policy: Policy, env_id: str) -> None:
    """`UserError` that names the first thing in which the episodes are not of the environment that `policy` is for."""
    for episode in episodes:
        for name, spec in policy.observation_specs.items():
            if name not in episode.observations:
                raise UserError(
                    f"the demonstrations have no observation {name!r}, which {env_id} has"
                    f"{nearest(name, episode.observations)}; set record.env to the one they are of"
                )
            seen = episode.observations[name]
            if isinstance(seen, list) != isinstance(spec, TextSpec):
                raise _other_demonstrations(f"observation {name!r}", _kind(seen), env_id, spec.kind)
            if not isinstance(seen, list) and seen.shape[1:] != spec.shape:
                raise _other_demonstrations(
                    f"observation {name!r}", f"of shape {seen.shape[1:]}", env_id, f"of shape {spec.shape}"
                )
        if episode.labels is not None:
            _check_labels(episode.labels, policy.action_spec, env_id)


def _kind(seen: object) -> str:
    return "text" if isinstance(seen, list) else "numbers"


def _check_labels(labels: np.ndarray, spec: Spec, env_id: str) -> None:
    if labels.shape[1:] != spec.shape:
        raise _other_demonstrations("an action", f"of shape {labels.shape[1:]}", env_id, f"of shape {spec.shape}")
    if isinstance(spec, (DiscreteSpec, MultiDiscreteSpec)):
        choices = np.asarray(spec.n if isinstance(spec, DiscreteSpec) else spec.nvec)
        if (labels < 0).any() or (labels >= choices).any():
            largest = f"from {labels.min()} to {labels.max()}"
            raise _other_demonstrations("an action", largest, env_id, f"one of {choices.tolist()} choices")


def _other_demonstrations(what: str, shown: str, env_id: str, wanted: str) -> UserError:
    return UserError(
        f"{what} is {shown} in the demonstrations, and {wanted} in {env_id}; set record.env to the one they are of"
    )
