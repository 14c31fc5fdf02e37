"""A robot in one YAML file: which topics are which observations, and how an action becomes a command.

See `configs/robots/`. Every observation has a topic and exactly one source block (`observation_sources`), which says
what message is expected there and how it is read; `action_config` has the way back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from mcsd_agent.errors import UserError, nearest
from mcsd_agent.runtime.previous_action import NAME as PREVIOUS_ACTION
from mcsd_agent.spaces import BoxSpec, MultiDiscreteSpec, Spec, TextSpec
from mcsd_agent.strict import build, load_yaml
from ros_bridge.action_config import TIME, ActionConfig, per_entry
from ros_bridge.camera_config import Camera
from ros_bridge.config_checks import require, require_positive, require_topic
from ros_bridge.observation_sources import Fields, Imu, Joints, LabelImage, NumberArray, Odometry, Scan, Source
from ros_bridge.units import factor

#: What is expected on the topics that people publish on.
OPERATOR_TYPES = {
    "instruction": "std_msgs/msg/String",
    "heartbeat": "std_msgs/msg/Empty",
    "emergency_stop": "std_msgs/msg/Bool",
}
_SOURCES = ("scan", "label_image", "camera", "joints", "odometry", "imu", "array", "fields")


@dataclass(frozen=True)
class ObservationConfig:
    """One observation: where it comes from and how old it may be when the policy uses it.

    `rate_hz`: how often it comes, where that is not the robot's rate.
    `message`: the ROS type, where the source can read several. The value is `read * scale + offset`, within `clip`;
    `message_unit` is converted to `unit` before that. `max_frozen_s`: for how long it may repeat itself to the last
    bit; None: for ever.
    """

    topic: str
    max_age_s: float
    unit: str = ""
    max_frozen_s: float | None = None
    rate_hz: float | None = None
    message: str = ""
    message_unit: str = ""
    scale: float | tuple[float, ...] | None = None
    offset: float | tuple[float, ...] | None = None
    clip: tuple[float, float] | None = None
    scan: Scan | None = None
    label_image: LabelImage | None = None
    camera: Camera | None = None
    joints: Joints | None = None
    odometry: Odometry | None = None
    imu: Imu | None = None
    array: NumberArray | None = None
    fields: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        require_topic(self.topic)
        require(self.max_age_s > 0, "max_age_s", self.max_age_s, "above 0")
        require_positive(self, "max_frozen_s", "rate_hz")
        if self.rate_hz is not None:
            least = 1 / self.rate_hz
            require(
                self.max_age_s >= least, "max_age_s", self.max_age_s, f"at least the sensor's period, {least:.3g} s"
            )
        given = [name for name in _SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            raise UserError(
                f"observation on {self.topic!r} has {len(given)} sources; give exactly one of {', '.join(_SOURCES)}"
            )
        types = self.source.message_types
        if not types and self.message.count("/") != 2:
            raise UserError(f"message is {self.message!r}; with fields it must be a type like geometry_msgs/msg/Pose")
        if types and self.message and self.message not in types:
            raise UserError(f"message is {self.message!r}; {given[0]} reads {' or '.join(types)}")
        if self.message_unit:
            require(bool(self.unit), "unit", self.unit, "given with message_unit")
            factor(self.message_unit, self.unit)
        if self.is_transformed and self.source.dtype == "int64":
            raise UserError(f"{given[0]} gives class ids; scale, offset, clip and message_unit make no sense there")
        for key in ("scale", "offset"):
            value, shape = getattr(self, key), self.source.shape
            if isinstance(value, tuple):
                require(len(value) == math.prod(shape), key, list(value), f"one number, or {math.prod(shape)}")
            require(value is None or all(map(math.isfinite, per_entry(value, 1))), key, value, "finite")
        if self.clip is not None:
            require(self.clip[0] < self.clip[1], "clip", list(self.clip), "[low, high] with low < high")

    @property
    def source(self) -> Source:
        if self.fields is not None:
            return Fields.of(self.fields)
        source = next(getattr(self, name) for name in _SOURCES if getattr(self, name) is not None)
        assert not isinstance(source, tuple)
        return source

    @property
    def message_type(self) -> str:
        """The ROS type that is expected on the topic."""
        types: tuple[str, ...] = self.source.message_types
        return self.message or types[0]

    @property
    def is_transformed(self) -> bool:
        """Whether the numbers in the message are changed."""
        return bool(self.message_unit) or any(v is not None for v in (self.scale, self.offset, self.clip))

    @property
    def dtype(self) -> str:
        """Of the observation: float32, uint8 for untouched pixels, int64 for class ids."""
        return "float32" if self.is_transformed else self.source.dtype


@dataclass(frozen=True)
class InstructionConfig:
    """Instructions in words. `spoken_ticks`: for how many ticks the policy sees one; None: until the next.

    Where the policy predicts success, a goal is done when it has been `done_threshold` or more for `done_s`.
    """

    topic: str
    name: str = "instruction"
    spoken_ticks: int | None = None
    done_threshold: float = 0.8
    done_s: float = 0.5

    def __post_init__(self) -> None:
        require_topic(self.topic)
        require_positive(self, "done_s")
        ticks, threshold = self.spoken_ticks, self.done_threshold
        require(ticks is None or ticks >= 1, "instruction.spoken_ticks", ticks, "at least 1, or null")
        require(0 < threshold < 1, "instruction.done_threshold", threshold, "above 0 and below 1")


@dataclass(frozen=True)
class HeartbeatConfig:
    """A std_msgs/msg/Empty that an operator's program publishes; without one for `max_silence_s` the robot stops."""

    topic: str
    max_silence_s: float

    def __post_init__(self) -> None:
        require_topic(self.topic)
        require_positive(self, "max_silence_s")


