"""What was seen and commanded on a robot, as episodes of ticks: for live recordings and for bags alike.

An `EpisodeRecorder` is told of every message in the order of arrival. When an episode ends it makes ticks of what it
heard:

- Ticks lie on a grid of the robot's rate that follows the commands: a tick moves to the command nearest to it, by at
  most half a period, and the grid by a fifth of that. So a controller at the robot's rate gives one tick per command;
  of several commands in a period one counts, and in between commands the last one goes on.
- The observation of a tick is the newest of everything that arrived before its command.
- Without a command for `watchdog_s` the base stands still, and so the action is zero.
- An episode begins with the first command after its boundary for which every observation is there, and ends with the
  last command.
- A gap, an observation older than its `max_age_s`, ends the episode; what follows, up to the next boundary, is left
  out.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ros_bridge.command_reading import CommandReader
from ros_bridge.robot_config import RobotConfig
from ros_bridge.ros_robot import SpokenText
from ros_bridge.sensors import Mailbox, SensorError, reader, stamp_seconds

#: How much of a tick's shift towards its command stays.
_FOLLOW = 0.2
#: What is kept of an episode that nothing ends.
MAX_EPISODE_S = 600.0


@dataclass(frozen=True)
class DrivenEpisode:
    """`T` ticks: observations by name `(T, *shape)`, texts as lists; `actions` `(T, n)` float32 in the policy's units.

    `success` is None when nobody said. `cut` says why it ended early, "" when it did not.
    """

    observations: dict[str, Any]
    actions: np.ndarray
    instruction: str
    success: bool | None
    cut: str = ""

    def __len__(self) -> int:
        return len(self.actions)


@dataclass(frozen=True)
class _Seen:
    arrival_s: float
    measured_s: float
    value: np.ndarray


@dataclass
class _Take:
    """What arrived during one episode. Each list may begin with what was newest before it."""

    begin_s: float
    seen: dict[str, list[_Seen]]
    words: list[tuple[float, str]]
    commands: list[tuple[float, np.ndarray]] = field(default_factory=list)


class EpisodeRecorder:
    """Messages in, episodes out. Times are seconds of one clock, ascending.

    Args:
        config: the robot.
        on_episode: called with each finished episode that has at least one tick.
        by_instruction: an instruction ends an episode and begins the next; an empty text only ends one.

    `dropped` counts what became no episode or no observation, by reason.
    """

    def __init__(
        self, config: RobotConfig, on_episode: Callable[[DrivenEpisode], None], *, by_instruction: bool
    ) -> None:
        self.config = config
        self.dropped: Counter[str] = Counter()
        self.last_error = ""
        self._on_episode = on_episode
        self._by_instruction = by_instruction
        self._readers = {name: reader(o) for name, o in config.observations.items()}
        self._mailboxes = {name: Mailbox() for name in config.observations}
        self._read_command = CommandReader(config.action)
        self._newest: dict[str, _Seen] = {}
        self._words: tuple[float, str] | None = None
        self._take: _Take | None = None

    @property
    def under_way(self) -> bool:
        """Whether an episode is being recorded."""
        return self._take is not None

    def observe(self, name: str, now: float, message: Any) -> None:
        """A message on the topic of observation `name`."""
        try:
            value = self._readers[name](message)
        except SensorError as error:
            self._reject(f"unreadable {name}", str(error))
            return
        if not np.isfinite(value).all():
            self._reject(f"unreadable {name}", "it holds NaN or infinity")
            return
        self._mailboxes[name].put(value, now, stamp_seconds(message))
        entry = self._mailboxes[name].get()
        assert entry is not None
        self._newest[name] = seen = _Seen(now, entry[1], value)
        if self._take is not None:
            self._take.seen.setdefault(name, []).append(seen)
            self._end_when_too_long(now)

    def command(self, now: float, message: Any) -> None:
        """A command that somebody gave the robot."""
        try:
            action = self._read_command(message)
        except SensorError as error:
            self._reject("unreadable command", str(error))
            return
        if self._take is not None:
            self._take.commands.append((now, action))
            self._end_when_too_long(now)

    def instruct(self, now: float, text: str) -> None:
        """An instruction was given."""
        text = " ".join(text.split())
        if self._by_instruction:
            self.end(now)
        self._words = (now, text)
        if self._by_instruction and text:
            self.begin(now)
        elif self._take is not None:
            self._take.words.append(self._words)

    def begin(self, now: float) -> None:
        """An episode begins; one that is under way ends."""
        self.end(now)
        words = [] if self._words is None else [self._words]
        self._take = _Take(now, {name: [seen] for name, seen in self._newest.items()}, words)

    def end(self, now: float, success: bool | None = None) -> None:
        """The episode ends, if there is one."""
        take, self._take = self._take, None
        if take is None:
            return
        episode, reason = _episode(self.config, take, success)
        if reason:
            self.dropped[reason] += 1
        if episode is not None:
            self._on_episode(episode)

    def _end_when_too_long(self, now: float) -> None:
        if self._take is not None and now - self._take.begin_s > MAX_EPISODE_S:
            self.dropped[f"longer than {MAX_EPISODE_S:g} s"] += 1
            self.end(now)

    def _reject(self, reason: str, error: str) -> None:
        self.dropped[reason] += 1
        self.last_error = error


def tick_times(commands: list[float], period_s: float) -> list[tuple[float, int]]:
    """The ticks for commands at these times, at least one: when, and the index of the command that counts."""
    ticks: list[tuple[float, int]] = []
    grid, i = commands[0], 0
    while i < len(commands):
        after = bisect.bisect(commands, grid, lo=i)
        nearest = min((j for j in (after - 1, after) if i <= j < len(commands)), key=lambda j: abs(commands[j] - grid))
        if abs(commands[nearest] - grid) <= period_s / 2:
            ticks.append((commands[nearest], nearest))
            i = nearest + 1
            grid += _FOLLOW * (commands[nearest] - grid)
        elif commands[i] < grid:  # several in one period: this one came between two ticks
            i += 1
            continue
        else:
            ticks.append((grid, i - 1))
        grid += period_s
    return ticks


def _episode(config: RobotConfig, take: _Take, success: bool | None) -> tuple[DrivenEpisode | None, str]:
    """The episode in a take, if it has a tick, and why something was left out."""
    if not take.commands:
        return None, "no command"
    times = [at for at, _ in take.commands]
    arrivals = {name: [seen.arrival_s for seen in heard] for name, heard in take.seen.items()}
    rows: dict[str, list[Any]] = {name: [] for name in config.observations}
    texts: list[str] = []
    actions: list[np.ndarray] = []
    spoken, words = SpokenText(config.instruction.spoken_ticks if config.instruction else None), list(take.words)
    instruction, cut = "", "nothing was seen before the last command"
    for at, index in tick_times(times, 1.0 / config.rate_hz):
        now: dict[str, np.ndarray] = {}
        problem = ""
        for name, observation in config.observations.items():
            k = bisect.bisect_left(arrivals.get(name, []), at) - 1
            age = math.inf if k < 0 else at - take.seen[name][k].measured_s
            if age > observation.max_age_s:
                problem = f"stale:{name}" if k >= 0 else f"missing:{name}"
                break
            now[name] = take.seen[name][k].value
        if problem:
            cut = problem
            if actions:
                break
            continue
        while words and words[0][0] <= at:
            spoken.hear(words[0][1])
            instruction = instruction if actions else words[0][1]
            words.pop(0)
        for name, value in now.items():
            rows[name].append(value)
        texts.append(spoken.visible() or "")
        spoken.used()
        held = at - times[index]
        actions.append(take.commands[index][1] if held < config.watchdog_s else np.zeros_like(take.commands[index][1]))
    else:
        cut = "" if actions else cut
    if not actions:
        return None, cut
    observations: dict[str, Any] = {name: np.stack(values) for name, values in rows.items()}
    if config.instruction is not None:
        observations[config.instruction.name] = texts
    return DrivenEpisode(observations, np.stack(actions), instruction, None if cut else success, cut), cut
