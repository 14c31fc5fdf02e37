"""Prints the public names of native rclpy and their signatures as JSON, for the comparison with the bridge."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
import warnings
from typing import Any

import rclpy


def signature(function: Any) -> Any:
    """`[name, kind, default]` of each parameter; None where Python does not know it."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    return [[p.name, p.kind.name, None if p.default is p.empty else default(p.default)] for p in parameters]


def default(value: Any) -> str:
    """Without addresses and package."""
    return re.sub(r" at 0x\w+|ros_bridge\.(?=rclpy)", "", repr(value))


def members(cls: Any) -> dict[str, Any]:
    """The signatures of its methods; other attributes as "value"."""
    found = {}
    for name in dir(cls):
        if name.startswith("_") and name != "__init__":
            continue
        value = inspect.getattr_static(cls, name)
        function = getattr(value, "__func__", value)
        is_own = getattr(function, "__module__", "").startswith(cls.__module__.split(".")[0])
        if inspect.isfunction(function) and is_own:
            found[name] = signature(function)
        elif not name.startswith("__"):
            found[name] = "value"
    return found


def describe() -> dict[str, Any]:
    """By `module:name` and `module:Class.name`: a signature, "class" or "value"."""
    found: dict[str, Any] = {}
    for info in [None, *pkgutil.walk_packages(rclpy.__path__, "rclpy.")]:
        name = "rclpy" if info is None else info.name
        if any(part.startswith("_") for part in name.split(".")):
            continue
        module = importlib.import_module(name)
        for attribute, value in vars(module).items():
            home = getattr(value, "__module__", None) or ""
            if attribute.startswith("_") or inspect.ismodule(value) or not (home == name or name == "rclpy"):
                continue
            key = f"{name}:{attribute}"
            if inspect.isclass(value):
                found[key] = "class"
                if not issubclass(value, Exception):
                    found.update({f"{key}.{k}": v for k, v in members(value).items()})
            elif inspect.isfunction(value):
                found[key] = signature(value)
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(describe()))
