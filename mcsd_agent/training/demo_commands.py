"""`record` and `replay`: demonstrations to a folder, and as video."""

from __future__ import annotations

import argparse
import sys

from mcsd_agent import strict
from mcsd_agent.console import Reporter
from mcsd_agent.errors import UserError
from mcsd_agent.training.command_arguments import Result
from mcsd_agent.training.robot_commands import record_robot_command


def record_command(options: argparse.Namespace) -> Result:
    """Demonstrations of an expert, of a person, or of a real robot."""
    if options.robot is not None:
        return record_robot_command(options, options.episodes)
    if options.env is None:
        raise UserError("nothing to record: give an environment's id or --robot YAML")
    from mcsd_agent.training.by_hand import BY_HAND, record_by_hand
    from mcsd_agent.training.demos import RecordConfig
    from mcsd_agent.training.recording import record_to

    kwargs = strict.apply_overrides({}, options.set)
    config = RecordConfig(
        options.env,
        kwargs,
        options.expert,
        1000 if options.episodes is None else options.episodes,
        noise=options.noise,
        tries=options.tries,
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


def replay_command(options: argparse.Namespace) -> Result:
    """Demonstrations done again, filmed."""
    from mcsd_agent.training.replay import film

    if options.first < 0 or options.episodes < 1:
        raise UserError(f"--first {options.first} and --episodes {options.episodes} must be at least 0 and 1")
    frames, strayed = film(options.demonstrations, options.video, first=options.first, episodes=options.episodes)
    if strayed:
        print(f"{strayed} episodes went otherwise than recorded: the environment is not the same", file=sys.stderr)
    print(f"video: {options.video}, {frames} frames")
    return {"video": str(options.video), "frames": frames, "strayed": strayed}
