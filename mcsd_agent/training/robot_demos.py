"""Demonstrations of a real robot: recorded live, or converted from and to bags.

The data set says that its environment is `mcsd/Ros-v0` with the robot's YAML, so that `imitate` finds the spaces there.
Nothing is connected for that.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.training.demos import load_demonstrations, save_demonstrations
from mcsd_agent.training.episodes import Episode
from ros_bridge.bag import Storage
from ros_bridge.bag_episodes import Boundary, read_bag, write_bag
from ros_bridge.recording import DrivenEpisode
from ros_bridge.robot_config import load_robot

ENV = "mcsd/Ros-v0"


@dataclass(frozen=True)
class RobotRecording:
    """What a recording came to; `left_out` counts by reason what became no episode, or no observation."""

    episodes: int
    steps: int
    left_out: dict[str, int]

    def __str__(self) -> str:
        reasons = "".join(f"; {n} x {why}" for why, n in self.left_out.items())
        return f"{self.episodes} episodes, {self.steps} steps{reasons}"

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {"episodes": self.episodes, "steps": self.steps, "left_out": self.left_out}


def record_robot(
    robot: Path,
    out: Path,
    *,
    url: str | None = None,
    native: bool = False,
    by_instruction: bool | None = None,
    limit: int | None = None,
    seconds: float | None = None,
    on_episode: Callable[[int, DrivenEpisode], None] = lambda count, episode: None,
) -> RobotRecording:
    """Record until Ctrl-C, SIGTERM, `limit` episodes or `seconds`, while somebody else drives.

    `by_instruction` None: where the robot has an instruction topic. Raises `UserError` for a robot that cannot be
    reached, a folder that exists, and when there was no episode.
    """
    config = load_robot(robot)
    _must_be_new(out)
    if native:
        from ros_bridge.ros_process import import_native

        import_native()
    from ros_bridge.recorder import LiveRecorder

    if by_instruction is None:
        by_instruction = config.instruction is not None
    elif by_instruction and config.instruction is None:
        raise UserError(f"robot {config.name!r} has no instruction topic; use --by service and /recorder/begin")
    recorder = LiveRecorder(config, url=url, native=native, by_instruction=by_instruction)
    try:
        with _stop_event() as stop:

            def episodes() -> Iterator[Episode]:
                count = 0
                for count, driven in enumerate(recorder.episodes(stop, limit, seconds), 1):
                    on_episode(count, driven)
                    yield _episode(count - 1, driven)
                if not count:
                    silent = f"nothing on {', '.join(recorder.silent)}" if recorder.silent else ""
                    raise UserError(f"no episode was recorded: {_reasons(recorder.dropped, silent)}")

            count, steps = save_demonstrations(episodes(), out, ENV, {"robot": str(robot)}, "on the robot")
    finally:
        recorder.close()
    return RobotRecording(count, steps, dict(recorder.dropped.most_common()))


def demonstrations_from_bag(bag: Path, robot: Path, out: Path, boundary: Boundary | None = None) -> RobotRecording:
    """Convert a bag; `UserError` for one that cannot be read, or holds no episode of this robot."""
    config = load_robot(robot)
    _must_be_new(out)
    driven: list[DrivenEpisode] = []
    dropped = read_bag(bag, config, driven.append, boundary)
    if not driven:
        raise UserError(f"bag {str(bag)!r} holds no episode: {_reasons(dropped, '')}")
    episodes = (_episode(i, e) for i, e in enumerate(driven))
    count, steps = save_demonstrations(episodes, out, ENV, {"robot": str(robot)}, "on the robot")
    return RobotRecording(count, steps, dict(dropped.most_common()))


def bag_from_demonstrations(demonstrations: Path, robot: Path, out: Path, storage: Storage = "mcap") -> RobotRecording:
    """Convert demonstrations, of a robot or of an environment that is like it.

    What the expert meant where it was disturbed has no topic, and neither have rewards. Raises `UserError` for
    demonstrations that the robot's topics cannot carry.
    """
    config = load_robot(robot)
    _must_be_new(out)
    episodes = load_demonstrations(demonstrations)
    lost = sum(e.labels is not None and not np.array_equal(e.labels, e.actions) for e in episodes)
    try:
        write_bag(out, config, map(_driven, episodes), storage)
    except UserError as error:
        raise UserError(f"demonstrations {str(demonstrations)!r}: {error}") from None
    left_out = {"what the expert meant, where it was disturbed": lost} if lost else {}
    return RobotRecording(len(episodes), sum(map(len, episodes)), left_out)


def _episode(index: int, driven: DrivenEpisode) -> Episode:
    return Episode(
        index,
        driven.observations,
        driven.actions,
        driven.actions,
        np.zeros(len(driven), np.float32),
        driven.success is True,
        driven.success,
        driven.instruction,
        driven.cut,
    )


def _driven(episode: Episode) -> DrivenEpisode:
    observations = {k: list(v) if _is_text(v) else np.asarray(v) for k, v in episode.observations.items()}
    return DrivenEpisode(observations, np.asarray(episode.actions, np.float32), episode.instruction, episode.success)


def _is_text(values: Any) -> bool:
    return len(values) > 0 and isinstance(values[0], str)


def _must_be_new(out: Path) -> None:
    if out.exists():
        raise UserError(f"{str(out)!r} exists already; choose another --out or delete it")


def _reasons(dropped: Counter[str], more: str) -> str:
    reasons = [f"{n} x {why}" for why, n in dropped.most_common()]
    return "; ".join([*reasons, *([more] if more else [])]) or "nobody began one"


@contextlib.contextmanager
def _stop_event() -> Iterator[threading.Event]:
    """Set by Ctrl-C, SIGTERM or a closed terminal, so that what was recorded is still written."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
