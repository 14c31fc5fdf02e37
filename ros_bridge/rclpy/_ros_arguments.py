"""`--ros-args`: remapping, parameters and log levels from a command line, by rcl's rules.

prog --ros-args -r chatter:=/talk -r driver:__ns:=/arm -p rate:=5.0 --params-file p.yaml --log-level debug -- own
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ros_bridge import names, parameter_file
from ros_bridge.rclpy.exceptions import RCLError, UnknownROSArgsError

_BEGIN, _END = "--ros-args", "--"
_REMAP = {"-r", "--remap"}
_PARAMETER = {"-p", "--param"}
_IGNORED_PAIRS = {"-e", "--enclave", "--log-config-file", "--log-file-name"}
_IGNORED_FLAGS = {f"--{verb}-{what}" for verb in ("enable", "disable") for what in ("stdout-logs", "external-lib-logs")}
_LEVELS = {"unset": 0, "debug": 10, "info": 20, "warn": 30, "error": 40, "fatal": 50}
_SCHEMES = {"rostopic://": "topic", "rosservice://": "service"}


@dataclass(frozen=True)
class Remap:
    """One rule: `kind` is node, namespace, topic, service or any (topic and service)."""

    kind: str
    node: str | None
    match: str
    replacement: str


@dataclass
class RosArguments:
    """What the arguments of one program, or of one node, say."""

    remaps: list[Remap] = field(default_factory=list)
    parameters: list[parameter_file.Entry] = field(default_factory=list)
    log_levels: dict[str, int] = field(default_factory=dict)
    rosout: bool = True
    remaining: list[str] = field(default_factory=list)


def parse(arguments: Sequence[str]) -> RosArguments:
    """Raises `RCLError` for a rule that cannot be read, `UnknownROSArgsError` for unknown flags, as rclpy does."""
    found = RosArguments()
    unknown: list[str] = []
    is_ros = False
    rest = iter(arguments)
    for argument in rest:
        if argument == _BEGIN:
            is_ros = True
        elif not is_ros:
            found.remaining.append(argument)
        elif argument == _END:
            is_ros = False
        elif argument in _REMAP:
            found.remaps.append(_remap(argument, _next(rest, f"trailing {argument} flag. No remap rule found.")))
        elif argument in _PARAMETER:
            rule = _next(rest, f"trailing {argument} flag. No parameter override rule found.")
            found.parameters.append(_parameter(argument, rule))
        elif argument == "--params-file":
            path = _next(rest, "trailing --params-file flag. No file path provided.")
            try:
                found.parameters.extend(parameter_file.read_file(path))
            except ValueError as error:
                raise _error(f"params file: '--params-file {path}'. Error: {error}") from None
        elif argument == "--log-level":
            _log_level(found, _next(rest, "trailing log level flag: '--log-level'. No log level provided."))
        elif argument in ("--enable-rosout-logs", "--disable-rosout-logs"):
            found.rosout = argument.startswith("--enable")
        elif argument in _IGNORED_PAIRS:
            _next(rest, f"trailing {argument} flag.")
        elif argument not in _IGNORED_FLAGS:
            unknown.append(argument)
    if unknown:
        raise UnknownROSArgsError(str(unknown))
    return found


def remap_node(sources: Sequence[RosArguments], node_name: str, namespace: str) -> tuple[str, str]:
    """Name and namespace of a node after the rules; `sources` in order of precedence."""
    rule = _first(sources, "node", node_name)
    if rule is not None:
        node_name = rule.replacement
    rule = _first(sources, "namespace", node_name)
    return node_name, namespace if rule is None else rule.replacement


def remap_name(
    sources: Sequence[RosArguments], full_name: str, node_name: str, namespace: str, *, is_service: bool
) -> str:
    """An expanded topic or service name after the first rule that fits."""
    kinds = ("any", "service" if is_service else "topic")
    for source in sources:
        for rule in source.remaps:
            if rule.kind not in kinds or rule.node not in (None, node_name):
                continue
            if names.expand(rule.match, node_name, namespace) == full_name:
                return names.expand(rule.replacement, node_name, namespace)
    return full_name


def overrides(sources: Sequence[RosArguments], full_node_name: str) -> dict[str, Any]:
    """Values by parameter name for one node; later ones win, and `sources` come in order of precedence."""
    values: dict[str, Any] = {}
    for source in reversed(sources):
        # Entries of one pattern are one group, at the place where the pattern came first.
        groups: dict[str, dict[str, Any]] = {}
        for pattern, name, value in source.parameters:
            groups.setdefault(pattern, {})[name] = value
        for pattern, group in groups.items():
            if parameter_file.matches(pattern, full_node_name):
                values.update(group)
    return values


def _first(sources: Sequence[RosArguments], kind: str, node_name: str) -> Remap | None:
    rules = (rule for source in sources for rule in source.remaps)
    return next((rule for rule in rules if rule.kind == kind and rule.node in (None, node_name)), None)


def _next(rest: Any, missing: str) -> str:
    try:
        return str(next(rest))
    except StopIteration:
        raise _error(missing) from None


def _error(text: str) -> RCLError:
    return RCLError(f"failed to initialize rcl: Couldn't parse {text}")


def _remap(flag: str, rule: str) -> Remap:
    match, separator, replacement = rule.partition(":=")
    node, kind = None, "any"
    prefix = re.match(r"([A-Za-z_]\w*):(?!//)", match)
    if prefix is not None:
        node, match = prefix[1], match[prefix.end() :]
    for scheme, scheme_kind in _SCHEMES.items():
        if match.startswith(scheme):
            kind, match = scheme_kind, match.removeprefix(scheme)
    if match in ("__node", "__name"):
        kind, error = "node", names.node_name_error(replacement)
    elif match == "__ns":
        kind, error = "namespace", names.namespace_error(replacement)
    else:
        error = names.topic_name_error(match) or names.topic_name_error(replacement)
    if not separator:
        error = ("there is no ':='", 0)
    if error is not None:
        raise _error(f"remap rule: '{flag} {rule}'. Error: {error[0]}")
    return Remap(kind, node, match, replacement)


def _parameter(flag: str, rule: str) -> parameter_file.Entry:
    fits = re.match(r"(?:([\w/*]+):)?([\w./*]+):=", rule)
    try:
        if fits is None:
            raise ValueError("it must be name:=value or node:name:=value")
        return fits[1] or "/**", fits[2], parameter_file.read_value(rule[fits.end() :])
    except ValueError as error:
        raise _error(f"parameter override rule: '{flag} {rule}'. Error: {error}") from None


def _log_level(found: RosArguments, rule: str) -> None:
    name, separator, level = rule.rpartition(":=")
    if level.lower() not in _LEVELS or (separator and not name):
        raise _error(f"log level: '--log-level {rule}'. Error: Argument does not use a valid severity level")
    found.log_levels[name] = _LEVELS[level.lower()]
