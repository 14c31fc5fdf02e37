"""A robot in one YAML file: which topics are which observations, and how an action becomes a command.

See `configs/robots/diffdrive.yaml`. Every observation has a topic and exactly one source block, which
says what message is expected there and how it is read:

    scan         sensor_msgs/msg/LaserScan   rays at given angles
    label_image  sensor_msgs/msg/Image       one row of class ids
    joints       sensor_msgs/msg/JointState  one quantity of named joints
    odometry     nav_msgs/msg/Odometry       wheel speeds of a differential drive
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mcsd_agent.errors import UserError, nearest
from mcsd_agent.runtime.previous_action import NAME as PREVIOUS_ACTION
from mcsd_agent.spaces import BoxSpec, MultiDiscreteSpec, Spec, TextSpec
from mcsd_agent.strict import build, load_yaml


@dataclass(frozen=True)
class Scan:
    """`rays` ranges in metres, the first at `start_deg`, the last at `stop_deg` (counter-clockwise positive).

    No echo (infinity, NaN, null) and anything beyond `max_range_m` reads as `max_range_m`.
    """

    start_deg: float
    stop_deg: float
    rays: int
    max_range_m: float

    message_type = "sensor_msgs/msg/LaserScan"

    def __post_init__(self) -> None:
        _require(self.rays >= 2, "scan.rays", self.rays, "at least 2")
        _require(self.max_range_m > 0, "scan.max_range_m", self.max_range_m, "above 0")
        _require(self.start_deg != self.stop_deg, "scan.stop_deg", self.stop_deg, "different from start_deg")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.rays,)


@dataclass(frozen=True)
class LabelImage:
    """`width` class ids in one row of an 8-bit image, column 0 left-most."""

    width: int

    message_type = "sensor_msgs/msg/Image"

    def __post_init__(self) -> None:
        _require(self.width >= 1, "label_image.width", self.width, "at least 1")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.width,)


@dataclass(frozen=True)
class Joints:
    """One quantity (rad, rad/s, N m; or their linear kin) of the joints called `names`, in this order."""

    names: tuple[str, ...]
    quantity: Literal["position", "velocity", "effort"] = "velocity"

    message_type = "sensor_msgs/msg/JointState"

    def __post_init__(self) -> None:
        _require(len(self.names) > 0, "joints.names", list(self.names), "a list of at least one joint")

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.names),)


@dataclass(frozen=True)
class Odometry:
    """Left and right wheel speed in rad/s, worked out from a differential drive's twist."""

    wheel_radius_m: float
    track_m: float

    message_type = "nav_msgs/msg/Odometry"

    def __post_init__(self) -> None:
        _require(self.wheel_radius_m > 0, "odometry.wheel_radius_m", self.wheel_radius_m, "above 0")
        _require(self.track_m > 0, "odometry.track_m", self.track_m, "above 0")

    @property
    def shape(self) -> tuple[int, ...]:
        return (2,)


Source = Scan | LabelImage | Joints | Odometry


@dataclass(frozen=True)
class ObservationConfig:
    """One observation: where it comes from and how old it may be when the policy uses it.

    `max_frozen_s`: for how long it may repeat itself to the last bit; None: for ever.
    """

    topic: str
    max_age_s: float
    unit: str = ""
    max_frozen_s: float | None = None
    scan: Scan | None = None
    label_image: LabelImage | None = None
    joints: Joints | None = None
    odometry: Odometry | None = None

    def __post_init__(self) -> None:
        _check_topic(self.topic)
        _require(self.max_age_s > 0, "max_age_s", self.max_age_s, "above 0")
        _require_positive(self, "max_frozen_s")
        given = [s for s in (self.scan, self.label_image, self.joints, self.odometry) if s is not None]
        if len(given) != 1:
            raise UserError(
                f"observation on {self.topic!r} has {len(given)} sources; give exactly one of"
                " scan, label_image, joints, odometry"
            )

    @property
    def source(self) -> Source:
        source = self.scan or self.label_image or self.joints or self.odometry
        assert source is not None
        return source


@dataclass(frozen=True)
class InstructionConfig:
    """Instructions in words. `spoken_ticks`: for how many ticks the policy sees one; None: until the next."""

    topic: str
    name: str = "instruction"
    spoken_ticks: int | None = None

    def __post_init__(self) -> None:
        _check_topic(self.topic)
        ticks = self.spoken_ticks
        _require(ticks is None or ticks >= 1, "instruction.spoken_ticks", ticks, "at least 1, or null")


@dataclass(frozen=True)
class ActionConfig:
    """How an action becomes a geometry_msgs/msg/Twist: entry i goes to `fields[i]`, within [low, high] (SI units).

    `slew_per_s` limits the change per second of each entry (null: no limit), `low_pass_s` is the time constant of
    a low-pass (null: none). Stopping is never limited. `max_excess`: how far the policy may ask beyond its bounds,
    in widths of them, before it is taken for broken (null: any distance).
    """

    topic: str
    fields: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    slew_per_s: tuple[float, ...] | None = None
    low_pass_s: float | None = None
    max_excess: float | None = None

    message_type = "geometry_msgs/msg/Twist"

    def __post_init__(self) -> None:
        _check_topic(self.topic)
        axes = [f"{part}.{axis}" for part in ("linear", "angular") for axis in "xyz"]
        for name in self.fields:
            if name not in axes:
                raise UserError(f"action.fields: {name!r} is no field of a Twist{nearest(name, axes)}")
        _require(0 < len(self.fields) == len(set(self.fields)), "action.fields", list(self.fields), "distinct fields")
        for key in ("low", "high", "slew_per_s"):
            values = getattr(self, key)
            if values is not None:
                _require(len(values) == len(self.fields), f"action.{key}", list(values), "one value per field")
                _require(all(map(math.isfinite, values)), f"action.{key}", list(values), "finite")
        for low, high in zip(self.low, self.high, strict=True):
            _require(low <= 0 <= high and low < high, "action bounds", [low, high], "low <= 0 <= high: 0 must stop it")
        if self.slew_per_s is not None:
            _require(min(self.slew_per_s) > 0, "action.slew_per_s", list(self.slew_per_s), "above 0, or null")
        _require_positive(self, "low_pass_s", "max_excess")


