"""The text of `.msg`, `.srv` and `.action` files, as field definitions and stated defaults.

rosbags parses the fields; it drops the defaults that a file states (`float64 speed 0.5`), which are read here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from rosbags.typesys import TypesysError, get_types_from_msg

from mcsd_agent.errors import UserError

Definitions = dict[str, tuple[Any, Any]]
Defaults = dict[tuple[str, str], Any]

_PARTS = {"msg": ("",), "srv": ("_Request", "_Response"), "action": ("_Goal", "_Result", "_Feedback")}
_NAME = re.compile(r"[a-z][a-z0-9_]*/(msg|srv|action)/[A-Z][A-Za-z0-9]*")
_STATED = re.compile(r"\s*([\w/]+(?:<=\d+)?(?:\[[^\]]*\])?)\s+([a-z]\w*)\s+([^=\s#].*?)\s*$")


def parse(ros_type: str, text: str) -> tuple[Definitions, Defaults]:
    """Definitions by type name, and defaults by type name and field.

    A service gives `Name_Request` and `Name_Response`; an action gives `Name_Goal`, `Name_Result` and `Name_Feedback`.
    Raises `UserError` naming the type and what is wrong.
    """
    if not _NAME.fullmatch(ros_type):
        raise UserError(f"ROS type {ros_type!r} must be package/msg/Name, package/srv/Name or package/action/Name")
    package, kind, _ = ros_type.split("/")
    bodies = re.split(r"^---\s*$", text, flags=re.MULTILINE)
    parts = _PARTS[kind]
    if len(bodies) != len(parts):
        raise UserError(f"{ros_type}: a .{kind} file has {len(parts)} parts between ---, not {len(bodies)}")
    definitions: Definitions = {}
    defaults: Defaults = {}
    for part, body in zip(parts, bodies, strict=True):
        try:
            # Parsed as a message of the package, whatever it is: rosbags knows the .msg syntax only.
            (fields,) = get_types_from_msg(_clean(body), f"{package}/msg/Part").values()
        except TypesysError as error:
            raise UserError(f"{ros_type}: cannot be read: {' '.join(str(error).split())[:200]}") from None
        definitions[ros_type + part] = fields
        for line in body.splitlines():
            stated = _STATED.fullmatch(_without_comment(line))
            if stated is not None:
                defaults[ros_type + part, stated[2]] = _default(stated[1], stated[3])
    return definitions, defaults


def find(path: str | Path) -> dict[str, str]:
    """Text by type name of `package/msg/Name.msg` and the like: one such file, or all of them below a folder."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"no interface file or folder at {str(path)!r}")
    files = sorted(p for kind in _PARTS for p in path.rglob(f"*.{kind}")) if path.is_dir() else [path]
    found = {}
    for file in files:
        parts = file.resolve().parts
        if len(parts) < 3 or parts[-2] != file.suffix[1:]:
            raise UserError(f"interface file {str(file)!r} must lie in package/{file.suffix[1:]}/, as ROS packages do")
        found[f"{parts[-3]}/{parts[-2]}/{file.stem}"] = file.read_text(encoding="utf-8")
    if not found:
        raise UserError(f"no .msg, .srv or .action files below {str(path)!r}")
    return found


def _without_comment(line: str) -> str:
    quoted = re.match(r"""((?:[^#"']|"[^"]*"|'[^']*')*)#""", line)
    return quoted[1] if quoted else line


def _clean(body: str) -> str:
    """The body without comments and stated defaults, ending in a newline."""
    lines = []
    for line in body.splitlines():
        line = _without_comment(line).rstrip()
        stated = _STATED.fullmatch(line)
        lines.append(f"{stated[1]} {stated[2]}" if stated else line)
    return "\n".join(lines) + "\n"


def _default(kind: str, text: str) -> Any:
    value = yaml.safe_load(text)
    if kind.startswith(("float32", "float64")):
        return [float(v) for v in value] if isinstance(value, list) else float(value)
    if kind.startswith("bool") and not isinstance(value, list):
        return bool(value)
    if kind.startswith(("string", "wstring")) and not isinstance(value, list):
        return str(value)
    return bytes([value]) if kind == "byte" else value
