"""`import rclpy` and `from std_msgs.msg import String` without ROS.

    from ros_bridge import imports
    imports.install()
    import rclpy                          # ros_bridge.rclpy
    from std_msgs.msg import String       # made by ros_bridge.messages

`python -m ros_bridge program.py` does this for a program that knows nothing of it. Nothing is installed unless asked
for, and a native rclpy of this machine stays untouched outside this process.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from mcsd_agent.errors import UserError
from ros_bridge import messages

_ROOT = "rclpy"
_KINDS = ("msg", "srv", "action")


def install() -> None:
    """From now on this process imports `rclpy` and all message packages from here.

    Raises `UserError` when native rclpy was imported before.
    """
    known = sys.modules.get(_ROOT)
    if known is not None and not known.__name__.startswith("ros_bridge"):
        raise UserError("native rclpy is imported already in this process; install ros_bridge.imports before it")
    messages.all_names()  # the store is loaded before the finder asks for it
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _packages() -> set[str]:
    return {name.split("/")[0] for name in messages.all_names()}


class _Finder(MetaPathFinder, Loader):
    """Finds `rclpy...` in `ros_bridge.rclpy...`, and message packages in the type store."""

    def __init__(self) -> None:
        self._own_specs: dict[str, Any] = {}

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        root, _, rest = fullname.partition(".")
        if root == _ROOT:
            ours = find_spec(f"ros_bridge.{fullname}")
            if ours is None:
                raise ModuleNotFoundError(f"{fullname} is not here over rosbridge; see docs/ros.md", name=fullname)
            return ModuleSpec(fullname, self, is_package=ours.submodule_search_locations is not None)
        if root not in _packages():
            return None
        if rest and rest not in _KINDS:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return ModuleSpec(fullname, self, is_package=not rest)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        if spec.name.split(".")[0] != _ROOT:
            return None
        module = importlib.import_module(f"ros_bridge.{spec.name}")
        self._own_specs[module.__name__] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        own = self._own_specs.pop(module.__name__, None)
        if own is not None:
            # The import system has put the other name's spec on our module.
            module.__spec__ = own
            return
        if "." in module.__name__:
            classes = vars(messages.module(module.__name__))
            vars(module).update(classes, __all__=sorted(classes))
