"""One imitation run from config to artifact, and what every run begins and ends with."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mcsd_agent.artifact import ParityReport, export_policy
from mcsd_agent.errors import UserError
from mcsd_agent.policy import Policy, PolicyConfig
from mcsd_agent.spaces import spec_from_space
from mcsd_agent.strict import to_dict
from mcsd_agent.training.config import EvaluationConfig, ImitateConfig
from mcsd_agent.training.dagger import dagger_episodes
from mcsd_agent.training.demos import load_demonstrations, record
from mcsd_agent.training.env_options import EnvOptions
from mcsd_agent.training.environments import make_env, make_expert, try_environment
from mcsd_agent.training.episodes import Episode
from mcsd_agent.training.evaluation import Evaluation, evaluate
from mcsd_agent.training.imitation import Progress, train_by_imitation
from mcsd_agent.training.instructions import EncodeInstruction, encoder_for, policy_specs
from mcsd_agent.training.leakage import Beginnings
from mcsd_agent.training.policy_fit import check_demonstrations_fit
from mcsd_agent.training.random_state import untouched_random_state
from mcsd_agent.training.recording import record_to
from mcsd_agent.training.run_folder import RunFolder
from mcsd_agent.training.success_scores import DoneRule

#: Every run has its own seeds: demonstrations from the first, DAgger and validation from these on. Evaluation uses
#: those from 1 000 000 on of the first run, which demonstrations do not reach.
_SEEDS_PER_RUN = 10_000_000
_DAGGER_SEEDS = 5_000_000
_VALIDATION_SEEDS = 9_000_000

#: Told what is going on: a stage ("record", "train", "evaluate"), how far it is in [0, 1], and a text.
Report = Callable[[str, float, str], None]


@dataclass(frozen=True)
class Purpose:
    """What a policy is exported for and judged in."""

    env: str
    env_kwargs: dict[str, Any]
    options: EnvOptions
    evaluation: EvaluationConfig
    rate_hz: float
    beginnings: Beginnings | None = None


def policy_for(
    env_id: str, env_kwargs: dict[str, Any], config: PolicyConfig, seed: int, said: Iterable[str] = ()
) -> Policy:
    """A fresh policy for an environment's spaces; the same seed gives the same weights.

    `said` are instructions that it must know, where the environment does not list its words.
    """
    env = make_env(env_id, env_kwargs)
    encoder = encoder_for(env, config.encoder.instruction, said)
    encoded = env if encoder is None else EncodeInstruction(env, encoder)
    specs, _ = policy_specs(encoded.observation_space)
    torch.manual_seed(seed)
    policy = Policy(specs, spec_from_space(env.action_space), config, encoder)
    env.close()
    return policy


def control_rate(
    env_id: str, env_kwargs: dict[str, Any], rate_hz: float | None, options: EnvOptions | None = None
) -> float:
    """The policy's ticks per second: as configured, else the environment's `render_fps`, else a refusal."""
    env = make_env(env_id, env_kwargs, options or EnvOptions())
    if rate_hz is not None:
        env.close()
        return rate_hz
    rate = env.metadata.get("render_fps")
    env.close()
    if not rate:
        raise UserError(f"environment {env_id!r} states no control rate; set rate_hz in the config")
    return float(rate)


def refuse_unjudgeable(
    env_id: str, env_kwargs: dict[str, Any], evaluation: EvaluationConfig, options: EnvOptions | None = None
) -> None:
    """`UserError` for arguments that the environment refuses when it is judged, which comes after all training."""
    for kwargs in evaluation.judged_kwargs(env_kwargs):
        if kwargs != env_kwargs:
            try:
                make_env(env_id, kwargs, options or EnvOptions()).close()
            except UserError as error:
                raise UserError(f"evaluation: {error}") from None


def check_imitation(config: ImitateConfig) -> None:
    """`UserError` for what would otherwise be noticed only after the policy is trained."""
    task = config.record
    with untouched_random_state():
        try_environment(task.env, task.env_kwargs)
        refuse_unjudgeable(task.env, task.env_kwargs, config.evaluation)
        if config.imitation.dagger_rounds:
            _refuse_unaided(config)
    kwargs = task.env_kwargs if config.evaluation.env_kwargs is None else config.evaluation.env_kwargs
    control_rate(task.env, kwargs, config.rate_hz)


def _refuse_unaided(config: ImitateConfig) -> None:
    task, rounds = config.record, config.imitation.dagger_rounds
    env = make_env(task.env, task.env_kwargs)
    try:
        make_expert(task.env, task.expert, env)
    except UserError as error:
        raise UserError(f"imitation.dagger_rounds={rounds}: {error}; or set it to 0") from None
    finally:
        env.close()


def imitate(config: ImitateConfig, run: RunFolder, report: Report) -> tuple[Policy, list[Evaluation], ParityReport]:
    """Record or load demonstrations, clone them with DAgger, evaluate on unseen seeds, export the artifact."""
    torch.set_num_threads(config.threads)
    task = config.record
    device = device_for(config.device)
    check_imitation(config)
    episodes = demonstrations(config, report)
    said = {text for e in episodes for v in e.observations.values() if isinstance(v, list) for text in v}
    policy = policy_for(task.env, task.env_kwargs, config.policy, config.seed, said).to(device)
    check_demonstrations_fit(episodes, policy, task.env)

    def on_progress(progress: Progress) -> None:
        run.add_metrics(asdict(progress))
        dagger = "" if progress.dagger_success is None else f", DAgger success {progress.dagger_success:.0%}"
        tried = "" if progress.validation is None else f", validation {progress.validation:.1%}"
        text = f"update {progress.update}, loss {progress.loss:.3f}, {progress.cpu_seconds:.0f} CPU-s{dagger}{tried}"
        report("train", progress.fraction, text)

    def dagger(learner: Policy, round_index: int) -> list[Episode]:
        report("train", -1.0, f"DAgger round {round_index + 1} of {config.imitation.dagger_rounds}")
        how = config.imitation
        first = config.seed * _SEEDS_PER_RUN + _DAGGER_SEEDS + round_index * how.dagger_episodes
        seeds = range(first, first + how.dagger_episodes)
        return dagger_episodes(learner, task, seeds, how.dagger_expert_share, how.dagger_processes)

    def score(learner: Policy) -> float:
        report("train", -1.0, "validation")
        return success_of(learner, config)

    policy = train_by_imitation(
        policy, episodes, config.imitation, seed=config.seed, dagger=dagger, score=score, on_progress=on_progress
    )
    run.save_checkpoint({"policy": policy.state_dict()})  # what was learnt is not lost, whatever comes next
    kwargs = task.env_kwargs if config.evaluation.env_kwargs is None else config.evaluation.env_kwargs
    rate = control_rate(task.env, kwargs, config.rate_hz)
    purpose = Purpose(task.env, kwargs, EnvOptions(), config.evaluation, rate, Beginnings(episodes))
    results, parity = finish(policy, purpose, run, report)
    return policy, results, parity


def device_for(name: str) -> torch.device:
    """`cpu`, `cuda` or `auto`; `UserError` where there is no CUDA device and one is asked for."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device='cuda': torch finds no CUDA device here; choose 'cpu', or 'auto' for either")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def demonstrations(config: ImitateConfig, report: Report) -> list[Episode]:
    """From the config's folder, or recorded, into that folder if there is to be one."""
    task, folder, seed = config.record, config.demonstrations, config.seed * _SEEDS_PER_RUN
    if folder is None:
        return record(task, seed, lambda done, total: report("record", done / total, f"{done} of {total} episodes"))
    if not folder.exists():
        report("record", 1.0, f"{record_to(folder, task, seed, report)}: {folder}")
    report("record", 0.0, f"reading {folder}")
    return load_demonstrations(folder)


