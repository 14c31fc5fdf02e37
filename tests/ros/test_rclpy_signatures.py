"""Every public name of the installed rclpy, compared with the bridge: parameters, their kinds and defaults."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

from conftest import ROOT, require_ros

#: What the bridge does not have, or has differently, and why. Patterns of `module:name`.
DIFFERENCES = {
    r"rclpy\.action\.\w+:Action(Client|Server)\.(is_ready|take_data|execute|add_to_wait_set|get_num_entities)": (
        "how executors serve waitables, which are DDS handles"
    ),
    r"rclpy\.action\.\w+:Action(Client|Server)\.(add|remove)_future": "how executors serve waitables",
    r"rclpy\.action\.server:ActionServer\.notify_goal_done": "the rosbridge server keeps and forgets the results",
    r"rclpy\.experimental\.events_executor:.*": "an executor on DDS events, which rosbridge does not report",
    r"rclpy\.(event_handler|qos_event|waitable):.*": "rosbridge does not report DDS events; waitables are DDS handles",
    r"rclpy\.(topic_endpoint_info|type_hash):.*": "rosbridge cannot list the graph",
    r"rclpy\.(serialization|type_support):.*": "messages travel as JSON; there is no type support to check",
    r"rclpy\.type_description_service:.*": "rosbags has no type hashes to describe types by",
    r"rclpy\.(destroyable|impl\.implementation_singleton):.*": "rcl's handles, which this side does not have",
    r".*\.handle": "rcl's handles, which this side does not have",
    r"rclpy\.(clock|context|time):\w+Handle\b(?<!JumpHandle).*": "types of rcl's handles",
    r"rclpy\.duration:DurationType.*": "types of rcl's handles",
    r"rclpy\.clock:TimeJumpDictionary.*": "rcl's form of a time jump",
    r"rclpy\.impl\.rcutils_logger:(?!RcutilsLogger).*": "how rclpy filters log calls",
    r"rclpy\.signals:SignalHandlerGuardCondition.*": "a guard condition of rcl; signals raise here",
    r"rclpy(\.signals)?:SignalHandlerOptions\.(name|value)": "pybind's enumerations show them on the class",
    r"rclpy\.client:Client\.get_pending_request": "rosbridge has no sequence numbers",
    r"rclpy\.\w+:(Client|Publisher|Service|Subscription)\.__init__": "made by the node, from a link",
}


def native() -> dict:
    require_ros()
    script = Path(__file__).with_name("describe_rclpy.py")
    process = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, cwd=ROOT)
    return json.loads(process.stdout)


def ours(key: str):
    """The bridge's object of that name, or None."""
    module, _, path = key.partition(":")
    try:
        if importlib.util.find_spec(f"ros_bridge.{module}") is None:
            return None
    except ModuleNotFoundError:
        return None
    target = importlib.import_module(f"ros_bridge.{module}")
    for part in path.split("."):
        if not hasattr(target, part):
            is_annotated = inspect.isclass(target) and any(
                part in vars(c).get("__annotations__", {}) for c in target.__mro__
            )
            return "value" if is_annotated else None
        target = getattr(target, part)
    return target


def signature(function) -> list:
    parameters = inspect.signature(function).parameters.values()
    return [[p.name, p.kind.name, None if p.default is p.empty else _default(p.default)] for p in parameters]


def _default(value) -> str:
    return re.sub(r" at 0x\w+|ros_bridge\.(?=rclpy)", "", repr(value))


def differences() -> dict[str, str]:
    found = {}
    for key, expected in native().items():
        target = ours(key)
        if target is None:
            found[key] = "missing"
        elif isinstance(expected, list):
            parameters = signature(inspect.unwrap(target))
            if inspect.ismethod(target):
                expected = expected[1:]
            if parameters != expected:
                found[key] = f"{parameters} instead of {expected}"
    return found


def test_every_public_name_has_rclpys_signature_or_a_stated_reason():
    found = differences()
    unexplained = {k: v for k, v in found.items() if not any(re.fullmatch(p, k) for p in DIFFERENCES)}
    assert not unexplained
    stale = [pattern for pattern in DIFFERENCES if not any(re.fullmatch(pattern, key) for key in found)]
    assert not stale, "these differences are no more"