@dataclass(frozen=True)
class EmergencyStopConfig:
    """A std_msgs/msg/Bool: true stops the robot at once and for good, until it is false and `~/enable` is called."""

    topic: str

    def __post_init__(self) -> None:
        require_topic(self.topic)


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
    on_unknown_instruction: Literal["hold", "go_on"] = "hold"
    max_unknown_share: float = 0.0
    max_instruction_distance: float | None = None
    on_telemetry_loss: Literal["stop", "go_on"] = "stop"

    def __post_init__(self) -> None:
        require_positive(
            self,
            "late_tolerance_s",
            "max_clock_jump_s",
            "max_state_growth",
            "state_norm_ticks",
            "max_instruction_distance",
        )
        if not 0.0 <= self.max_unknown_share <= 1.0:
            raise UserError(f"max_unknown_share={self.max_unknown_share} must be from 0 to 1")


@dataclass(frozen=True)
class RobotConfig:
    """Everything the policy node and the simulated robot must agree on.

    `interfaces`: a folder with the `package/msg/Name.msg` of messages that ROS does not ship, beside the YAML file;
    only used over rosbridge.
    """

    name: str
    rate_hz: float
    watchdog_s: float
    observations: Mapping[str, ObservationConfig]
    action: ActionConfig
    instruction: InstructionConfig | None = None
    heartbeat: HeartbeatConfig | None = None
    emergency_stop: EmergencyStopConfig | None = None
    interfaces: Path | None = None
    safety: SafetyConfig = field(default_factory=SafetyConfig)

    def __post_init__(self) -> None:
        require(0 < self.rate_hz <= 1000, "rate_hz", self.rate_hz, "in (0, 1000]")
        require(self.watchdog_s >= 1 / self.rate_hz, "watchdog_s", self.watchdog_s, "at least one period")
        require(bool(self.observations), "observations", {}, "at least one observation")
        if self.instruction is not None and self.instruction.name in self.observations:
            raise UserError(f"{self.instruction.name!r} is both the instruction and an observation; rename one")
        if self.action.hold_from is not None:
            self._check_hold(self.action.hold_from)
        self._check_topics()

    def topics(self) -> list[tuple[str, str, str]]:
        """The key, the topic and the ROS type of everything that is heard and said."""
        found = [(f"observations.{name}", o.topic, o.message_type) for name, o in self.observations.items()]
        for key, ros_type in OPERATOR_TYPES.items():
            config = getattr(self, key)
            if config is not None:
                found.append((key, config.topic, ros_type))
        found.append(("action", self.action.topic, self.action.message))
        if self.action.time_topic is not None:
            found.append(("action.time_topic", self.action.time_topic, TIME))
        return found

    def _check_topics(self) -> None:
        """A topic has one type; its second use with another one would fail only once the robot is connected."""
        first: dict[str, tuple[str, str]] = {}
        for key, topic, ros_type in self.topics():
            other, known = first.setdefault(topic, (key, ros_type))
            if known != ros_type:
                raise UserError(
                    f"{key} is {ros_type} on {topic!r}, where {other} is {known}; a topic has one type:"
                    " give one of them another topic"
                )

    def _check_hold(self, name: str) -> None:
        joints = self.observations[name].joints if name in self.observations else None
        if joints is None or joints.quantity != "position":
            known = [n for n, o in self.observations.items() if o.joints and o.joints.quantity == "position"]
            raise UserError(f"action.hold_from is {name!r}; it must be a joints observation of positions: {known}")
        missing = [joint for joint in self.action.fields if joint not in joints.names]
        if missing or self.observations[name].is_transformed:
            what = f"no joint {missing[0]!r}" if missing else "a scale, offset, clip or message_unit"
            raise UserError(f"action.hold_from: observation {name!r} has {what}; a stop needs the joints as they are")


def load_robot(path: str | Path) -> RobotConfig:
    """The robot in a YAML file; `UserError` names the file, the key, its value and the constraint."""
    data = load_yaml(path)
    try:
        config = build(RobotConfig, data)
    except UserError as error:
        raise UserError(f"robot {str(path)!r}: {error}") from None
    if config.interfaces is None:
        return config
    return replace(config, interfaces=Path(path).parent / config.interfaces)


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
    dtype, shape = config.dtype, config.source.shape
    if dtype == "int64":
        kind, fits = "integers", isinstance(spec, MultiDiscreteSpec)
    elif dtype == "uint8":
        kind, fits = "uint8 pixels", isinstance(spec, BoxSpec) and spec.dtype == "uint8"
    else:
        kind, fits = "numbers", isinstance(spec, BoxSpec) and spec.dtype != "uint8"
    if not fits or spec.shape != shape:
        what = f"{spec.kind} of {spec.dtype}" if spec.shape == shape else spec.kind
        raise UserError(
            f"observation {name!r} is {what} of shape {spec.shape} in the artifact, but the robot gives"
            f" {kind} of shape {shape}; correct the robot's YAML or use another artifact"
        )
    if spec.unit and config.unit and spec.unit != config.unit:
        raise UserError(f"observation {name!r} is in {spec.unit} in the artifact but in {config.unit} on the robot")
