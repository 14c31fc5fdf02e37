"""The commands that record real robots and convert bags: `record --robot` and `convert`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mcsd_agent.errors import UserError

_BAG_SUFFIXES = (".mcap", ".db3")


def add_record_arguments(sub: argparse.ArgumentParser) -> None:
    """What `record` takes for a robot in place of an environment."""
    sub.add_argument("--robot", type=Path, metavar="YAML", help="record a real robot that somebody else drives")
    sub.add_argument("--url", help="its rosbridge server (default: MCSD_ROSBRIDGE_URL, else ws://localhost:9090)")
    sub.add_argument("--native", action="store_true", help="use native rclpy instead of rosbridge")
    sub.add_argument(
        "--by",
        choices=("instruction", "service"),
        help="what begins and ends the robot's episodes: instructions (default where it has some), or /recorder/begin "
        "and /recorder/end alone",
    )
    sub.add_argument("--seconds", type=float, help="end the robot's recording after this long")


def add_convert_arguments(sub: argparse.ArgumentParser) -> None:
    """What `convert` takes."""
    sub.add_argument("source", type=Path, metavar="BAG|DEMOS", help="rosbag2 folder, .mcap or .db3; or demonstrations")
    sub.add_argument("--robot", type=Path, required=True, metavar="YAML", help="which topics are which observations")
    sub.add_argument("--out", type=Path, required=True, help="demonstrations of a bag, or a bag of demonstrations")
    sub.add_argument(
        "--by",
        choices=("marks", "instruction", "whole"),
        help="what begins and ends a bag's episodes (default: the first of these that the bag has)",
    )
    sub.add_argument("--storage", choices=("mcap", "sqlite3"), default="mcap", help="of a bag that is written")


def record_robot_command(options: argparse.Namespace, episodes: int | None) -> dict[str, Any]:
    """`record --robot`."""
    from mcsd_agent.training.robot_demos import record_robot

    if options.env is not None:
        raise UserError(f"ENV {options.env!r} and --robot {str(options.robot)!r} exclude each other; give one of them")
    for name, value in (("episodes", episodes), ("seconds", options.seconds)):
        if value is not None and value <= 0:
            raise UserError(f"--{name} {value} must be above 0")

    def told(count: int, episode: Any) -> None:
        if not options.quiet:
            cut = f", ended by a gap ({episode.cut})" if episode.cut else ""
            print(f"episode {count}: {len(episode)} steps, {episode.instruction!r}{cut}", file=sys.stderr)

    if not options.quiet:
        print(f"recording what {options.robot} does, until Ctrl-C", file=sys.stderr)
    recording = record_robot(
        options.robot,
        options.out,
        url=options.url,
        native=options.native,
        by_instruction=None if options.by is None else options.by == "instruction",
        limit=episodes,
        seconds=options.seconds,
        on_episode=told,
    )
    print(f"{recording}: {options.out}")
    return {"out": str(options.out), **recording.to_json()}


def convert_command(options: argparse.Namespace) -> dict[str, Any]:
    """`convert`."""
    from mcsd_agent.training.robot_demos import bag_from_demonstrations, demonstrations_from_bag

    source: Path = options.source
    if not source.exists():
        raise UserError(f"{str(source)!r} does not exist; give a bag or demonstrations")
    is_bag = source.suffix in _BAG_SUFFIXES or (source / "metadata.yaml").is_file()
    is_bag = is_bag or any(path.suffix in _BAG_SUFFIXES for path in (source.iterdir() if source.is_dir() else ()))
    if is_bag:
        recording = demonstrations_from_bag(source, options.robot, options.out, options.by)
    else:
        recording = bag_from_demonstrations(source, options.robot, options.out, options.storage)
    print(f"{recording}: {options.out}")
    return {"out": str(options.out), "to": "demonstrations" if is_bag else "bag", **recording.to_json()}
