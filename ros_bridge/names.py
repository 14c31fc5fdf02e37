"""Names of nodes, namespaces, topics and services: rcl's rules of validity and expansion, with rcl's words.

Each `*_error` returns None for a valid name, or `(text, index of the offending character)`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

Error = tuple[str, int] | None

_WORD = re.compile(r"[A-Za-z0-9_]")
MAX_NODE_NAME = 255
MAX_NAMESPACE = 245
MAX_TOPIC_NAME = 247


def node_name_error(name: str) -> Error:
    """One word that does not start with a digit."""
    if not name:
        return "node name must not be empty", 0
    for index, character in enumerate(name):
        if not _WORD.fullmatch(character):
            return "node name must not contain characters other than alphanumerics or '_'", index
    if name[0].isdigit():
        return "node name must not start with a number", 0
    if len(name) > MAX_NODE_NAME:
        return f"node name length should not exceed '{MAX_NODE_NAME}'", MAX_NODE_NAME - 1
    return None


def namespace_error(name: str) -> Error:
    """`/`, or absolute words."""
    if not name:
        return "namespace must not be empty", 0
    if not name.startswith("/"):
        return "namespace must be absolute, it must lead with a '/'", 0
    if name == "/":
        return None
    if name.endswith("/"):
        return "namespace must not end with a '/', unless only a '/'", len(name) - 1
    error = _absolute_error(name, "namespace", "must not contain characters other than alphanumerics, '_', or '/'")
    if error is None and len(name) > MAX_NAMESPACE:
        return "namespace should not exceed 'RMW_NAMESPACE_MAX_NAME_LENGTH'", MAX_NAMESPACE - 1
    return error


def full_topic_name_error(name: str) -> Error:
    """Absolute words."""
    if not name:
        return "topic name must not be empty", 0
    if not name.startswith("/"):
        return "topic name must be absolute, it must lead with a '/'", 0
    if name.endswith("/"):
        return "topic name must not end with a '/'", len(name) - 1
    error = _absolute_error(name, "topic name", "must not contain characters other than alphanumerics, '_', or '/'")
    if error is None and len(name) > MAX_TOPIC_NAME:
        return "topic length should not exceed '255U - 8U'", MAX_TOPIC_NAME - 1
    return error


def topic_name_error(name: str) -> Error:
    """A name before its expansion: relative, absolute, private (`~/x`), with substitutions (`{node}`)."""
    if not name:
        return "topic name must not be empty string", 0
    if name.endswith("/"):
        return "topic name must not end with a forward slash", len(name) - 1
    opened = -1
    for index, character in enumerate(name):
        if character == "~":
            if index:
                return "topic name must not have tilde '~' unless it is the first character", index
        elif character == "{":
            if opened >= 0:
                return "substitution name must not contain characters other than alphanumerics or '_'", index
            opened = index
        elif character == "}":
            if opened < 0:
                return "topic name must not have unmatched (unbalanced) curly braces '{}'", index
            opened = -1
        elif not _WORD.fullmatch(character) and character != "/":
            if opened >= 0:
                return "substitution name must not contain characters other than alphanumerics or '_'", index
            allowed = "alphanumerics, '_', '~', '{', or '}'"
            return f"topic name must not contain characters other than {allowed}", index
        elif opened >= 0 and character == "/":
            return "substitution name must not contain characters other than alphanumerics or '_'", index
        elif character.isdigit() and opened == index - 1 and opened >= 0:
            return "substitution name must not start with a number", index
    if opened >= 0:
        return "topic name must not have unmatched (unbalanced) curly braces '{}'", opened
    for index, character in enumerate(name):
        if character.isdigit() and (index == 0 or name[index - 1] == "/"):
            return "topic name token must not start with a number", index
    return None


def expand(name: str, node_name: str, namespace: str) -> str:
    """The absolute form of a topic or service name; `ValueError` for what is not valid."""
    error = topic_name_error(name)
    if error is not None:
        raise ValueError(f"topic name '{name}' is invalid: {error[0]}")
    prefix = namespace.rstrip("/")
    if name.startswith("~"):
        name = f"{prefix}/{node_name}{name[1:]}"
    values = {"node": node_name, "ns": namespace, "namespace": namespace}

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise ValueError(f"topic name '{name}' is invalid: unknown substitution: {match[0]}")
        return values[match[1]]

    name = re.sub(r"\{(\w*)\}", value, name)
    return name if name.startswith("/") else f"{prefix}/{name}"


def check(name: str, error_of: Callable[[str], Error], exception: type[Exception]) -> bool:
    """True, or `exception(name, text, index)`."""
    error = error_of(name)
    if error is not None:
        raise exception(name, *error)
    return True


def _absolute_error(name: str, what: str, alphabet: str) -> Error:
    for index, character in enumerate(name):
        if not _WORD.fullmatch(character) and character != "/":
            return f"{what} {alphabet}", index
        if index and name[index - 1] == "/":
            if character == "/":
                return f"{what} must not contain repeated '/'", index
            if character.isdigit():
                return f"{what} must not have a token that starts with a number", index
    return None
