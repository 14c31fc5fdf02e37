"""Bags to episodes of a robot, and episodes to bags.

Beside the robot's own topics there may be one that marks episodes: `/episode`, a std_msgs/String that reads `begin`,
`success`, `failure` or `end`. The live recorder publishes it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mcsd_agent.errors import UserError
from ros_bridge.bag import BagReader, BagWriter, Storage, interface_folders
from ros_bridge.commands import CommandMaker
from ros_bridge.message_writing import TopicWriter
from ros_bridge.messages import load, register_files
from ros_bridge.recording import DrivenEpisode, EpisodeRecorder
from ros_bridge.robot_config import RobotConfig
from ros_bridge.ros_robot import SpokenText

EPISODE_TOPIC = "/episode"
ENDINGS = {"success": True, "failure": False, "end": None}
#: What begins and ends an episode.
Boundary = Literal["marks", "instruction", "whole"]
_STRING = "std_msgs/msg/String"
_BEGIN_NS = 10**18  # September 2001: a bag of the same demonstrations is the same bag
_PAUSE_S = 2.0


def read_bag(
    path: Path, config: RobotConfig, on_episode: Callable[[DrivenEpisode], None], boundary: Boundary | None = None
) -> Counter[str]:
    """Hand over the episodes of a bag as they end; returns what was left out, by reason.

    `boundary` None takes marks where the bag has some, else instructions where it has some, else the whole bag as one
    episode. Raises `UserError` for a bag that cannot be used.
    """
    by_topic: defaultdict[str, list[str]] = defaultdict(list)
    for name, observation in config.observations.items():
        by_topic[observation.topic].append(name)
    wanted = {o.topic: o.message_type for o in config.observations.values()}
    wanted[config.action.topic] = config.action.message
    words = config.instruction.topic if config.instruction is not None else None
    optional = dict.fromkeys([EPISODE_TOPIC, *([words] if words else [])], _STRING)
    with BagReader(path, wanted, optional, config.interfaces) as bag:
        if boundary is None:
            boundary = "marks" if EPISODE_TOPIC in bag.topics else "instruction" if words in bag.topics else "whole"
        needed = {"marks": EPISODE_TOPIC, "instruction": words}.get(boundary)
        if boundary != "whole" and needed not in bag.topics:
            raise UserError(f"bag {str(path)!r} has no {boundary} on {needed or 'any topic'}; choose another boundary")
        recorder = EpisodeRecorder(config, on_episode, by_instruction=boundary == "instruction")
        at = 0.0
        for at, topic, message in bag:
            if boundary == "whole" and not recorder.under_way:
                recorder.begin(at)
            for name in by_topic.get(topic, ()):
                recorder.observe(name, at, message)
            if topic == config.action.topic:
                recorder.command(at, message)
            elif topic == words:
                recorder.instruct(at, message.data)
            elif topic == EPISODE_TOPIC and boundary == "marks":
                if message.data == "begin":
                    recorder.begin(at)
                else:
                    recorder.end(at, ENDINGS.get(message.data))
        recorder.end(at)
    if recorder.last_error:
        recorder.dropped[f"the last unreadable message: {recorder.last_error}"] += 1
    return recorder.dropped


def write_bag(path: Path, config: RobotConfig, episodes: Iterable[DrivenEpisode], storage: Storage = "mcap") -> int:
    """Write a bag that `read_bag` reads as the same observations and actions; returns the number of messages.

    Sensors speak a tenth of a period before the command that they lead to. Raises `UserError` for what the robot's
    topics cannot carry.
    """
    for folder in interface_folders(config.interfaces):
        register_files(folder)
    groups: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for name, observation in config.observations.items():
        groups[observation.topic][name] = observation
    writers = [TopicWriter(group) for group in groups.values()]
    period_ns = round(1e9 / config.rate_hz)
    count, base = 0, _BEGIN_NS
    with BagWriter(path, storage, config.interfaces) as bag:

        def add(topic: str, at_ns: int, message: Any) -> None:
            nonlocal count
            bag.add(topic, at_ns, message)
            count += 1

        for index, episode in enumerate(episodes):
            _check(index, episode, config)
            commands = CommandMaker(config.action, load)
            add(EPISODE_TOPIC, base, load(_STRING)(data="begin"))
            text = None
            for k in range(len(episode)):
                at = base + (k + 1) * period_ns
                said = None if config.instruction is None else episode.observations[config.instruction.name][k]
                if config.instruction is not None and said != text and (said or text is None):
                    add(config.instruction.topic, at - period_ns // 5, load(_STRING)(data=said))
                text = said
                measured = at - period_ns // 10
                stamp = load("builtin_interfaces/msg/Time")(sec=measured // 10**9, nanosec=measured % 10**9)
                values = {name: episode.observations[name][k] for name in config.observations}
                for writer in writers:
                    add(writer.topic, measured, writer.message(values, stamp))
                add(config.action.topic, at, commands.message(commands.values(episode.actions[k], None)))
            ending = next(word for word, success in ENDINGS.items() if success is episode.success)
            base += (len(episode) + 1) * period_ns
            add(EPISODE_TOPIC, base, load(_STRING)(data=ending))
            base += round(_PAUSE_S * 1e9)
    return count


def _check(index: int, episode: DrivenEpisode, config: RobotConfig) -> None:
    """`UserError` for an episode that the robot's topics would tell otherwise."""
    for name, observation in config.observations.items():
        shape = np.shape(episode.observations.get(name, ()))[1:]
        if name not in episode.observations or shape != observation.source.shape:
            what = f"has it of shape {shape}" if name in episode.observations else "has none"
            raise UserError(
                f"observation {name!r} of robot {config.name!r} has shape {observation.source.shape}; "
                f"episode {index} {what}"
            )
    if episode.actions.shape[1:] != (len(config.action.fields),):
        raise UserError(
            f"robot {config.name!r} takes {len(config.action.fields)} numbers as an action; "
            f"episode {index} has actions of shape {episode.actions.shape[1:]}"
        )
    commands = CommandMaker(config.action, load)
    sent = np.stack([commands.action_of(commands.values(action, None)) for action in episode.actions])
    if not np.allclose(sent, episode.actions, rtol=1e-6, atol=1e-6):
        k = int(np.abs(sent - episode.actions).max(axis=1).argmax())
        raise UserError(
            f"episode {index} does {episode.actions[k].tolist()} at step {k}, beyond what robot {config.name!r} takes"
        )
    if config.instruction is not None:
        _check_words(index, episode.observations.get(config.instruction.name), config)


def _check_words(index: int, texts: list[str] | None, config: RobotConfig) -> None:
    assert config.instruction is not None
    if texts is None:
        raise UserError(f"episode {index} has no {config.instruction.name!r}, which robot {config.name!r} has")
    spoken, before = SpokenText(config.instruction.spoken_ticks), None
    for k, text in enumerate(texts):
        if text != before and (text or before is None):
            spoken.hear(text)
        if spoken.visible() != text:
            raise UserError(
                f"episode {index} shows the instruction {text!r} at step {k}, where robot {config.name!r} would show "
                f"{spoken.visible()!r}; set instruction.spoken_ticks to what the demonstrations have"
            )
        spoken.used()
        before = text
