"""`mcsd-agent bench train`: environment steps per CPU-second of SequencePPO beside sb3-contrib's RecurrentPPO.

Both train on the same environment with the same number of environments, steps per rollout, epochs and steps per
minibatch, on one thread. Two comparisons: each library's default policy, and equal parameters, for which the width of
RecurrentPPO's LSTMs is chosen. All contestants take turns, so that a machine that is busy for a while is busy for all
of them; a turn is a few rollouts with their updates, time is the process's CPU time, and the figure is the median turn.
Training goes on from turn to turn.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from mcsd_agent.console import Reporter, table
from mcsd_agent.errors import UserError

if TYPE_CHECKING:
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

COMPARISONS = ("default", "equal_params")
ALGORITHMS = ("sequence_ppo", "recurrent_ppo")
#: What a step costs, as shares of all of it; `rest` is the loop around them: buffers, bootstrapping, callbacks.
PARTS = ("environment", "policy_step", "update", "rest")
#: Parameters count as equal up to this share.
_TOLERANCE = 0.05

Report = Callable[[str, float, str], None]


@dataclass(frozen=True)
class Settings:
    """What all contestants share. `batch_size` counts steps, `rollouts` is what one of `repeats` turns collects.

    `width` is that of SequencePPO where parameters are equal, None for its default.
    """

    env: str = "CartPole-v1"
    n_envs: int = 8
    n_steps: int = 128
    batch_size: int = 128
    epochs: int = 10
    width: int | None = None
    rollouts: int = 2
    repeats: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_envs", "batch_size", "epochs", "rollouts", "repeats"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)} must be at least 1")
        if self.n_steps < 2:
            raise UserError(f"n_steps={self.n_steps} must be at least 2")
        if self.width is not None and self.width < 1:
            raise UserError(f"width={self.width} must be at least 1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    default = Settings()
    parser.add_argument("--env", default=default.env, metavar="ID", help="any Gymnasium environment")
    parser.add_argument("--n-envs", type=int, default=default.n_envs)
    parser.add_argument("--n-steps", type=int, default=default.n_steps, help="of each environment per rollout")
    parser.add_argument("--batch-size", type=int, default=default.batch_size, help="steps per minibatch")
    parser.add_argument("--epochs", type=int, default=default.epochs)
    parser.add_argument("--width", type=int, help="of SequencePPO at equal parameters (default: its own default)")
    parser.add_argument("--rollouts", type=int, default=default.rollouts, help="per turn")
    parser.add_argument("--repeats", type=int, default=default.repeats, help="turns")
    parser.add_argument("--seed", type=int, default=default.seed)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure and print a table; the result for `--json`."""
    settings = Settings(**{name: getattr(options, name) for name in Settings.__dataclass_fields__})
    report = Reporter(getattr(options, "quiet", False))
    result = run_train_benchmark(settings, report)
    report.close()
    shape = f"{settings.n_envs} environments, n_steps {settings.n_steps}, batch {settings.batch_size}"
    print(f"{settings.env}, {shape}, {settings.epochs} epochs, one thread")
    print(describe(result))
    return result


def run_train_benchmark(
    settings: Settings | None = None, report: Report = lambda stage, fraction, text: None
) -> dict[str, Any]:
    """Environment steps per CPU-second of both algorithms.

    `{"default": {"sequence_ppo", "recurrent_ppo", "ratio"}, "equal_params": {...}, "params": {...}, "shares": {...},
    "settings": {...}}`: `params` has the number of each algorithm's parameters per comparison, `shares` how its time
    is spent (`PARTS`, which add up to 1). One thread is used from here on. Raises `UserError` where sb3-contrib is not
    installed or an environment does not fit both.
    """
    import torch

    settings = settings or Settings()
    torch.set_num_threads(1)
    contestants = _contestants(settings)
    turns = settings.repeats + 1
    for turn in range(turns):
        for place, one in enumerate(contestants):
            seconds = one.train(settings.rollouts if turn else 1, keep=turn > 0)  # the first turn compiles kernels
            done = (turn + (place + 1) / len(contestants)) / turns
            report("train", done, f"{one.algorithm} {one.params} parameters: {seconds:.2f} CPU-s")
    result: dict[str, Any] = {comparison: {} for comparison in COMPARISONS}
    result |= {"params": {c: {} for c in COMPARISONS}, "shares": {c: {} for c in COMPARISONS}}
    for one in contestants:
        result[one.comparison][one.algorithm] = one.steps_per_second()
        result["params"][one.comparison][one.algorithm] = one.params
        result["shares"][one.comparison][one.algorithm] = one.shares()
        one.close()
    for comparison in COMPARISONS:
        found = result[comparison]
        found["ratio"] = found["sequence_ppo"] / found["recurrent_ppo"]
    result["settings"] = {name: getattr(settings, name) for name in Settings.__dataclass_fields__}
    return result


