"""The text of `.msg`, `.srv` and `.action` files, as field definitions and stated defaults.

rosbags parses the fields. It drops the defaults that a file states (`float64 speed 0.5`) and takes any text for a
constant, so that the values of both are read here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.typesys import get_types_from_msg

from mcsd_agent.errors import UserError
from ros_bridge.stated_defaults import stated_default

Definitions = dict[str, tuple[Any, Any]]
Defaults = dict[tuple[str, str], Any]

_PARTS = {"msg": ("",), "srv": ("_Request", "_Response"), "action": ("_Goal", "_Result", "_Feedback")}
_NAME = re.compile(r"[a-z][a-z0-9_]*/(msg|srv|action)/[A-Z][A-Za-z0-9]*")
_STATED = re.compile(r"\s*([\w/]+(?:<=\d+)?(?:\[[^\]]*\])?)\s+([a-z]\w*)\s+([^=\s#].*?)\s*$")
_WIDE = re.compile(r"^\s*w(string(?:<=\d+)?(?:\[[^\]]*\])?\s+([A-Za-z]\w*))")
_CONSTANT = re.compile(r"\s*(\w+(?:<=\d+)?)\s+([A-Z]\w*)\s*=\s*(.*?)\s*")
# A quote opens a string only where no word goes before it: it is an apostrophe there.
_UP_TO_COMMENT = re.compile(r"""((?:[^#"']|(?<!\w)"(?:\\.|[^"\\])*"|(?<!\w)'(?:\\.|[^'\\])*'|(?<=\w)["'])*)(?:#.*)?""")


def parse(ros_type: str, text: str) -> tuple[Definitions, Defaults]:
    """Definitions by type name, and defaults by type name and field.

    A service gives `Name_Request` and `Name_Response`; an action gives `Name_Goal`, `Name_Result` and `Name_Feedback`.
    Raises `UserError` naming the type, the line and what is wrong.
    """
    if not _NAME.fullmatch(ros_type):
        raise UserError(f"ROS type {ros_type!r} must be package/msg/Name, package/srv/Name or package/action/Name")
    package, kind, _ = ros_type.split("/")
    bodies, parts = _bodies(text), _PARTS[kind]
    if len(bodies) != len(parts):
        raise UserError(f"{ros_type}: a .{kind} file has {len(parts)} parts between ---, not {len(bodies)}")
    definitions: Definitions = {}
    defaults: Defaults = {}
    for part, body in zip(parts, bodies, strict=True):
        clean: dict[int, str] = {}
        values: dict[str, Any] = {}
        for number, line in body.items():
            stated, constant = _STATED.fullmatch(line), _CONSTANT.fullmatch(line)
            clean[number] = line
            if stated is not None:
                clean[number] = f"{stated[1]} {stated[2]}"
                defaults[ros_type + part, stated[2]] = _value(ros_type, number, "default", *stated.groups())
            elif constant is not None:
                values[constant[2]] = _value(ros_type, number, "value", *constant.groups())
        constants, members = _fields(ros_type, package, clean)
        definitions[ros_type + part] = [(n, kind, _as_stored(values.get(n, v))) for n, kind, v in constants], members
    return definitions, defaults


def find(path: str | Path) -> dict[str, str]:
    """Text by type name of `package/msg/Name.msg` and the like: one such file, or all of them below a folder."""
    return {name: read(file) for name, file in find_files(path).items()}


def find_files(path: str | Path) -> dict[str, Path]:
    """Files by type name: `package/msg/Name.msg` and the like, one such file, or all of them below a folder."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"no interface file or folder at {str(path)!r}")
    files = sorted(p for kind in _PARTS for p in path.rglob(f"*.{kind}")) if path.is_dir() else [path]
    found = {}
    for file in files:
        parts = file.resolve().parts
        if len(parts) < 3 or parts[-2] != file.suffix[1:]:
            raise UserError(f"interface file {str(file)!r} must lie in package/{file.suffix[1:]}/, as ROS packages do")
        found[f"{parts[-3]}/{parts[-2]}/{file.stem}"] = file
    if not found:
        raise UserError(f"no .msg, .srv or .action files below {str(path)!r}")
    return found


def read(file: Path) -> str:
    """The file's text; raises `UserError` where there is none."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise UserError(f"interface file {str(file)!r}: {reason}; give a file that ROS can read") from None


def _bodies(text: str) -> list[dict[int, str]]:
    """Lines without comments by their number in the text, for every part between lines of ---."""
    bodies: list[dict[int, str]] = [{}]
    for number, line in enumerate(text.splitlines(), 1):
        if line.rstrip() == "---":
            bodies.append({})
        else:
            bodies[-1][number] = _without_comment(line).rstrip()
    return bodies


def _without_comment(line: str) -> str:
    known = _UP_TO_COMMENT.fullmatch(line)
    # Quotes that do not close are letters.
    return known[1] if known is not None else line.partition("#")[0]


def _fields(ros_type: str, package: str, lines: dict[int, str]) -> Any:
    # Parsed as a message of the package, whatever it is: rosbags knows the .msg syntax only.
    try:
        return _parsed(package, list(lines.values()))
    except Exception as error:  # the parser raises its own errors for syntax, and Python's for values
        reason = " ".join(str(error).split())[:200]
    wrong = next((number for number, line in lines.items() if not _is_readable(package, line)), None)
    if wrong is None:
        raise UserError(f"{ros_type}: cannot be read: {reason}")
    raise UserError(
        f"{ros_type} line {wrong}: {lines[wrong].strip()!r:.80} cannot be read; it must be a type and a name, "
        "or a constant TYPE NAME=VALUE"
    )


def _parsed(package: str, lines: list[str]) -> tuple[Any, Any]:
    """Constants and members, as rosbags has them; it knows no wide strings, which are parsed as strings."""
    wide = {found[2] for found in map(_WIDE.match, lines) if found is not None}
    text = "".join(_WIDE.sub(r"\1", line) + "\n" for line in lines)
    ((constants, members),) = get_types_from_msg(text, f"{package}/msg/Part").values()
    return (
        [(name, "wstring" if name in wide else kind, value) for name, kind, value in constants],
        [(name, _widened(member) if name in wide else member) for name, member in members],
    )


def _widened(member: Any) -> Any:
    node, detail = member
    if node == Nodetype.BASE:
        return node, ("wstring", detail[1])
    inner, count = detail
    return node, (_widened(inner), count)


def _is_readable(package: str, line: str) -> bool:
    try:
        _parsed(package, [line])
    except Exception:  # as in `_fields`
        return False
    return True


def _as_stored(value: Any) -> Any:
    """rosbags keeps a byte as its number."""
    return value[0] if isinstance(value, bytes) else value


def _value(ros_type: str, number: int, what: str, kind: str, field: str, text: str) -> Any:
    try:
        return stated_default(kind, text)
    except ValueError as error:
        raise UserError(f"{ros_type} line {number}: {what} {text!r:.80} of {kind} {field} {error}") from None
