"""What a YAML file in `configs/` may say: one frozen dataclass per kind of run, checked on load."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mcsd_agent.errors import UserError
from mcsd_agent.policy import PolicyConfig
from mcsd_agent.strict import apply_overrides, build, load_yaml
from mcsd_agent.training.demos import RecordConfig
from mcsd_agent.training.imitation import ImitationConfig

Config = TypeVar("Config", "TrainConfig", "ImitateConfig")


@dataclass(frozen=True)
class EvaluationConfig:
    """Episodes per group, on seeds from `seed` on, which training never uses.

    `env_kwargs` are the environment's arguments when it is judged, null for those of training. `groups` maps
    a name to changes of them; without groups there is one, named `all`.
    """

    episodes: int = 200
    seed: int = 1_000_000
    env_kwargs: dict[str, Any] | None = None
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.episodes < 0:
            raise UserError(f"evaluation.episodes={self.episodes} must be at least 0")


@dataclass(frozen=True)
class PPOConfig:
    """Arguments of `SequencePPO`; learning_rate falls linearly to 0 when `anneal`."""

    n_steps: int = 128
    n_minibatches: int | None = None
    n_epochs: int = 10
    learning_rate: float = 1e-3
    anneal: bool = True
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip_range: float = 0.2
    clip_range_vf: float | None = None
    ent_coef: float = 0.0
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5
    target_kl: float | None = None


@dataclass(frozen=True)
class TrainConfig:
    """Reinforcement learning with `SequencePPO`; written for `mcsd-agent train`."""

    env: str
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    n_envs: int = 16
    timesteps: int = 100_000
    seed: int = 0
    threads: int = 1
    rate_hz: float | None = None
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    ppo: PPOConfig = field(default_factory=PPOConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint_every: int = 50_000

    def __post_init__(self) -> None:
        for name in ("n_envs", "timesteps", "threads", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)} must be at least 1")


@dataclass(frozen=True)
class ImitateConfig:
    """Behaviour cloning and DAgger; written for `mcsd-agent imitate`.

    Demonstrations come from the folder `demonstrations` when given, else they are recorded as `record` says.
    """

    record: RecordConfig = field(default_factory=RecordConfig)
    demonstrations: Path | None = None
    seed: int = 0
    threads: int = 1
    rate_hz: float | None = None
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    imitation: ImitationConfig = field(default_factory=ImitationConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise UserError(f"threads={self.threads} must be at least 1")


def load_config(cls: type[Config], path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """The config in a YAML file with `a.b=value` overrides; `UserError` names the key, value and constraint."""
    try:
        return build(cls, apply_overrides(load_yaml(path), overrides))
    except UserError as error:
        message = str(error)
        raise UserError(message if str(path) in message else f"{path}: {message}") from None
