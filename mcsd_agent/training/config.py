"""What a YAML file in `configs/` may say: one frozen dataclass per kind of run, checked on load."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from mcsd_agent.errors import UserError
from mcsd_agent.number_arguments import LARGEST_SEED
from mcsd_agent.policy import PolicyConfig
from mcsd_agent.strict import apply_overrides, build, load_yaml
from mcsd_agent.training.demos import RecordConfig
from mcsd_agent.training.env_options import EnvOptions
from mcsd_agent.training.imitation import ImitationConfig
from mcsd_agent.training.tune_config import TuneConfig

#: Steps that a killed run may lose, unless it is told otherwise.
_MOST_BETWEEN_CHECKPOINTS = 50_000

Config = TypeVar("Config", "TrainConfig", "ImitateConfig")


def _check_least(config: Any, least: int, *names: str) -> None:
    """`UserError` for the first of these values that is below `least`; None is none."""
    for name in names:
        value = getattr(config, name)
        if value is not None and value < least:
            raise UserError(f"{_key(config, name)}={value} must be at least {least}")


def _check_above_zero(config: Any, *names: str) -> None:
    """The same for values that are not above 0; None is none."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise UserError(f"{_key(config, name)}={value} must be above 0")


def _check_share(config: Any, *names: str) -> None:
    """The same for values that are not from 0 to 1."""
    for name in names:
        if not 0.0 <= getattr(config, name) <= 1.0:
            raise UserError(f"{_key(config, name)}={getattr(config, name)} must be from 0 to 1")


def _check_seed(config: Any) -> None:
    """The same for a seed that NumPy's older generators, which others draw from, do not take."""
    if not 0 <= config.seed <= LARGEST_SEED:
        raise UserError(f"{_key(config, 'seed')}={config.seed} must be from 0 to {LARGEST_SEED}")


def _key(config: Any, name: str) -> str:
    sections = {"PPOConfig": "ppo.", "SACConfig": "sac.", "EvaluationConfig": "evaluation."}
    return sections.get(type(config).__name__, "") + name


@dataclass(frozen=True)
class EvaluationConfig:
    """Episodes per group, on seeds from `seed` on, which training never uses; `sampled` judges them a second time.

    `env_kwargs` are the environment's arguments when it is judged, null for those of training. `groups` maps
    a name to changes of them; without groups there is one, named `all`.
    """

    episodes: int = 200
    seed: int = 1_000_000
    env_kwargs: dict[str, Any] | None = None
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    sampled: bool = False

    def __post_init__(self) -> None:
        if self.episodes < 0:
            raise UserError(f"evaluation.episodes={self.episodes} must be at least 0; 0 is no evaluation")
        _check_seed(self)

    def judged_kwargs(self, training: dict[str, Any]) -> list[dict[str, Any]]:
        """Each set of arguments that the environment is judged with once, where it is trained with `training`."""
        base = training if self.env_kwargs is None else self.env_kwargs
        distinct: list[dict[str, Any]] = []
        for kwargs in (base, *({**base, **changes} for changes in self.groups.values())):
            if kwargs not in distinct:
                distinct.append(kwargs)
        return distinct


@dataclass(frozen=True)
class PPOConfig:
    """Arguments of `SequencePPO`; learning_rate falls linearly to 0 when `anneal`."""

    n_steps: int = 128
    batch_size: int | None = None
    n_minibatches: int | None = None
    n_epochs: int = 10
    learning_rate: float = 1e-3
    anneal: bool = True
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip_range: float = 0.2
    clip_range_vf: float | None = None
    normalize_advantage: bool = True
    ent_coef: float = 0.0
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5
    target_kl: float | None = None
    gradient_accumulation_steps: int = 1
    noise_correlation: float = 0.0
    leash_coef: float = 0.0
    value_warmup: int = 0
    prediction_coef: float = 0.0

    def __post_init__(self) -> None:
        _check_above_zero(self, "learning_rate", "clip_range", "clip_range_vf", "max_grad_norm", "target_kl")
        _check_share(self, "gamma", "gae_lambda")
        _check_least(self, 0, "ent_coef", "vf_coef", "leash_coef", "value_warmup", "prediction_coef")


