"""Whether a policy can act in an environment: names and shapes of observations, the action, and the rate."""

from __future__ import annotations

import math

import gymnasium

from mcsd_agent.errors import UserError, nearest
from mcsd_agent.policy import Policy
from mcsd_agent.spaces import TextSpec, spec_from_space, specs_from_space


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
    rate = env.metadata.get("render_fps")
    if rate_hz and rate and env.metadata.get("real_time") and not math.isclose(rate, rate_hz, rel_tol=1e-6):
        raise UserError(f"the policy runs at {rate_hz:g} Hz, {name_of} at {rate:g} Hz; add --set rate_hz={rate_hz:g}")