@dataclass
class _Contestant:
    """One algorithm in one comparison, with a clock around each part of its work."""

    comparison: str
    algorithm: str
    model: OnPolicyAlgorithm
    params: int = 0
    turns: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.params = sum(p.numel() for p in self.model.policy.parameters())
        self._clock = dict.fromkeys(PARTS, 0.0)
        self._time(self.model.env, "step", "environment")
        self._time(self.model.policy, "forward", "policy_step")
        self._time(self.model, "train", "update")

    def _time(self, owner: Any, method: str, part: str) -> None:
        """Have calls of `owner.method` counted as `part`."""
        original = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            # An update evaluates the policy by other methods than a rollout's step, so that no part is in another.
            began = time.process_time()
            try:
                return original(*args, **kwargs)
            finally:
                self._clock[part] += time.process_time() - began

        setattr(owner, method, timed)

    def train(self, rollouts: int, keep: bool) -> float:
        """Train for so many rollouts and updates; CPU-seconds, remembered where `keep`."""
        self._clock = dict.fromkeys(PARTS, 0.0)
        steps = rollouts * self.model.n_steps * self.model.n_envs
        began = time.process_time()
        self.model.learn(steps, reset_num_timesteps=False)
        total = time.process_time() - began
        self._clock["rest"] = total - sum(self._clock.values())
        if keep:
            self.turns.append({**self._clock, "total": total, "steps": steps})
        return total

    def steps_per_second(self) -> float:
        """Median over the turns."""
        return statistics.median(t["steps"] / t["total"] for t in self.turns)

    def shares(self) -> dict[str, float]:
        """Of the CPU time of all turns."""
        total = sum(t["total"] for t in self.turns)
        return {part: sum(t[part] for t in self.turns) / total for part in PARTS}

    def close(self) -> None:
        """End the environments."""
        assert self.model.env is not None
        self.model.env.close()


def _contestants(settings: Settings) -> list[_Contestant]:
    recurrent_ppo = _recurrent_ppo()
    from stable_baselines3.common.env_util import make_vec_env

    from mcsd_agent.training.environments import make_env
    from mcsd_agent.training.sequence_ppo import SequencePPO

    def make(comparison: str, algorithm: str, policy_kwargs: dict[str, Any]) -> _Contestant:
        env = make_vec_env(partial(make_env, settings.env), settings.n_envs, seed=settings.seed)
        cls: Any = SequencePPO if algorithm == "sequence_ppo" else recurrent_ppo
        model = cls(
            _policy_name(env.observation_space, algorithm),
            env,
            n_steps=settings.n_steps,
            batch_size=settings.batch_size,
            n_epochs=settings.epochs,
            policy_kwargs=policy_kwargs,
            seed=settings.seed,
            device="cpu",
        )
        return _Contestant(comparison, algorithm, model)

    found = [make("default", name, {}) for name in ALGORITHMS]
    found.append(make("equal_params", "sequence_ppo", {} if settings.width is None else {"width": settings.width}))
    width = equal_lstm_width(recurrent_ppo, found[0].model, found[-1].params)
    found.append(make("equal_params", "recurrent_ppo", {"lstm_hidden_size": width}))
    return found


def equal_lstm_width(recurrent_ppo: Any, like: OnPolicyAlgorithm, params: int) -> int:
    """The `lstm_hidden_size` with which RecurrentPPO's policy for the spaces of `like` has about `params` parameters.

    :raises UserError: when the closest number is not within 5 %
    """
    name = _policy_name(like.observation_space, "recurrent_ppo")

    def count(width: int) -> int:
        policy = recurrent_ppo.policy_aliases[name](
            like.observation_space, like.action_space, lambda _: 0.0, lstm_hidden_size=width
        )
        return sum(p.numel() for p in policy.parameters())

    # Parameters grow with the width: double it until there are enough, then halve the interval.
    above = 1
    while count(above) < params:
        above *= 2
    below = above // 2
    while above - below > 1:
        middle = (above + below) // 2
        below, above = (middle, above) if count(middle) < params else (below, middle)
    best = min((w for w in (below, above) if w > 0), key=lambda w: abs(count(w) - params))
    if abs(count(best) / params - 1) > _TOLERANCE:
        raise UserError(
            f"SequencePPO has {params} parameters and RecurrentPPO at best {count(best)}, which is more than "
            f"{_TOLERANCE:.0%} apart; choose another --width"
        )
    return best


def _recurrent_ppo() -> Any:
    try:
        from sb3_contrib import RecurrentPPO
    except ModuleNotFoundError:
        raise UserError("sb3-contrib is not installed; pip install 'mcsd-agent[bench]'") from None
    return RecurrentPPO


def _policy_name(observation_space: Any, algorithm: str) -> str:
    from gymnasium import spaces
    from stable_baselines3.common.preprocessing import is_image_space

    if isinstance(observation_space, spaces.Dict):
        kind = "MultiInput"
    else:
        kind = "Cnn" if is_image_space(observation_space) else "Mlp"
    return kind + ("Policy" if algorithm == "sequence_ppo" else "LstmPolicy")


def describe(result: dict[str, Any]) -> str:
    """The result as a table, a line per algorithm and comparison, and the ratios below it."""
    rows = [
        [
            comparison,
            algorithm,
            str(result["params"][comparison][algorithm]),
            f"{result[comparison][algorithm]:.0f}",
            *(f"{100 * result['shares'][comparison][algorithm][part]:.1f} %" for part in PARTS),
        ]
        for comparison in COMPARISONS
        for algorithm in ALGORITHMS
    ]
    header = ["comparison", "algorithm", "params", "steps per CPU-s", *(p.replace("_", " ") for p in PARTS)]
    ratios = [f"{comparison}: {result[comparison]['ratio']:.1f} times" for comparison in COMPARISONS]
    return table(header, rows) + "\n" + ", ".join(ratios)
