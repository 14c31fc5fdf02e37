"""ROS parameter files and `-p` values, read by the rules of rcl's own YAML parser.

    /**:
      ros__parameters: {rate: 10.0}
    /arm/driver:
      ros__parameters: {limits: {speed: 2.5}}     # the parameter `limits.speed`

rcl's rules differ from YAML's: only plain scalars are converted, `010` is octal, `1_000` and `~` are text,
lists hold one type, node names nest and may hold the wildcards `*` (one word) and `**` (any number).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

Entry = tuple[str, str, Any]

_BOOLS = {word: True for word in ("y", "yes", "true", "on")} | {word: False for word in ("n", "no", "false", "off")}
_INTEGER = re.compile(r"[+-]?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_SPECIAL = {".nan": "nan", ".inf": "inf", "+.inf": "inf", "-.inf": "-inf"}
_KEY = "ros__parameters"


def read_file(path: str | Path) -> list[Entry]:
    """`(node pattern, parameter name, value)` in the file's order; `ValueError` names what is wrong."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"Error opening YAML file: {error.strerror}") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ValueError(f"Error parsing the YAML file: {' '.join(str(error).split())}") from None
    entries: list[Entry] = []
    if root is not None:
        _nodes(root, "", entries)
    return entries


def read_value(text: str) -> Any:
    """The value in `-p name:=text`."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ValueError(f"Error parsing the value {text!r}: {' '.join(str(error).split())}") from None
    if node is None or isinstance(node, yaml.MappingNode):
        raise ValueError(f"no single value or list: {text!r}")
    return _value(node)


def matches(pattern: str, node_name: str) -> bool:
    """Whether the pattern of a parameter file names the node `/namespace/name`."""
    if not pattern.startswith("/"):
        pattern = "/" + pattern
    expression = ""
    for word in pattern.strip("/").split("/"):
        if word == "**":
            expression += r"(/\w+)*"
        elif word == "*":
            expression += r"/\w+"
        else:
            expression += "/" + re.escape(word)
    return re.fullmatch(expression, node_name) is not None


def _nodes(node: yaml.Node, prefix: str, entries: list[Entry]) -> None:
    if not isinstance(node, yaml.MappingNode):
        raise ValueError(f"Cannot have a value before {_KEY} at line {node.start_mark.line + 1}")
    for key, value in node.value:
        if key.value == _KEY:
            if not prefix:
                raise ValueError(f"{_KEY} needs a node name above it, at line {key.start_mark.line + 1}")
            _parameters(value, prefix, "", entries)
        else:
            _nodes(value, f"{prefix.rstrip('/')}/{key.value.lstrip('/')}" if prefix else key.value, entries)


def _parameters(node: yaml.Node, pattern: str, prefix: str, entries: list[Entry]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            _parameters(value, pattern, f"{prefix}.{key.value}" if prefix else key.value, entries)
    elif prefix:
        entries.append((pattern, prefix, _value(node)))
    elif not (isinstance(node, yaml.ScalarNode) and not node.value):
        raise ValueError(f"{_KEY} must hold parameters, at line {node.start_mark.line + 1}")


def _value(node: yaml.Node) -> Any:
    if isinstance(node, yaml.SequenceNode):
        values = [_value(item) for item in node.value]
        if any(isinstance(value, list) for value in values) or len({type(value) for value in values}) > 1:
            raise ValueError(f"Sequence should be of same type, at line {node.start_mark.line + 1}")
        return values
    if not isinstance(node, yaml.ScalarNode):
        raise ValueError(f"a list cannot hold a mapping, at line {node.start_mark.line + 1}")
    if node.style in ("'", '"') or node.tag == "!!str":
        return str(node.value)
    return _plain(str(node.value))


def _plain(text: str) -> Any:
    if text in _BOOLS or (text.lower() in _BOOLS and text in (text.capitalize(), text.upper())):
        return _BOOLS[text.lower()]
    if _INTEGER.fullmatch(text):
        digits = text.lstrip("+-")
        octal = len(digits) > 1 and digits[0] == "0" and digits[1] not in "xX"
        value = int(digits, 8 if octal else 0)
        return -value if text.startswith("-") else value
    if text.lower() in _SPECIAL:
        return float(_SPECIAL[text.lower()])
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
