"""The spaces of a robot's observations and actions, for `RosEnv`: gymnasium is imported here and there alone."""

from __future__ import annotations

import math
import string

import gymnasium
import numpy as np
from gymnasium import spaces

from ros_bridge.action_config import ActionConfig, per_entry
from ros_bridge.observation_sources import LabelImage, Scan
from ros_bridge.robot_config import ObservationConfig, RobotConfig

MAX_TEXT = 160
CHARACTERS = string.ascii_letters + string.digits + string.punctuation + " "


def observation_space(config: RobotConfig) -> spaces.Dict:
    """The observations of a robot by name, and its instruction as text."""
    entries: dict[str, gymnasium.Space] = {name: _space(o) for name, o in config.observations.items()}
    if config.instruction is not None:
        entries[config.instruction.name] = spaces.Text(MAX_TEXT, min_length=0, charset=CHARACTERS)
    return spaces.Dict(entries)


def _space(config: ObservationConfig) -> gymnasium.Space:
    source = config.source
    if isinstance(source, LabelImage):
        return spaces.MultiDiscrete([source.classes] * source.width)
    if config.dtype == "uint8":
        return spaces.Box(0, 255, source.shape, np.uint8)
    low, high = config.clip or (-math.inf, math.inf)
    if isinstance(source, Scan) and not config.is_transformed:
        low, high = 0.0, source.max_range_m
    return spaces.Box(low, high, source.shape, np.float32)


def action_space(action: ActionConfig) -> spaces.Box:
    """The robot's bounds in the policy's units."""
    count = len(action.fields)
    scale = np.asarray(per_entry(1.0 if action.scale is None else action.scale, count))
    offset = np.asarray(per_entry(0.0 if action.offset is None else action.offset, count))
    ends = [((np.asarray(bound) - offset) / scale).astype(np.float32) for bound in (action.low, action.high)]
    return spaces.Box(np.minimum(*ends), np.maximum(*ends))
