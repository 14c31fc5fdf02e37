"""Quality of service, as in `rclpy.qos`.

Over rosbridge the server chooses the DDS settings. What the bridge honours: `depth` (the bound of our own
queue; 1 is a mailbox that keeps the newest) and `durability=TRANSIENT_LOCAL` of publishers (rosbridge's
latch). Deadlines, lifespans and liveliness it cannot honour: they are warned about once, by name.
"""

from __future__ import annotations

import logging
import warnings
from enum import Enum, IntEnum
from typing import Any

from ros_bridge.rclpy.duration import Duration

LOGGER = logging.getLogger("ros_bridge")

#: The bound that stands in for KEEP_ALL: no queue of this package grows without end.
KEEP_ALL_DEPTH = 1000


class InvalidQoSProfileException(Exception):
    """The arguments contradict each other."""

    def __init__(self, *args: object) -> None:
        super().__init__("Invalid QoSProfile", *args)


class QoSPolicyKind(IntEnum):
    """The policies by number."""

    INVALID = 1 << 0
    DURABILITY = 1 << 1
    DEADLINE = 1 << 2
    LIVELINESS = 1 << 3
    RELIABILITY = 1 << 4
    HISTORY = 1 << 5
    LIFESPAN = 1 << 6
    DEPTH = 1 << 7
    LIVELINESS_LEASE_DURATION = 1 << 8
    AVOID_ROS_NAMESPACE_CONVENTIONS = 1 << 9


def qos_policy_name_from_kind(policy_kind: QoSPolicyKind | int) -> str:
    """The policy's name."""
    return QoSPolicyKind(policy_kind).name


class QoSPolicyEnum(IntEnum):
    """What the policies share: names for command lines."""

    @classmethod
    def short_keys(cls) -> list[str]:
        """The values' names in small letters."""
        return [name.lower() for name in cls.__members__]

    @classmethod
    def get_from_short_key(cls, name: str) -> int:
        """The value of such a name."""
        return cls[name.upper()].value

    @property
    def short_key(self) -> str:
        """The name in small letters."""
        return self.name.lower()


class HistoryPolicy(QoSPolicyEnum):
    """How many messages are kept."""

    SYSTEM_DEFAULT = 0
    KEEP_LAST = 1
    KEEP_ALL = 2
    UNKNOWN = 3


class ReliabilityPolicy(QoSPolicyEnum):
    """Whether lost messages are sent again."""

    SYSTEM_DEFAULT = 0
    RELIABLE = 1
    BEST_EFFORT = 2
    UNKNOWN = 3
    BEST_AVAILABLE = 4


class DurabilityPolicy(QoSPolicyEnum):
    """Whether late subscribers get what was published before."""

    SYSTEM_DEFAULT = 0
    TRANSIENT_LOCAL = 1
    VOLATILE = 2
    UNKNOWN = 3
    BEST_AVAILABLE = 4


class LivelinessPolicy(QoSPolicyEnum):
    """How a publisher proves that it lives."""

    SYSTEM_DEFAULT = 0
    AUTOMATIC = 1
    MANUAL_BY_TOPIC = 3
    UNKNOWN = 4
    BEST_AVAILABLE = 5


QoSHistoryPolicy = HistoryPolicy
QoSReliabilityPolicy = ReliabilityPolicy
QoSDurabilityPolicy = DurabilityPolicy
QoSLivelinessPolicy = LivelinessPolicy

_POLICIES: dict[str, type[QoSPolicyEnum]] = {
    "history": HistoryPolicy,
    "reliability": ReliabilityPolicy,
    "durability": DurabilityPolicy,
    "liveliness": LivelinessPolicy,
}
_DURATIONS = ("lifespan", "deadline", "liveliness_lease_duration")
_DEFAULTS: dict[str, Any] = {
    "history": HistoryPolicy.KEEP_LAST,
    "depth": 10,
    "reliability": ReliabilityPolicy.RELIABLE,
    "durability": DurabilityPolicy.VOLATILE,
    "lifespan": Duration(),
    "deadline": Duration(),
    "liveliness": LivelinessPolicy.SYSTEM_DEFAULT,
    "liveliness_lease_duration": Duration(),
    "avoid_ros_namespace_conventions": False,
}
_NOT_HONOURED = ("lifespan", "deadline", "liveliness", "liveliness_lease_duration")
_warned: set[str] = set()


