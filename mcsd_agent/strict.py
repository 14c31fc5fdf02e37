"""Strict loading: a mapping becomes a frozen dataclass, or one line says why not.

Unknown keys, wrong types and missing values fail with the key, the value, the constraint and the
nearest valid key. Constraints between values belong to the dataclass's own `__post_init__`, which
raises `UserError`. Nested dataclasses, `X | None`, `tuple[X, ...]`, `dict[str, X]` and `Literal` are read.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from mcsd_agent.errors import UserError, nearest

T = TypeVar("T")
#: A number that YAML 1.1 reads as text: 1e5 has no dot, 1.5e3 no sign.
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


def load_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file; `UserError` when it is missing, unreadable or no mapping."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise UserError(f"config {str(path)!r}: {reason}; give the path of a YAML file") from None
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"config {str(path)!r} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise UserError(f"config {str(path)!r} holds {type(data).__name__}; it must be a mapping of keys to values")
    return data


def apply_overrides(data: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """A copy of `data` with each `a.b=value` applied; values are read as YAML."""
    result = _copy(data)
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise UserError(f"override {text!r} must read key=value, for example train.seed=1")
        *parents, leaf = key.split(".")
        node = result
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise UserError(f"override {text!r}: {parent!r} is a value and has no keys below it")
        try:
            node[leaf] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f"override {text!r}: {value!r} is not a YAML value") from None
    return result


def build(cls: type[T], data: Any, where: str = "") -> T:
    """`cls(**data)` with every key and type checked; `where` is the dotted path for messages."""
    if not isinstance(data, Mapping):
        raise UserError(f"{where or 'config'}: {data!r} must be a mapping of keys to values")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            raise UserError(f"unknown key {_dotted(where, key)!r}{nearest(str(key), fields)}")
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = convert(hints[name], data[name], _dotted(where, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UserError(f"missing key {_dotted(where, name)!r}; it has no default")
    return cls(**values)


def convert(hint: Any, value: Any, where: str) -> Any:
    """`value` as type `hint`, or a `UserError` that names both."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        options = [a for a in arguments if a is not type(None)]
        return _first_that_fits(options, value, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise UserError(f"{where}: {value!r} is not valid{nearest(str(value), map(str, arguments))}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{where}: {value!r} must be a list")
        variadic = len(arguments) == 2 and arguments[1] is Ellipsis
        if not variadic and len(value) != len(arguments):
            raise UserError(f"{where}: {value!r} must have {len(arguments)} entries, not {len(value)}")
        kinds = [arguments[0]] * len(value) if variadic else arguments
        return tuple(convert(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    if origin in (dict, Mapping) or hint is dict:
        if not isinstance(value, Mapping):
            raise UserError(f"{where}: {value!r} must be a mapping")
        kind = arguments[1] if arguments else Any
        return {str(k): convert(kind, v, _dotted(where, str(k))) for k, v in value.items()}
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)  # type: ignore[arg-type]
    return _scalar(hint, value, where)


def to_dict(config: Any) -> Any:
    """The resolved config as plain mappings, lists and scalars, ready for YAML or JSON."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: to_dict(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {k: to_dict(v) for k, v in config.items()}
    if isinstance(config, (list, tuple)):
        return [to_dict(v) for v in config]
    return config


def _first_that_fits(options: list[Any], value: Any, where: str) -> Any:
    errors = []
    for option in options:
        try:
            return convert(option, value, where)
        except UserError as error:
            errors.append(error)
    raise errors[0]


def _scalar(hint: type, value: Any, where: str) -> Any:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is float and is_number:
        return float(value)
    if hint is float and isinstance(value, str):
        # YAML 1.1 reads 1e-3 as text: the dot is missing.
        try:
            return float(value)
        except ValueError:
            pass
    if hint is int and (is_number or (isinstance(value, str) and _EXPONENT.fullmatch(value))):
        return _whole(value, where)
    if hint in (str, bool) and isinstance(value, hint):
        return value
    if hint is Path and isinstance(value, (str, Path)):
        return Path(value)
    raise UserError(f"{where}: {value!r} must be of type {hint.__name__}, not {type(value).__name__}")


def _whole(value: int | float | str, where: str) -> int:
    number = float(value) if isinstance(value, str) else value
    if isinstance(number, float) and not number.is_integer():  # nor is an infinity
        raise UserError(f"{where}: {value!r} must be of type int, a whole number such as 2 or 1e5")
    return int(number)


def _dotted(where: str, key: str) -> str:
    return f"{where}.{key}" if where else str(key)


def _copy(data: Any) -> Any:
    return {k: _copy(v) for k, v in data.items()} if isinstance(data, Mapping) else data
