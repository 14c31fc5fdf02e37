"""Message types that ROS does not ship, for the bridge: those in `interfaces/`, and those of a robot's YAML.

`messages` finds the shipped ones when they are used first. On native rclpy types have to be compiled and installed;
`interfaces/` holds ROS packages of which `colcon build` makes them.
"""

from __future__ import annotations

from pathlib import Path

from ros_bridge.backend import NATIVE

FOLDER = Path(__file__).parent / "interfaces"
EXECUTE_INSTRUCTION = "mcsd_interfaces/action/ExecuteInstruction"


def register(folder: Path | None = None) -> None:
    """Make the types below `folder` known, beside those that are shipped; nothing natively.

    Errors as `messages.register_files`.
    """
    if NATIVE or folder is None:
        return
    from ros_bridge import messages

    messages.register_files(folder)
