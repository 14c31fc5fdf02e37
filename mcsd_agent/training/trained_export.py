"""From an algorithm and its environment to the artifact: what is exported, at which rate, and for which environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from mcsd_agent.artifact import ParityReport, export_policy
from mcsd_agent.errors import UserError
from mcsd_agent.policy import Policy


def export_trained(algorithm: BaseAlgorithm, policy: Policy, path: str | Path, rate_hz: float | None) -> ParityReport:
    """Write the artifact of `policy`; the rate is by default that of the environment that `algorithm` has."""
    _refuse_normalised_observations(algorithm)
    env = algorithm.env
    if rate_hz is None and env is not None:
        rates = env.get_attr("metadata")
        rate_hz = rates[0].get("render_fps") if rates and rates[0] else None
    if rate_hz is None:
        raise UserError("the environment states no control rate; call export(path, rate_hz=...)")
    spec = env.get_attr("spec")[0] if env is not None else None
    metadata: dict[str, Any] = {}
    if spec is not None:
        kwargs = {k: v for k, v in spec.kwargs.items() if k != "render_mode"}
        metadata = {"env": spec.id, "env_kwargs": kwargs}
    return export_policy(policy, Path(path), rate_hz=float(rate_hz), metadata=metadata)


def _refuse_normalised_observations(algorithm: BaseAlgorithm) -> None:
    """The network has learnt to read what VecNormalize made of observations; the artifact is given them as they are."""
    normalised = algorithm.get_vec_normalize_env()
    if normalised is not None and normalised.norm_obs:
        raise UserError(
            "VecNormalize(norm_obs=True): the artifact would lack its statistics of observations; train with "
            "VecNormalize(norm_obs=False), since the policy scales observations by itself"
        )