def success_of(policy: Policy, config: ImitateConfig) -> float:
    """The mean over the evaluation's groups of the share of successes on validation seeds, with the most probable
    actions; `UserError` where the environment does not say what success is."""
    task, judged = config.record, config.evaluation
    results = evaluate(
        policy,
        task.env,
        task.env_kwargs if judged.env_kwargs is None else judged.env_kwargs,
        episodes=max(1, config.imitation.validate_episodes // max(1, len(judged.groups))),
        seed=config.seed * _SEEDS_PER_RUN + _VALIDATION_SEEDS,
        groups=judged.groups,
    )
    rates = [r.success.value for r in results if r.success is not None]
    if not rates:
        raise UserError(f"imitation.validate_every: {task.env} does not say is_success; set it to 0")
    return float(np.mean(rates))


def finish(policy: Policy, purpose: Purpose, run: RunFolder, report: Report) -> tuple[list[Evaluation], ParityReport]:
    """What every run ends with: the artifact first, so that it is there whatever happens to the evaluation."""
    policy.eval()
    parity = _export(policy, purpose, run.artifact, report)
    results = _evaluate(policy, purpose, report)
    run.write_json("evaluation.json", [r.to_json() for r in results])
    return results, parity


def finish_best(
    policy: Policy, best: dict[str, Any], purpose: Purpose, run: RunFolder, report: Report
) -> list[Evaluation]:
    """The policy that was best while training as `best.mcsd`, judged on the same seeds when it is not the last one.

    Its rows are added to `evaluation.json` with `best` in the name of their group.
    """
    last = policy.state_dict()
    if all(torch.equal(last[k], v) for k, v in best["policy"].items()):
        shutil.copyfile(run.artifact, run.artifact.with_name("best.mcsd"))
        return []
    policy = policy.copied()
    policy.load_state_dict(best["policy"])
    _export(policy, purpose, run.artifact.with_name("best.mcsd"), report)
    results = [
        replace(r, group="best" if r.group == "all" else f"best {r.group}") for r in _evaluate(policy, purpose, report)
    ]
    run.write_json("evaluation.json", [*(run.read_json("evaluation.json") or []), *(r.to_json() for r in results)])
    return results


def _export(policy: Policy, purpose: Purpose, path: Path, report: Report) -> ParityReport:
    report("export", 0.0, f"{path.name}, which takes some seconds")
    metadata: dict[str, Any] = {"env": purpose.env, "env_kwargs": purpose.env_kwargs}
    if purpose.options != EnvOptions():
        metadata["options"] = to_dict(purpose.options)
    parity = export_policy(policy, path, rate_hz=purpose.rate_hz, metadata=metadata)
    report("export", 1.0, path.name)
    return parity


def _evaluate(policy: Policy, purpose: Purpose, report: Report) -> list[Evaluation]:
    evaluation = purpose.evaluation
    groups = evaluation.groups or {"all": {}}
    done = 0

    def on_episode(_: Episode) -> None:
        nonlocal done
        done += 1
        report("evaluate", done / (evaluation.episodes * len(groups) * (1 + evaluation.sampled)), f"{done} episodes")

    if not evaluation.episodes:
        return []
    return evaluate(
        policy,
        purpose.env,
        purpose.env_kwargs,
        purpose.options,
        episodes=evaluation.episodes,
        seed=evaluation.seed,
        groups=groups,
        on_episode=on_episode,
        sampled=evaluation.sampled,
        is_like_demonstration=purpose.beginnings,
        done=DoneRule.at_rate(purpose.rate_hz),
    )
