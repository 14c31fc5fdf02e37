"""Reward and end of an episode for the simulated robot, as hooks of `RosEnv`, from what its referee publishes.

topics={"state": ["/sim/state", "std_msgs/msg/String"]}
reward="ros_bridge.sim_hooks:reward", termination="ros_bridge.sim_hooks:termination"
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ros_bridge.ros_env import RosStep

_TICK_COST = 0.002


def reward(step: RosStep) -> float:
    """1 for obeying the whole instruction, and a little less for every step."""
    return float(_state(step).get("success", False)) - _TICK_COST


def termination(step: RosStep) -> bool:
    """Whether the referee has decided; sets `is_success`."""
    state = _state(step)
    step.info["is_success"] = bool(state.get("success", False))
    return bool(state.get("success", False) or state.get("failed", False))


def _state(step: RosStep) -> dict[str, Any]:
    """The newest word of the referee about the instruction that was given; empty before there is one."""
    message = step.messages.get("state")
    state = json.loads(message.data) if message is not None else {}
    return state if state.get("instruction") == step.info["instruction"] else {}
