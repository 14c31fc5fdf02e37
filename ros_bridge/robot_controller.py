"""The controller's configuration for a robot, from its YAML."""

from __future__ import annotations

from collections.abc import Collection

from mcsd_agent.runtime import ControllerConfig
from ros_bridge.robot_config import InstructionConfig, RobotConfig


def controller_config(robot: RobotConfig, needed: Collection[str]) -> ControllerConfig:
    """The robot's YAML in the controller's words; `needed` are the observations that the policy has."""
    used = {name: o for name, o in robot.observations.items() if name in needed}
    words = robot.instruction or InstructionConfig("/unused")
    return ControllerConfig(
        follow_sensors=True,
        max_age_by_name={name: o.max_age_s for name, o in used.items()},
        max_frozen_by_name={name: o.max_frozen_s for name, o in used.items() if o.max_frozen_s is not None},
        heartbeat_s=robot.heartbeat.max_silence_s if robot.heartbeat else None,
        slew_per_s=robot.action.policy_slew_per_s,
        low_pass_s=robot.action.low_pass_s,
        at_rest=robot.action.policy_at_rest,
        max_excess=robot.action.max_excess,
        done_threshold=words.done_threshold,
        done_s=words.done_s,
        **vars(robot.safety),
    )
