"""`eval`, `export` and `plot`: what was trained, judged, deployed and drawn."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from mcsd_agent import strict
from mcsd_agent.console import Reporter, table
from mcsd_agent.errors import UserError
from mcsd_agent.training.command_arguments import Result, env_kwargs_of


def eval_command(options: argparse.Namespace) -> Result:
    """A policy on unseen seeds."""
    for name in ("episodes", "video_episodes"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} {getattr(options, name)} must be at least 1")
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
    kwargs = strict.apply_overrides({**(stored.env_kwargs if own else {}), **env_kwargs_of(options)}, options.set)
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


def export_command(options: argparse.Namespace) -> Result:
    """A run's artifact, with what its weights are rounded to."""
    if options.rate_hz is not None and not 0 < options.rate_hz < math.inf:
        raise UserError(f"--rate-hz {options.rate_hz:g} must be above 0 and finite; left out, it is the environment's")
    from mcsd_agent.artifact import export_policy
    from mcsd_agent.strict import to_dict
    from mcsd_agent.training.env_options import EnvOptions
    from mcsd_agent.training.stored_policy import load_stored_policy

    stored = load_stored_policy(options.run)
    rate = stored.rate_hz if options.rate_hz is None else options.rate_hz
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


def plot_command(options: argparse.Namespace) -> Result:
    """Learning curves, or a page from telemetry."""
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