@dataclass(frozen=True)
class SACConfig:
    """Arguments of `SequenceSAC`; learning_rate falls linearly to 0 when `anneal`."""

    learning_rate: float = 1e-3
    anneal: bool = False
    buffer_size: int = 1_000_000
    learning_starts: int = 1000
    batch_size: int = 16
    sequence_length: int = 32
    burn_in: int = 16
    n_steps: int = 1
    tau: float = 0.005
    gamma: float = 0.99
    train_freq: int = 1
    gradient_steps: int = 1
    ent_coef: float | str = "auto"
    target_entropy: float | str = "auto"
    max_grad_norm: float | None = None
    stride: int | None = None

    def __post_init__(self) -> None:
        _check_above_zero(self, "learning_rate", "max_grad_norm")
        _check_share(self, "gamma", "tau")
        _check_least(self, 0, "learning_starts")
        _check_least(self, 1, "train_freq")
        _check_least(self, -1, "gradient_steps")


@dataclass(frozen=True)
class TrainConfig:
    """Reinforcement learning; written for `mcsd-agent train`.

    `start_from` is an artifact or a run folder whose policy is trained on; its network takes the place of `policy`, of
    which only `share_backbone` counts then.
    `ppo` counts where `algorithm` is ppo, `sac` where it is sac. `eval_every` None is a tenth of `timesteps`,
    0 is never. `checkpoint_every` None is a tenth too, but at most 50 000.
    """

    env: str
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    options: EnvOptions = field(default_factory=EnvOptions)
    start_from: Path | None = None
    algorithm: Literal["ppo", "sac"] = "ppo"
    n_envs: int = 16
    vectorised: Literal["sync", "async", "batched"] = "sync"
    normalize_reward: bool = False
    timesteps: int = 100_000
    seed: int = 0
    threads: int = 1
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    rate_hz: float | None = None
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    ppo: PPOConfig = field(default_factory=PPOConfig)
    sac: SACConfig = field(default_factory=SACConfig)
    eval_every: int | None = None
    eval_episodes: int = 10
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint_every: int | None = None
    video_episodes: int = 1
    tune: TuneConfig = field(default_factory=TuneConfig)

    def __post_init__(self) -> None:
        _check_least(self, 1, "n_envs", "timesteps", "threads", "checkpoint_every", "eval_episodes")
        _check_least(self, 0, "video_episodes", "eval_every")
        _check_seed(self)
        if self.ppo.leash_coef and self.start_from is None:
            raise UserError(f"ppo.leash_coef={self.ppo.leash_coef} needs start_from: the policy to stay close to")

    @property
    def evaluation_steps(self) -> int:
        """Steps between evaluations, 0 for none."""
        return max(1, self.timesteps // 10) if self.eval_every is None else self.eval_every

    @property
    def checkpoint_steps(self) -> int:
        """Steps between checkpoints."""
        if self.checkpoint_every is not None:
            return self.checkpoint_every
        return min(_MOST_BETWEEN_CHECKPOINTS, max(1, self.timesteps // 10))

    @property
    def evaluation_kwargs(self) -> dict[str, Any]:
        """The environment's arguments when the policy is judged."""
        return self.env_kwargs if self.evaluation.env_kwargs is None else self.evaluation.env_kwargs


@dataclass(frozen=True)
class ImitateConfig:
    """Behaviour cloning and DAgger; written for `mcsd-agent imitate`.

    Demonstrations are recorded as `record` says; into the folder `demonstrations` when that is given, and only where
    it does not exist yet.
    """

    record: RecordConfig = field(default_factory=RecordConfig)
    demonstrations: Path | None = None
    seed: int = 0
    threads: int = 1
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    rate_hz: float | None = None
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    imitation: ImitationConfig = field(default_factory=ImitationConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        _check_least(self, 1, "threads")
        _check_seed(self)


def load_config(cls: type[Config], path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """The config in a YAML file with `a.b=value` overrides; `UserError` names the key, value and constraint."""
    data = load_yaml(path)
    data.pop("kind", None)  # the config.yaml of a run says which kind of run it was
    try:
        return build(cls, apply_overrides(data, overrides))
    except UserError as error:
        message = str(error)
        raise UserError(message if str(path) in message else f"{path}: {message}") from None
