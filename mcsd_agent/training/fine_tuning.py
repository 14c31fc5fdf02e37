"""Training that starts from a policy that there is: from an artifact, or from another run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from mcsd_agent.errors import UserError
from mcsd_agent.policy import Policy, SequenceEncoder
from mcsd_agent.runtime.text_encoders import TextEncoder
from mcsd_agent.spaces import BoxSpec
from mcsd_agent.training.config import TrainConfig
from mcsd_agent.training.environments import make_env
from mcsd_agent.training.policy_fit import check_policy_fits
from mcsd_agent.training.resume_state import check_weights
from mcsd_agent.training.stored_policy import load_stored_policy


def with_policy_of(config: TrainConfig) -> TrainConfig:
    """`config` with the network of its `start_from`, and its words where a real robot's are not listed.

    Raises `UserError` when that policy cannot act in the config's environment.
    """
    if config.start_from is None:
        return config
    stored = load_stored_policy(config.start_from)
    probe = make_env(config.env, config.env_kwargs, config.options)
    probe.close()
    check_policy_fits(stored.policy, probe, stored.rate_hz)
    words = getattr(stored.policy.vocabulary, "words", ())  # a sentence encoder has none
    kwargs = dict(config.env_kwargs)
    if words and probe.metadata.get("real_time") and "instruction_words" not in kwargs:
        kwargs["instruction_words"] = list(words)
    network = replace(stored.policy.config, share_backbone=config.policy.share_backbone)
    return replace(config, policy=network, env_kwargs=kwargs)


def encoder_of(config: TrainConfig) -> TextEncoder | None:
    """What reads text for the policy of `config.start_from`; None where there is none, or no text."""
    return None if config.start_from is None else load_stored_policy(config.start_from).policy.vocabulary


def start_from(model: Any, path: Path) -> None:
    """Put the weights of the policy at `path` into an algorithm that was built for it, also as what PPO's leash holds
    it to. A critic with a memory of its own begins with the policy's; what else there is beside, such as the value
    function, stays as it is.

    Raises `UserError` when they do not fit.
    """
    stored, policy = load_stored_policy(path).policy, model.sequence_policy
    if stored.vocabulary != policy.vocabulary:
        raise UserError(f"{str(path)!r} knows other words than the environment says; give it as instruction_words")
    own, wanted = _bounds(stored), _bounds(policy)
    if own != wanted:
        raise UserError(f"{str(path)!r} acts from {own[0]} to {own[1]}; the environment takes {wanted}")
    weights = stored.state_dict()
    check_weights(policy, weights)
    policy.load_state_dict(weights)
    critic = getattr(model.policy, "critic", None)
    if isinstance(critic, SequenceEncoder):
        critic.load_state_dict({k: weights[k] for k in critic.state_dict()})
    if getattr(model, "leash_coef", 0.0):
        model.hold_to(policy)


def _bounds(policy: Policy) -> list[Any]:
    """Of its action, lowest and highest; none where it is not continuous."""
    spec = policy.action_spec
    return [bound.tolist() for bound in spec.bounds()] if isinstance(spec, BoxSpec) else []
