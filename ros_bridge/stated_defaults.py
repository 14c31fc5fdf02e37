"""Defaults that an interface file states, `string greeting 'Hello\\'world!'`, read by the rules of ROS."""

from __future__ import annotations

import re
from typing import Any

from ros_bridge.message_fields import Array, Scalar

_KIND = re.compile(r"(\w+?)(?:<=(\d+))?(?:\[(<=)?(\d*)\])?")
_STRINGS = ("string", "wstring")
_INTEGERS = ("byte", "char", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
_KINDS = ("bool", "float32", "float64", *_STRINGS, *_INTEGERS)
_ENTRY = re.compile(r"""\s*("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[^,"']*)\s*(,|$)""")


def stated_default(kind: str, text: str) -> Any:
    """The value that `text` states for a field of type `kind`, such as `float32[<=3]`.

    Raises `ValueError`, saying what must be there, for text that states none or one that does not fit.
    """
    parts = _KIND.fullmatch(kind)
    if parts is None or parts[1] not in _KINDS:
        raise ValueError("must belong to a number, a string, a bool, or an array of these")
    base, bound, is_bounded, size = parts.groups()
    item = Scalar(base, int(bound or 0))
    if size is None:
        return item.check(_one(base, text))
    if not (text.startswith("[") and text.endswith("]")):
        raise ValueError("must be a list in brackets")
    count = int(size or 0)
    array = Array(item, limit=count) if is_bounded else Array(item, size=count)
    values = [_one(base, entry) for entry in _entries(text[1:-1].strip())]
    array.check(values)
    return values


def _one(base: str, text: str) -> Any:
    if base in _STRINGS:
        return _string(text)
    if base == "bool":
        if text.lower() not in ("true", "false", "1", "0"):
            raise ValueError("must be true or false")
        return text.lower() in ("true", "1")
    if base.startswith("float"):
        try:
            return float(text)
        except ValueError:
            raise ValueError("must be a number such as 0.5") from None
    number = _integer(text)
    if base != "byte":
        return number
    if not 0 <= number <= 255:
        raise ValueError("must be an integer in [0, 255]")
    return bytes([number])


def _integer(text: str) -> int:
    for radix in (10, 0):
        try:
            return int(text, radix)
        except ValueError:
            continue
    raise ValueError("must be an integer such as 5 or 0x1f")


def _string(text: str) -> str:
    """Without the quotes around it, if there are any; a quote of the same kind within is escaped."""
    if len(text) < 2 or text[0] not in "\"'" or text[-1] != text[0]:
        return text
    quote, inner = text[0], text[1:-1]
    if re.search(rf"(?<!\\){quote}", inner):
        raise ValueError(f"must have its inner quotes escaped as \\{quote}")
    return inner.replace(f"\\{quote}", quote)


def _entries(text: str) -> list[str]:
    """What commas separate, outside quotes."""
    entries: list[str] = []
    at = 0
    while text:
        entry = _ENTRY.match(text, at)
        if entry is None:
            raise ValueError("must have a closing quote for every opening one, and commas between its entries")
        entries.append(entry[1].strip())
        at = entry.end()
        if not entry[2]:
            break
    return entries
