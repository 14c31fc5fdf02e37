"""What a search for hyper-parameters may try."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mcsd_agent.errors import UserError

_RANGE_KEYS = {"low", "high", "log", "step"}

#: Tried unless the config says otherwise: key of the config to its choices, or to a range.
_DEFAULT_SPACE: dict[str, dict[str, Any]] = {
    "ppo": {
        "ppo.learning_rate": {"low": 2e-4, "high": 1e-2, "log": True},
        "ppo.n_steps": [64, 128, 256],
        "ppo.n_epochs": {"low": 3, "high": 12},
        "ppo.gamma": [0.95, 0.98, 0.99, 0.995, 0.999],
        "ppo.gae_lambda": [0.8, 0.9, 0.95, 0.98],
        "ppo.ent_coef": {"low": 1e-6, "high": 0.03, "log": True},
    },
    "sac": {
        "sac.learning_rate": {"low": 2e-4, "high": 5e-3, "log": True},
        "sac.gamma": [0.95, 0.98, 0.99, 0.995],
        "sac.sequence_length": [16, 32, 64],
        "sac.batch_size": [8, 16, 32],
        "sac.tau": [0.005, 0.01, 0.02],
    },
}
_DEFAULT_POLICY: dict[str, Any] = {"policy.width": [32, 64, 128], "policy.horizon": [64, 256, 1024]}


@dataclass(frozen=True)
class TuneConfig:
    """How to search, and where: `space` adds keys to the default one, changes them, or takes them away (null).

    A key's entry is a list of choices, or a range `{low: 1e-4, high: 1e-2, log: true}`, of whole numbers when both
    ends are whole.
    """

    trials: int = 50
    sampler: Literal["tpe", "random"] = "tpe"
    pruner: Literal["median", "asha", "none"] = "median"
    evaluations: int = 10
    space: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("trials", "evaluations"):
            if getattr(self, name) < 1:
                raise UserError(f"tune.{name}={getattr(self, name)} must be at least 1")
        self.search_space("ppo")  # reads, and so checks, what was given

    def search_space(self, algorithm: str) -> dict[str, Any]:
        """Key of the config to a list of choices or a range."""
        given = {key: _read(key, entry) for key, entry in _flat(self.space).items()}
        space = {**_DEFAULT_SPACE[algorithm], **_DEFAULT_POLICY, **given}
        return {key: entry for key, entry in space.items() if entry is not None}


def _flat(space: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{ppo: {gamma: [...]}}` as `{"ppo.gamma": [...]}`."""
    flat: dict[str, Any] = {}
    for key, entry in space.items():
        if isinstance(entry, Mapping) and not _RANGE_KEYS & entry.keys():
            flat |= _flat(entry, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = entry
    return flat


def _read(key: str, entry: Any) -> Any:
    """A list of choices, a range with numbers for ends, or None; `UserError` for anything else."""
    where = f"tune.space.{key}"
    if entry is None:
        return None
    if isinstance(entry, list):
        if not entry or not all(isinstance(v, (str, int, float)) or v is None for v in entry):
            raise UserError(f"{where}: {entry!r} must be a list of numbers, texts or null, at least one")
        return [v if _number(v) is None else _number(v) for v in entry]
    if not isinstance(entry, Mapping):
        raise UserError(f"{where}: {entry!r} must be a list of choices or a range such as {{low: 0.1, high: 0.9}}")
    low, high = _number(entry.get("low")), _number(entry.get("high"))
    if set(entry) - _RANGE_KEYS or low is None or high is None or low >= high:
        raise UserError(f"{where}: {dict(entry)!r} must give numbers low < high, and may give log and step")
    if entry.get("log") and (low <= 0 or "step" in entry):
        raise UserError(f"{where}: {dict(entry)!r} is logarithmic: low must be above 0, and there is no step")
    return {**entry, "low": low, "high": high}


def _number(value: Any) -> int | float | None:
    if isinstance(value, str):  # YAML 1.1 reads 1e-3 as text: the dot is missing
        try:
            return float(value)
        except ValueError:
            return None
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
