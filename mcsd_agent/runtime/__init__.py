"""Everything that runs on the robot: NumPy, and onnxruntime when it is asked for; never torch.

from mcsd_agent.runtime import Controller, Stream

stream = Stream.load("nav.mcsd")
state = stream.initial_state()
action, state = stream.step(observation, state)
"""

from mcsd_agent.runtime.artifact_spec import ArtifactSpec
from mcsd_agent.runtime.controller import Controller, ControllerConfig
from mcsd_agent.runtime.in_process import EnvRobot, VirtualClock
from mcsd_agent.runtime.package import read_package
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
    "Robot",
    "Stream",
    "Telemetry",
    "Tick",
    "VirtualClock",
    "check_robot_matches",
    "read_package",
]
