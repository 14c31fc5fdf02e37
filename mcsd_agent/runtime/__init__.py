"""Everything that runs on the robot: NumPy, and onnxruntime when it is asked for; never torch.

from mcsd_agent.runtime import Controller, Stream

stream = Stream.load("nav.mcsd")
state = stream.initial_state()
action, state = stream.step(observation, state)

Each name is imported when it is first asked for: a program that runs a `Stream` does not load the controller.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcsd_agent.runtime.artifact_spec import ArtifactSpec
    from mcsd_agent.runtime.controller import Controller
    from mcsd_agent.runtime.controller_config import ControllerConfig
    from mcsd_agent.runtime.in_process import EnvRobot, VirtualClock
    from mcsd_agent.runtime.package import read_package
    from mcsd_agent.runtime.realtime import RealTimeConfig
    from mcsd_agent.runtime.robot import Reading, Robot, check_robot_matches
    from mcsd_agent.runtime.stream import Stream
    from mcsd_agent.runtime.telemetry import Telemetry
    from mcsd_agent.runtime.tick import Tick

__all__ = [
    "ArtifactSpec",
    "Controller",
    "ControllerConfig",
    "EnvRobot",
    "Reading",
    "RealTimeConfig",
    "Robot",
    "Stream",
    "Telemetry",
    "Tick",
    "VirtualClock",
    "check_robot_matches",
    "read_package",
]

_MODULES = {
    "ArtifactSpec": "artifact_spec",
    "Controller": "controller",
    "ControllerConfig": "controller_config",
    "EnvRobot": "in_process",
    "VirtualClock": "in_process",
    "read_package": "package",
    "RealTimeConfig": "realtime",
    "Reading": "robot",
    "Robot": "robot",
    "check_robot_matches": "robot",
    "Stream": "stream",
    "Telemetry": "telemetry",
    "Tick": "tick",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value