@dataclass(frozen=True)
class HeartbeatConfig:
    """A std_msgs/msg/Empty that an operator's program publishes; without one for `max_silence_s` the robot stops."""

    topic: str
    max_silence_s: float

    def __post_init__(self) -> None:
        _check_topic(self.topic)
        _require_positive(self, "max_silence_s")


@dataclass(frozen=True)
class SafetyConfig:
    """What else stops the robot, see `mcsd_agent.runtime.ControllerConfig`. None switches a watchdog off.

    `late_tolerance_s` None is half a period.
    """

    late_tolerance_s: float | None = None
    max_clock_jump_s: float | None = 0.5
    max_state_growth: float | None = None
    state_norm_ticks: int = 1000
    on_resume: Literal["keep", "reset"] = "keep"
    on_telemetry_loss: Literal["stop", "go_on"] = "stop"

    def __post_init__(self) -> None:
        _require_positive(self, "late_tolerance_s", "max_clock_jump_s", "max_state_growth", "state_norm_ticks")


@dataclass(frozen=True)
class RobotConfig:
    """Everything the policy node and the simulated robot must agree on."""

    name: str
    rate_hz: float
    watchdog_s: float
    observations: Mapping[str, ObservationConfig]
    action: ActionConfig
    instruction: InstructionConfig | None = None
    heartbeat: HeartbeatConfig | None = None
    safety: SafetyConfig = field(default_factory=SafetyConfig)

    def __post_init__(self) -> None:
        _require(0 < self.rate_hz <= 1000, "rate_hz", self.rate_hz, "in (0, 1000]")
        _require(self.watchdog_s >= 1 / self.rate_hz, "watchdog_s", self.watchdog_s, "at least one period")
        _require(bool(self.observations), "observations", {}, "at least one observation")
        if self.instruction is not None and self.instruction.name in self.observations:
            raise UserError(f"{self.instruction.name!r} is both the instruction and an observation; rename one")


def load_robot(path: str | Path) -> RobotConfig:
    """The robot in a YAML file; `UserError` names the file, the key, its value and the constraint."""
    data = load_yaml(path)
    try:
        return build(RobotConfig, data)
    except UserError as error:
        raise UserError(f"robot {str(path)!r}: {error}") from None


def check_fit(observation: Mapping[str, Spec], action: Spec, rate_hz: float, robot: RobotConfig) -> None:
    """`UserError` unless the robot gives what a policy of these specs needs, and takes its actions.

    A robot may give more than a policy uses. The action before is the controller's to give.
    """
    offered = [*robot.observations, *([robot.instruction.name] if robot.instruction else [])]
    for name, spec in observation.items():
        if name == PREVIOUS_ACTION:
            continue
        if name not in offered:
            raise UserError(
                f"the artifact is for other observation names: it needs {name!r}, which robot {robot.name!r} does not"
                f" have{nearest(name, offered)}"
            )
        if robot.instruction is not None and name == robot.instruction.name:
            if not isinstance(spec, TextSpec):
                raise UserError(f"observation {name!r} is {spec.kind} in the artifact but words on the robot")
            continue
        _check_observation(name, spec, robot.observations[name])
    if not isinstance(action, BoxSpec) or action.shape != (len(robot.action.fields),):
        raise UserError(
            f"the artifact's action is {action.kind} of shape {action.shape}; robot {robot.name!r} takes"
            f" {len(robot.action.fields)} numbers ({', '.join(robot.action.fields)})"
        )
    if rate_hz > robot.rate_hz:
        raise UserError(
            f"the artifact runs at {rate_hz:g} Hz but robot {robot.name!r} senses at {robot.rate_hz:g} Hz;"
            " raise rate_hz there or train at a lower rate"
        )


def _check_observation(name: str, spec: Spec, config: ObservationConfig) -> None:
    source = config.source
    wants_integers = isinstance(source, LabelImage)
    fits = isinstance(spec, MultiDiscreteSpec) if wants_integers else isinstance(spec, BoxSpec)
    if not fits or spec.shape != source.shape:
        kind = "integers" if wants_integers else "numbers"
        raise UserError(
            f"observation {name!r} is {spec.kind} of shape {spec.shape} in the artifact, but the robot gives"
            f" {kind} of shape {source.shape}; correct the robot's YAML or use another artifact"
        )
    if spec.unit and config.unit and spec.unit != config.unit:
        raise UserError(f"observation {name!r} is in {spec.unit} in the artifact but in {config.unit} on the robot")


def _require(holds: bool, key: str, value: object, constraint: str) -> None:
    if not holds:
        raise UserError(f"{key} is {value!r}; it must be {constraint}")


def _require_positive(config: object, *keys: str) -> None:
    for key in keys:
        value = getattr(config, key)
        _require(value is None or 0 < value < math.inf, key, value, "a finite number above 0, or null")


def _check_topic(topic: str) -> None:
    words = topic.removeprefix("/").split("/")
    if not topic.startswith("/") or not all(w.replace("_", "a").isalnum() and not w[0].isdigit() for w in words):
        raise UserError(f"topic {topic!r} must be absolute, like /scan: words of letters, digits and _ between /")
