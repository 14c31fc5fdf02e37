"""A policy from wherever it was left: an artifact, a finished run, or a run that was interrupted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcsd_agent.artifact import load_policy
from mcsd_agent.errors import UserError
from mcsd_agent.policy import Policy
from mcsd_agent.runtime.package import read_package
from mcsd_agent.strict import build
from mcsd_agent.training.config import ImitateConfig, TrainConfig
from mcsd_agent.training.env_options import EnvOptions
from mcsd_agent.training.learner import trained_policy
from mcsd_agent.training.resume_state import check_weights
from mcsd_agent.training.run_folder import RunFolder
from mcsd_agent.training.runs import control_rate, policy_for

#: How many of a folder's runs are named one by one.
_RUNS_NAMED = 3


@dataclass(frozen=True)
class StoredPolicy:
    """A policy and the environment it was trained in, as far as that is known."""

    policy: Policy
    env_id: str | None
    env_kwargs: dict[str, Any]
    rate_hz: float | None
    options: EnvOptions = field(default_factory=EnvOptions)


def load_stored_policy(path: Path) -> StoredPolicy:
    """From a `.mcsd` file or a run folder; `UserError` when it is neither."""
    if path.is_dir():
        run = RunFolder.open(path)
        if run.artifact.is_file():
            return _from_artifact(run.artifact)
        _refuse_several(run)
        return _from_checkpoint(run)
    return _from_artifact(path)


def _refuse_several(run: RunFolder) -> None:
    """`UserError` naming the runs within a folder of `--seeds` or of `tune`."""
    within = sorted(p.parent for pattern in ("seed-*", "trials/*") for p in run.path.glob(f"{pattern}/config.yaml"))
    if run.has_checkpoint or not within:
        return
    named = ", ".join(str(p) for p in within[:_RUNS_NAMED]) + (" …" if len(within) > _RUNS_NAMED else "")
    raise UserError(f"{str(run.path)!r} holds {len(within)} runs; give one of them: {named}")


def _from_artifact(path: Path) -> StoredPolicy:
    spec = read_package(path).spec
    metadata = dict(spec.metadata)
    return StoredPolicy(
        load_policy(path),
        metadata.get("env"),
        dict(metadata.get("env_kwargs") or {}),
        spec.rate_hz,
        build(EnvOptions, metadata.get("options") or {}, "options"),
    )


def _from_checkpoint(run: RunFolder) -> StoredPolicy:
    kind, stored = run.stored_config()
    weights = run.load_checkpoint()["policy"]
    if kind == "train":
        config = build(TrainConfig, stored)
        kwargs = config.evaluation_kwargs
        rate = control_rate(config.env, kwargs, config.rate_hz, config.options)
        begun = None if config.start_from is None else load_stored_policy(config.start_from).policy.vocabulary
        return StoredPolicy(trained_policy(config, weights, begun), config.env, kwargs, rate, config.options)
    cloned = build(ImitateConfig, stored)
    task = cloned.record
    kwargs = task.env_kwargs if cloned.evaluation.env_kwargs is None else cloned.evaluation.env_kwargs
    policy = policy_for(task.env, task.env_kwargs, cloned.policy, cloned.seed)
    check_weights(policy, weights)
    policy.load_state_dict(weights)
    return StoredPolicy(policy, task.env, kwargs, control_rate(task.env, kwargs, cloned.rate_hz))