class QoSProfile:
    """Keyword arguments as in rclpy: history, depth, reliability, durability, and those warned about."""

    history: HistoryPolicy
    depth: int
    reliability: ReliabilityPolicy
    durability: DurabilityPolicy
    lifespan: Duration
    deadline: Duration
    liveliness: LivelinessPolicy
    liveliness_lease_duration: Duration
    avoid_ros_namespace_conventions: bool

    def __init__(self, **kwargs: Any) -> None:
        assert set(kwargs) <= set(_DEFAULTS), f"Invalid arguments passed to constructor: {kwargs.keys()}"
        if "history" not in kwargs and "depth" not in kwargs:
            raise InvalidQoSProfileException("History and/or depth settings are required.")
        if kwargs.get("history", HistoryPolicy.KEEP_LAST) == HistoryPolicy.KEEP_LAST and "depth" not in kwargs:
            raise InvalidQoSProfileException("History set to KEEP_LAST without a depth setting.")
        for name, default in _DEFAULTS.items():
            setattr(self, name, kwargs.get(name, default))

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _POLICIES:
            assert isinstance(value, int)
            value = _POLICIES[name](value)
        elif name in _DURATIONS:
            assert isinstance(value, Duration)
        elif name == "depth":
            assert isinstance(value, int)
            if value < 0:
                raise ValueError(f"depth must not be negative, not {value}")
            if value == 0 and self.history == HistoryPolicy.KEEP_LAST:
                warnings.warn(
                    "A zero depth with KEEP_LAST doesn't make sense; no data could be stored. "
                    "This will be interpreted as SYSTEM_DEFAULT",
                    stacklevel=3,
                )
        elif name == "avoid_ros_namespace_conventions":
            assert isinstance(value, bool)
        else:
            raise AttributeError(f"QoSProfile has no policy {name!r}")
        object.__setattr__(self, name, value)

    @property
    def bound(self) -> int:
        """Largest number of messages kept; not part of rclpy's interface."""
        return KEEP_ALL_DEPTH if self.history == HistoryPolicy.KEEP_ALL else max(1, self.depth)

    @property
    def latch(self) -> bool:
        """Whether a publisher keeps its last message for late subscribers; not part of rclpy's interface."""
        return self.durability == DurabilityPolicy.TRANSIENT_LOCAL

    def warn_of_what_is_not_honoured(self) -> None:
        """One line for each such policy in a process; not part of rclpy's interface."""
        for name in _NOT_HONOURED:
            if getattr(self, name) != _DEFAULTS[name] and name not in _warned:
                _warned.add(name)
                LOGGER.warning("QoS policy %s cannot be honoured over rosbridge and is ignored", name)

    def get_c_qos_profile(self) -> Any:
        """Not here."""
        raise NotImplementedError("get_c_qos_profile: there is no rmw on this side of rosbridge")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QoSProfile) and vars(other) == vars(self)

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return f"QoSProfile({', '.join(f'{name}={getattr(self, name)}' for name in _DEFAULTS)})"


def profile(qos_profile: QoSProfile | int) -> QoSProfile:
    """A depth stands for a default profile of that depth; not part of rclpy's interface."""
    if isinstance(qos_profile, QoSProfile):
        qos_profile.warn_of_what_is_not_honoured()
        return qos_profile
    if not isinstance(qos_profile, int):
        raise TypeError(f"Expected QoSProfile or int, but received {type(qos_profile)!r}")
    if qos_profile < 0:
        raise ValueError("history depth must be greater than or equal to zero")
    return QoSProfile(depth=qos_profile)


def qos_check_compatible(publisher_qos: QoSProfile, subscription_qos: QoSProfile) -> Any:
    """Not here."""
    raise NotImplementedError("qos_check_compatible: the rosbridge server chooses the DDS settings")


_UNKNOWN = {"reliability": 3, "durability": 3, "liveliness": 4}
_SYSTEM_DEFAULT = {"reliability": 0, "durability": 0, "liveliness": 0}
#: Longest span there is: no deadline.
DeadlineBestAvailable = Duration(seconds=9223372036, nanoseconds=854775806)
LivelinessLeaseDurationeBestAvailable = DeadlineBestAvailable

qos_profile_unknown = QoSProfile(history=3, depth=0, **_UNKNOWN)
qos_profile_default = QoSProfile(depth=10)
qos_profile_system_default = QoSProfile(history=0, depth=0, **_SYSTEM_DEFAULT)
qos_profile_sensor_data = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
qos_profile_services_default = QoSProfile(depth=10)
qos_profile_parameters = QoSProfile(depth=1000)
qos_profile_parameter_events = QoSProfile(depth=1000)
qos_profile_best_available = QoSProfile(
    depth=10,
    reliability=ReliabilityPolicy.BEST_AVAILABLE,
    durability=DurabilityPolicy.BEST_AVAILABLE,
    deadline=DeadlineBestAvailable,
    liveliness=LivelinessPolicy.BEST_AVAILABLE,
    liveliness_lease_duration=DeadlineBestAvailable,
)
qos_profile_action_status_default = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class QoSPresetProfiles(Enum):
    """The profiles above by name."""

    UNKNOWN = qos_profile_unknown
    DEFAULT = qos_profile_default
    SYSTEM_DEFAULT = qos_profile_system_default
    SENSOR_DATA = qos_profile_sensor_data
    SERVICES_DEFAULT = qos_profile_services_default
    PARAMETERS = qos_profile_parameters
    PARAMETER_EVENTS = qos_profile_parameter_events
    ACTION_STATUS_DEFAULT = qos_profile_action_status_default
    BEST_AVAILABLE = qos_profile_best_available

    @classmethod
    def short_keys(cls) -> list[str]:
        """The profiles' names in small letters."""
        return [name.lower() for name in cls.__members__]

    @classmethod
    def get_from_short_key(cls, name: str) -> QoSProfile:
        """The profile of such a name."""
        return cls[name.upper()].value
