"""`train`, `tune` and `imitate`: from a config to a run folder with its artifact.

Imports are inside the functions: the command line is also installed where there is no torch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from mcsd_agent import strict
from mcsd_agent.console import Reporter, table
from mcsd_agent.errors import UserError
from mcsd_agent.training.command_arguments import Result, env_kwargs_of, settings_of


def train_command(options: argparse.Namespace) -> Result:
    """Reinforcement learning: a new run, one that goes on, or several seeds."""
    from mcsd_agent.training.run_folder import RunFolder
    from mcsd_agent.training.seeds import SEEDS_KIND, resume_seeds, start_seeds
    from mcsd_agent.training.training_run import check, is_real, train

    for name in ("seeds", "jobs"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} {value} must be at least 1")
    if options.seed is not None and options.seeds is not None:
        raise UserError(
            f"--seed {options.seed} and --seeds {options.seeds} exclude each other; "
            f"--set seed={options.seed} is where several seeds begin"
        )
    options.set = settings_of(options)
    report = Reporter(options.quiet)
    if options.resume:
        run = _run_to_resume(options)
        kind, stored = run.stored_config()
        if kind == SEEDS_KIND:
            if options.config is not None or options.env is not None:
                raise UserError(f"run folder {str(run.path)!r} holds several seeds; leave CONFIG and --env out")
            return _show_seeds(resume_seeds(run, options.set, options.jobs, report))
        if kind != "train" or options.seeds is not None:
            raise UserError(
                f"run folder {str(run.path)!r} holds {'one run' if kind == 'train' else kind}; "
                f"{'leave --seeds out' if kind == 'train' else 'only what train or train --seeds made can be resumed'}"
            )
        config = _train_config(options, stored)
        check(config)
    else:
        config = _train_config(options)
        check(config)
        if options.seeds is not None:
            if options.jobs != 1 and is_real(config):
                raise UserError(f"--seeds {options.seeds}: {config.env!r} is one robot, in real time; add --jobs 1")
            return _show_seeds(start_seeds(options.out, config, options.seeds, options.jobs, report))
        run = RunFolder.create(options.out, "train", config)
    return _finish_run(options, run, report, lambda: train(config, run, report, resume=options.resume))


def _run_to_resume(options: argparse.Namespace) -> Any:
    from mcsd_agent.training.run_folder import RunFolder

    if options.out is None:
        raise UserError("--resume needs --out, the folder of the run to go on with")
    return RunFolder.open(options.out)


def _train_config(options: argparse.Namespace, stored: dict[str, Any] | None = None) -> Any:
    """From CONFIG, from --env, or from the run folder; with --set on top, and the network of `start_from`."""
    from mcsd_agent.training.fine_tuning import with_policy_of

    return with_policy_of(_given_config(options, stored))


def _given_config(options: argparse.Namespace, stored: dict[str, Any] | None) -> Any:
    from mcsd_agent.training.config import TrainConfig, load_config

    if options.config is not None and options.env is not None:
        raise UserError(
            f"CONFIG {str(options.config)!r} and --env {options.env!r} exclude each other; give one of them"
        )
    given = env_kwargs_of(options)
    if options.config is not None:
        return load_config(TrainConfig, options.config, options.set)
    if options.env is not None:
        from mcsd_agent.training.environments import make_env
        from mcsd_agent.training.presets import preset_for

        probe = make_env(options.env, strict.apply_overrides({"env_kwargs": given}, options.set)["env_kwargs"])
        preset = preset_for(options.env, probe.observation_space, probe.action_space, probe.metadata)
        probe.close()
        kwargs = {**preset.get("env_kwargs", {}), **given}
        values = {**preset, "env": options.env, "env_kwargs": kwargs}
        return strict.build(TrainConfig, strict.apply_overrides(values, options.set))
    if stored is None:
        raise UserError("nothing to train: give a CONFIG file or --env ID")
    return strict.build(TrainConfig, strict.apply_overrides(stored, options.set))


def _show_seeds(summary: Result) -> Result:
    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    def interval(name: str) -> str:
        if name not in summary:  # evaluation.episodes is 0
            return "-"
        mean = f"{summary[name]['mean']:.2f}"
        if summary[name]["seeds"] < 2:  # of one value nothing is known but itself
            return mean
        low, high = summary[name]["interval_95"]
        return f"{mean} [{low:.2f}, {high:.2f}]"

    columns = ("seed", "return_mean", "best_mean", "timesteps")
    runs = [[row[c] for c in columns] for row in summary["runs"]]
    rows = [[str(seed), number(last), number(best), str(steps)] for seed, last, best, steps in runs]
    print(table(["seed", "return", "best", "steps"], [*rows, ["mean", interval("return"), interval("best"), ""]]))
    return summary


def tune_command(options: argparse.Namespace) -> Result:
    """A search for hyper-parameters."""
    from mcsd_agent.training.run_folder import RunFolder
    from mcsd_agent.training.training_run import check
    from mcsd_agent.training.tune import TUNE_KIND, tune

    for name in ("trials", "timeout"):
        value = getattr(options, name)
        if value is not None and value <= 0:
            raise UserError(f"--{name} {value} must be above 0")
    options.set = settings_of(options)
    if options.trials is not None:
        options.set = [*options.set, f"tune.trials={options.trials}"]
    if options.resume:
        run = _run_to_resume(options)
        kind, stored = run.stored_config()
        if kind != TUNE_KIND:
            raise UserError(f"run folder {str(run.path)!r} holds {kind}, not a search; give the --out of a tune")
        config = _train_config(options, stored)
        check(config)
        run.write_config(TUNE_KIND, config)
    else:
        config = _train_config(options)
        check(config)
        run = RunFolder.create(options.out, TUNE_KIND, config)
    report = Reporter(options.quiet)
    print(f"run folder: {run.path}", file=sys.stderr)
    try:
        result = tune(config, run, report, timeout_s=options.timeout)
    finally:
        report.close()
    print(table(result["header"], result["rows"]))
    print(
        f"best: {result['best_value']:.2f}, trial {result['best_trial']}; train it: mcsd-agent train {result['config']}"
    )
    return {k: v for k, v in result.items() if k not in ("header", "rows")}


def imitate_command(options: argparse.Namespace) -> Result:
    """Behaviour cloning and DAgger."""
    from mcsd_agent.training.config import ImitateConfig, load_config
    from mcsd_agent.training.run_folder import RunFolder
    from mcsd_agent.training.runs import imitate

    device = [] if options.device is None else [f"device={options.device}"]
    config = load_config(ImitateConfig, options.config, [*settings_of(options), *device])
    run = RunFolder.create(options.out, "imitate", config)
    report = Reporter(options.quiet)
    options.resume = False
    return _finish_run(options, run, report, lambda: imitate(config, run, report))


def _finish_run(options: argparse.Namespace, run: Any, report: Reporter, work: Callable[[], Any]) -> Result:
    from mcsd_agent.training.curves import plot_own_curve

    print(f"run folder: {run.path}", file=sys.stderr)
    try:
        _, evaluations, parity = work()
    except UserError:
        if not options.resume:
            run.discard()
        raise
    finally:
        report.close()
    plot_own_curve(run.path)
    for evaluation in evaluations:
        print(evaluation)
    print(f"artifact: {run.artifact} (deviation from torch at most {parity.max_action_deviation:.1e})")
    return {"run": str(run.path), "artifact": str(run.artifact), "evaluation": [e.to_json() for e in evaluations]}
