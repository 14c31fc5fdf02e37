"""The commands of `mcsd-agent` that train, judge and export: what they take and what they do.

Imports are inside the functions: the command line is also installed where there is no torch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from mcsd_agent import strict
from mcsd_agent.console import Reporter, table
from mcsd_agent.errors import UserError
from mcsd_agent.training.robot_commands import (
    add_convert_arguments,
    add_record_arguments,
    convert_command,
    record_robot_command,
)

#: What a command returns; printed as one JSON object with `--json`.
Result = dict[str, Any]


class AddCommand(Protocol):
    """Makes the parser of one command: its name, what does it, what it is for, an example."""

    def __call__(
        self, name: str, function: Callable[[argparse.Namespace], Result], text: str, example: str
    ) -> argparse.ArgumentParser: ...


def add_commands(command: AddCommand) -> None:
    """Add `train`, `tune`, `imitate`, `record`, `replay`, `convert`, `eval`, `export` and `plot`."""
    sub = command("train", _train, "Reinforcement learning.", "train configs/cartpole_novel.yaml --set seed=1")
    _add_task(sub)
    sub.add_argument("--out", type=Path, help="run folder (default: runs/train-TIME)")
    sub.add_argument(
        "--resume", action="store_true", help="go on with the run in --out, where it was killed; CONFIG may be left out"
    )
    sub.add_argument(
        "--seeds", type=int, metavar="N", help="N runs, with seeds from the config's on, each in --out/seed-K"
    )
    sub.add_argument("--jobs", type=int, help="runs at a time with --seeds (default: as many as there are processors)")
    _add_set(sub, "a config value")

    sub = command("tune", _tune, "Search for hyper-parameters.", "tune --env CartPole-v1 --trials 30 --timeout 3600")
    _add_task(sub)
    sub.add_argument("--trials", type=int, help="trials in all (default: tune.trials)")
    sub.add_argument("--timeout", type=float, metavar="SECONDS", help="begin no trial after this long")
    sub.add_argument("--out", type=Path, help="folder of the search (default: runs/tune-TIME)")
    sub.add_argument("--resume", action="store_true", help="go on with the search in --out; CONFIG may be left out")
    _add_set(sub, "a config value")

    sub = command(
        "imitate",
        _imitate,
        "Behaviour cloning and DAgger from an expert.",
        "imitate configs/nav/demo.yaml --out runs/nav",
    )
    sub.add_argument("config", type=Path)
    sub.add_argument("--out", type=Path, help="run folder (default: runs/imitate-TIME)")
    sub.add_argument("--device", choices=("cpu", "cuda", "auto"), help="where the network learns (default: device)")
    _add_set(sub, "a config value")

    sub = command(
        "record",
        _record,
        "Demonstrations of an expert, of a person, or of a real robot.",
        "record mcsd/Nav-v0 --expert scripted --episodes 500 --out demos/nav\n"
        "         mcsd-agent record BabyAI-GoToLocal-v0 --expert keyboard --out demos/mine\n"
        "         mcsd-agent record --robot configs/robots/diffdrive.yaml --url ws://robot:9090 --out demos/robot",
    )
    sub.add_argument("env", nargs="?", help="environment id; or give --robot")
    sub.add_argument(
        "--expert",
        default="scripted",
        help="scripted (default), babyai-bot for BabyAI's levels, metaworld for Meta-World's tasks, or a person's "
        "keyboard or gamepad",
    )
    sub.add_argument("--keys", type=Path, metavar="YAML", help="what a person's keys, buttons and axes do")
    sub.add_argument(
        "--episodes", type=int, help="how many (default: 1000; of a person, until Escape; of a robot, until Ctrl-C)"
    )
    sub.add_argument("--out", type=Path, required=True)
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--processes", type=int, default=2)
    sub.add_argument("--no-noise", dest="noise", action="store_false", help="do not disturb the expert")
    _add_set(sub, "an argument of the environment")
    add_record_arguments(sub)

    sub = command(
        "replay",
        _replay,
        "Demonstrations, done again in their environment, as video.",
        "replay demos/nav --video nav.mp4",
    )
    sub.add_argument("demonstrations", type=Path, metavar="DEMOS")
    sub.add_argument("--video", type=Path, required=True, metavar="FILE.mp4")
    sub.add_argument("--first", type=int, default=0, help="number of the first episode (default: 0)")
    sub.add_argument("--episodes", type=int, default=3, help="how many (default: 3)")

    sub = command(
        "convert",
        convert_command,
        "Bags of a robot to demonstrations, and back.",
        "convert drive.mcap --robot configs/robots/diffdrive.yaml --out demos/drive",
    )
    add_convert_arguments(sub)

    sub = command(
        "eval", _eval, "Success, return and length on unseen seeds.", "eval runs/nav --episodes 200 --video nav.mp4"
    )
    sub.add_argument("policy", type=Path, metavar="RUN|ARTIFACT")
    sub.add_argument("--episodes", type=int, default=200)
    sub.add_argument("--seed", type=int, default=1_000_000, help="first seed")
    sub.add_argument("--env", help="another environment than the one it was trained in")
    _add_env_kwargs(sub)
    sub.add_argument("--video", type=Path, metavar="FILE.mp4")
    sub.add_argument("--video-episodes", type=int, default=3)
    _add_set(sub, "an argument of the environment")

    sub = command(
        "export", _export, "Write the deployable artifact, with a parity check.", "export runs/nav --out nav.mcsd"
    )
    sub.add_argument("run", type=Path, metavar="RUN")
    sub.add_argument("--out", type=Path, required=True, metavar="FILE.mcsd")
    sub.add_argument("--rate-hz", type=float, help="control rate (default: the environment's)")
    sub.add_argument(
        "--weights", default="float32", metavar="TYPE", help="float32 (default), float16, bfloat16, or int8: rounded"
    )
    sub.add_argument("--pt2", type=Path, metavar="FILE.pt2", help="also write the step as a program of torch.export")

    sub = command(
        "plot", _plot, "Learning curves of runs, or a page from telemetry.", "plot runs/a runs/b --out curves.png"
    )
    sub.add_argument("what", type=Path, nargs="+", metavar="RUN|TELEMETRY")
    sub.add_argument("--out", type=Path, help="picture; for telemetry, NAME.jsonl or NAME.mcap, also a folder")
    sub.add_argument("--y", metavar="COLUMN", help="column of metrics.csv to draw, such as eval/return_mean")


def _add_task(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("config", type=Path, nargs="?", help="YAML file; or give --env")
    sub.add_argument("--env", metavar="ID", help="any Gymnasium environment, with settings that suit it")
    _add_env_kwargs(sub)


def _add_env_kwargs(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--env-kwargs", type=Path, metavar="FILE.yaml", help="arguments of the --env; --set changes them")


def _env_kwargs(options: argparse.Namespace) -> dict[str, Any]:
    """What is in the file; `UserError` where it belongs to no environment."""
    if options.env_kwargs is None:
        return {}
    if options.env is None:
        raise UserError(f"--env-kwargs {str(options.env_kwargs)!r} needs --env, whose arguments they are")
    return strict.load_yaml(options.env_kwargs)


def _add_set(sub: argparse.ArgumentParser, of: str) -> None:
    sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=f"change {of}; repeatable")


# --------------------------------------------------------------------------------- reinforcement learning


def _train(options: argparse.Namespace) -> Result:
    from mcsd_agent.training.run_folder import RunFolder
    from mcsd_agent.training.seeds import SEEDS_KIND, resume_seeds, start_seeds
    from mcsd_agent.training.training_run import check, is_real, train

    for name in ("seeds", "jobs"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} {value} must be at least 1")
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
    given = _env_kwargs(options)
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
        low, high = summary[name]["interval_95"]
        return f"{summary[name]['mean']:.2f} [{low:.2f}, {high:.2f}]"

    columns = ("seed", "return_mean", "best_mean", "timesteps")
    runs = [[row[c] for c in columns] for row in summary["runs"]]
    rows = [[str(seed), number(last), number(best), str(steps)] for seed, last, best, steps in runs]
    print(table(["seed", "return", "best", "steps"], [*rows, ["mean", interval("return"), interval("best"), ""]]))
    return summary


def _tune(options: argparse.Namespace) -> Result:
    from mcsd_agent.training.run_folder import RunFolder
    from mcsd_agent.training.training_run import check
    from mcsd_agent.training.tune import TUNE_KIND, tune

    for name in ("trials", "timeout"):
        value = getattr(options, name)
        if value is not None and value <= 0:
            raise UserError(f"--{name} {value} must be above 0")
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


# ---------------------------------------------------------------------------------------------- imitation


def _imitate(options: argparse.Namespace) -> Result:
    from mcsd_agent.training.config import ImitateConfig, load_config
    from mcsd_agent.training.run_folder import RunFolder
    from mcsd_agent.training.runs import imitate

    device = [] if options.device is None else [f"device={options.device}"]
    config = load_config(ImitateConfig, options.config, [*options.set, *device])
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


def _record(options: argparse.Namespace) -> Result:
    if options.robot is not None:
        return record_robot_command(options, options.episodes)
    if options.env is None:
        raise UserError("nothing to record: give an environment's id or --robot YAML")
    from mcsd_agent.training.by_hand import BY_HAND, record_by_hand
    from mcsd_agent.training.demos import RecordConfig
    from mcsd_agent.training.record_command import record_to

    kwargs = strict.apply_overrides({}, options.set)
    config = RecordConfig(
        options.env,
        kwargs,
        options.expert,
        1000 if options.episodes is None else options.episodes,
        noise=options.noise,
        processes=options.processes,
    )
    report = Reporter(options.quiet)
    try:
        if options.expert in BY_HAND:
            recorded = record_by_hand(
                options.out,
                config,
                options.seed,
                keys=options.keys,
                limit=options.episodes,
                tell=lambda text: report("note", -1.0, text),
            )
        elif options.keys is not None:
            raise UserError(f"--keys {str(options.keys)!r} is for --expert {' or '.join(BY_HAND)}; leave it out")
        else:
            recorded = record_to(options.out, config, options.seed, report)
    finally:
        report.close()
    print(f"{recorded}: {options.out}")
    return {"out": str(options.out), **recorded.to_json()}


def _replay(options: argparse.Namespace) -> Result:
    from mcsd_agent.training.replay import film

    if options.first < 0 or options.episodes < 1:
        raise UserError(f"--first {options.first} and --episodes {options.episodes} must be at least 0 and 1")
    frames, strayed = film(options.demonstrations, options.video, first=options.first, episodes=options.episodes)
    if strayed:
        print(f"{strayed} episodes went otherwise than recorded: the environment is not the same", file=sys.stderr)
    print(f"video: {options.video}, {frames} frames")
    return {"video": str(options.video), "frames": frames, "strayed": strayed}


# ----------------------------------------------------------------------------------------- trained policies


def _eval(options: argparse.Namespace) -> Result:
    import torch

    from mcsd_agent.training.env_options import EnvOptions
    from mcsd_agent.training.environments import make_env
    from mcsd_agent.training.evaluation import evaluate
    from mcsd_agent.training.policy_fit import check_policy_fits
    from mcsd_agent.training.stored_policy import load_stored_policy
    from mcsd_agent.training.success_scores import DoneRule

    torch.set_num_threads(1)
    stored = load_stored_policy(options.policy)
    env_id = options.env or stored.env_id
    if env_id is None:
        raise UserError(f"{str(options.policy)!r} does not say for which environment it is; give --env")
    own = env_id == stored.env_id
    kwargs = strict.apply_overrides({**(stored.env_kwargs if own else {}), **_env_kwargs(options)}, options.set)
    seen = EnvOptions(previous_action=stored.options.previous_action, previous_reward=stored.options.previous_reward)
    changes = stored.options if own else seen
    probe = make_env(env_id, kwargs, changes)
    probe.close()
    check_policy_fits(stored.policy, probe, stored.rate_hz)
    report, done = Reporter(options.quiet), 0

    def on_episode(_: Any) -> None:
        nonlocal done
        done += 1
        report("evaluate", done / options.episodes, f"{done} of {options.episodes} episodes")

    evaluations = evaluate(
        stored.policy,
        env_id,
        kwargs,
        changes,
        episodes=options.episodes,
        seed=options.seed,
        on_episode=on_episode,
        done=DoneRule.at_rate(stored.rate_hz),
    )
    report.close()
    for evaluation in evaluations:
        print(evaluation)
    if options.video is not None:
        from mcsd_agent.training.video import record_video

        frames = record_video(
            stored.policy, env_id, kwargs, options.video, options.seed, options.video_episodes, changes
        )
        print(f"video: {options.video}, {frames} frames")
    return evaluations[0].to_json()


def _export(options: argparse.Namespace) -> Result:
    from mcsd_agent.artifact import export_policy
    from mcsd_agent.strict import to_dict
    from mcsd_agent.training.env_options import EnvOptions
    from mcsd_agent.training.stored_policy import load_stored_policy

    stored = load_stored_policy(options.run)
    rate = options.rate_hz or stored.rate_hz
    if rate is None:
        raise UserError(f"{str(options.run)!r} states no control rate; give --rate-hz")
    metadata = {"env": stored.env_id, "env_kwargs": stored.env_kwargs}
    if stored.options != EnvOptions():
        metadata["options"] = to_dict(stored.options)
    report = export_policy(stored.policy, options.out, rate_hz=rate, metadata=metadata, weights=options.weights)
    print(
        f"{options.out}: {options.out.stat().st_size} bytes, {report.observations} observations compared, deviation "
        f"from torch at most {report.max_action_deviation:.1e} (actions), {report.max_state_deviation:.1e} (states)"
    )
    if options.weights != "float32":
        print(
            f"rounding to {options.weights} changed actions by at most {report.rounding_max_action_deviation:.1e}, "
            f"{report.rounding_mean_action_deviation:.1e} in the mean, and states by "
            f"{report.rounding_max_state_deviation:.1e}, {report.rounding_mean_state_deviation:.1e} in the mean"
        )
    result = {"artifact": str(options.out), "weights": options.weights, **vars(report)}
    if options.pt2 is not None:
        from mcsd_agent.export.pt2 import export_pt2

        export_pt2(stored.policy, options.pt2)
        print(options.pt2)
        result["pt2"] = str(options.pt2)
    return result


def _plot(options: argparse.Namespace) -> Result:
    if all(path.suffix in (".jsonl", ".mcap") for path in options.what):
        from mcsd_agent.runtime.telemetry_plot import plot_page, plot_telemetry

        if len(options.what) > 1:
            raise UserError(f"{len(options.what)} telemetry files; plot them one at a time")
        log = options.what[0]
        out = options.out or log.with_name(f"{log.stem}-plots")
        out = plot_telemetry(log, out) if out.suffix == ".png" else plot_page(log, out)
        print(out)
        return {"plot": str(out)}
    from mcsd_agent.training.curves import plot_runs

    out = options.out or Path("curves.png")
    curves = plot_runs(options.what, out, options.y)
    if len(curves) > 1 or curves[0].runs > 1:
        rows = [[c.label, str(c.runs), f"{c.x[-1]:g}", c.final_text] for c in curves]
        print(table(["curve", "runs", curves[0].x_name, curves[0].y_name], rows))
    print(out)
    return {"plot": str(out), "curves": [c.to_json() for c in curves]}
