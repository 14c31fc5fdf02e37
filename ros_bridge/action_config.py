"""How an action becomes a command: the `action` block of a robot's YAML."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mcsd_agent.errors import UserError, nearest
from ros_bridge.config_checks import require, require_positive, require_topic

TWIST, TWIST_STAMPED = "geometry_msgs/msg/Twist", "geometry_msgs/msg/TwistStamped"
ACKERMANN = "ackermann_msgs/msg/AckermannDriveStamped"
TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"
ARRAYS = ("std_msgs/msg/Float64MultiArray", "std_msgs/msg/Float32MultiArray")
#: What a guard tells the robot's time with.
TIME = "builtin_interfaces/msg/Time"
#: Commands with a header.
STAMPED = (TWIST_STAMPED, ACKERMANN, TRAJECTORY)

_AXES = tuple(f"{part}.{axis}" for part in ("linear", "angular") for axis in "xyz")
#: What an entry of the action may be called, by message; where there is nothing, it is a name of the robot's own.
_FIELDS: dict[str, tuple[str, ...]] = {
    TWIST: _AXES,
    TWIST_STAMPED: _AXES,
    ACKERMANN: ("speed", "steering_angle", "steering_angle_velocity", "acceleration", "jerk"),
    TRAJECTORY: (),
    ARRAYS[0]: (),
    ARRAYS[1]: (),
}
#: What a robot may be sent.
MESSAGES = tuple(_FIELDS)


@dataclass(frozen=True)
class ActionConfig:
    """Entry i of the action goes to `fields[i]` of a message, within [low, high].

    The value sent is `action * scale + offset`, clipped to `low` and `high`, which are in the robot's units.

    `fields`: of a Twist or TwistStamped `linear.x` to `angular.z`; of an AckermannDriveStamped its drive's; of a
    JointTrajectory the joints' names, with `quantity` and `time_from_start_s`; of an array names for its entries.

    `stop`: how the robot is told to stop. "zeros" for speeds and efforts; "hold" for positions: go to where
    `hold_from`, a `joints` observation, says that the robot is. None: zeros, where that is certain to be right.
    `max_step`: with "hold", how far from there each position sent may lie (null: any distance).

    `slew_per_s` limits the change per second of each entry, in the robot's units (null: no limit), `low_pass_s` is the
    time constant of a low-pass (null: none); both begin at the robot's zero. Stopping is never limited. `max_excess`:
    how far the policy may ask beyond its bounds, in widths of them, before it is taken for broken (null: any distance).

    `time_topic`: where a guard beside the robot's driver tells the time (`guard_node`), with which commands are stamped
    then (null: with this machine's).
    """

    topic: str
    fields: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    message: str = TWIST
    scale: float | tuple[float, ...] | None = None
    offset: float | tuple[float, ...] | None = None
    frame_id: str = ""
    quantity: Literal["position", "velocity", "effort"] = "position"
    time_from_start_s: float = 0.1
    stop: Literal["zeros", "hold"] | None = None
    hold_from: str | None = None
    max_step: float | tuple[float, ...] | None = None
    slew_per_s: tuple[float, ...] | None = None
    low_pass_s: float | None = None
    max_excess: float | None = None
    time_topic: str | None = None

    def __post_init__(self) -> None:
        require_topic(self.topic)
        if self.message not in _FIELDS:
            raise UserError(f"action.message: {self.message!r} is no command{nearest(self.message, _FIELDS)}")
        allowed = _FIELDS[self.message]
        for name in self.fields:
            if allowed and name not in allowed:
                kind = self.message.rsplit("/", 1)[1]
                raise UserError(f"action.fields: {name!r} is no field of a {kind}{nearest(name, allowed)}")
        require(0 < len(self.fields) == len(set(self.fields)), "action.fields", list(self.fields), "distinct fields")
        for key in ("low", "high", "slew_per_s", "scale", "offset", "max_step"):
            value = getattr(self, key)
            if isinstance(value, tuple):
                require(len(value) == len(self.fields), f"action.{key}", list(value), "one value per field")
            if value is not None:
                require(all(map(math.isfinite, per_entry(value, 1))), f"action.{key}", value, "finite")
        for key in ("slew_per_s", "max_step"):
            value = getattr(self, key)
            if value is not None:
                require(min(per_entry(value, 1)) > 0, f"action.{key}", value, "above 0, or null")
        if self.scale is not None:
            require(all(per_entry(self.scale, 1)), "action.scale", self.scale, "other than 0")
        require_positive(self, "low_pass_s", "max_excess", "time_from_start_s")
        if self.time_topic is not None:
            require_topic(self.time_topic)
            if self.message not in STAMPED:
                raise UserError(f"action.time_topic: a {self.message} carries no stamp; use {TWIST_STAMPED}")
        self._check_stop()

    def _check_stop(self) -> None:
        if self.stop is None:
            positions = self.message == TRAJECTORY and self.quantity == "position"
            if positions or self.message in ARRAYS:
                raise UserError(
                    f"action.stop is missing; {self.message} needs 'hold' for positions (with hold_from), 'zeros' for"
                    " speeds and efforts"
                )
        if self.holds and self.message not in (TRAJECTORY, *ARRAYS):
            raise UserError(f"action.stop is 'hold'; a {self.message} carries speeds, which 'zeros' stops")
        require(self.holds == (self.hold_from is not None), "action.hold_from", self.hold_from, "given with stop: hold")
        if self.max_step is not None and not self.holds:
            raise UserError("action.max_step needs stop: hold, which says where the robot is")
        for key in ("slew_per_s", "low_pass_s"):
            if self.holds and getattr(self, key) is not None:
                raise UserError(f"action.{key} counts from zero after a stop, which is no position; use max_step")
        for low, high in zip(self.low, self.high, strict=True):
            holds_zero = self.holds or low <= 0 <= high
            text = "low <= 0 <= high: 0 must stop it" if not self.holds else "low < high"
            require(holds_zero and low < high, "action bounds", [low, high], text)

    @property
    def policy_slew_per_s(self) -> tuple[float, ...] | None:
        """`slew_per_s` in the policy's units."""
        if self.slew_per_s is None:
            return None
        scales = per_entry(1.0 if self.scale is None else self.scale, len(self.fields))
        return tuple(slew / abs(scale) for slew, scale in zip(self.slew_per_s, scales, strict=True))

    @property
    def policy_at_rest(self) -> tuple[float, ...] | None:
        """The policy's action that is sent as zeros, where they stop the robot; None where it holds a position."""
        if self.holds:
            return None
        scales = per_entry(1.0 if self.scale is None else self.scale, len(self.fields))
        offsets = per_entry(0.0 if self.offset is None else self.offset, len(self.fields))
        return tuple(-offset / scale for offset, scale in zip(offsets, scales, strict=True))

    @property
    def holds(self) -> bool:
        """Whether a stop is the position where the robot is, and not zeros."""
        return self.stop == "hold"


def per_entry(value: float | tuple[float, ...], count: int) -> tuple[float, ...]:
    """One value for each of `count` entries."""
    return value if isinstance(value, tuple) else (value,) * count
