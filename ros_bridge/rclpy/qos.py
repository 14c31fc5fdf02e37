"""Quality of service, as in `rclpy.qos`.

Over rosbridge the server chooses the DDS settings. What the bridge honours: `depth` (the bound of our own
queue; 1 is a mailbox that keeps the newest) and `durability=TRANSIENT_LOCAL` of publishers (rosbridge's
latch). Deadlines, lifespans and liveliness it cannot honour: they are warned about once, by name.
"""

from __future__ import annotations

import logging
from enum import IntEnum
from typing import Any

LOGGER = logging.getLogger("ros_bridge")

#: The bound that stands in for KEEP_ALL: no queue of this package grows without end.
KEEP_ALL_DEPTH = 1000


class InvalidQoSProfileException(Exception):
    """The arguments contradict each other."""

    def __init__(self, *args: object) -> None:
        super().__init__("Invalid QoSProfile", *args)


class QoSHistoryPolicy(IntEnum):
    """How many messages are kept."""

    SYSTEM_DEFAULT = 0
    KEEP_LAST = 1
    KEEP_ALL = 2
    UNKNOWN = 3


class QoSReliabilityPolicy(IntEnum):
    """Whether lost messages are sent again."""

    SYSTEM_DEFAULT = 0
    RELIABLE = 1
    BEST_EFFORT = 2
    UNKNOWN = 3
    BEST_AVAILABLE = 4


class QoSDurabilityPolicy(IntEnum):
    """Whether late subscribers get earlier messages."""

    SYSTEM_DEFAULT = 0
    TRANSIENT_LOCAL = 1
    VOLATILE = 2
    UNKNOWN = 3
    BEST_AVAILABLE = 4


class QoSLivelinessPolicy(IntEnum):
    """How a publisher proves that it lives."""

    SYSTEM_DEFAULT = 0
    AUTOMATIC = 1
    MANUAL_BY_TOPIC = 3
    UNKNOWN = 4
    BEST_AVAILABLE = 5


HistoryPolicy = QoSHistoryPolicy
ReliabilityPolicy = QoSReliabilityPolicy
DurabilityPolicy = QoSDurabilityPolicy
LivelinessPolicy = QoSLivelinessPolicy

_NOT_HONOURED = ("lifespan", "deadline", "liveliness", "liveliness_lease_duration")
_warned: set[str] = set()


class QoSProfile:
    """Keyword arguments as in rclpy: history, depth, reliability, durability, and those warned about."""

    def __init__(self, **kwargs: Any) -> None:
        known = {"history", "depth", "reliability", "durability", "avoid_ros_namespace_conventions", *_NOT_HONOURED}
        unknown = set(kwargs) - known
        assert not unknown, f"Invalid arguments passed to constructor: {sorted(unknown)}"
        if "history" not in kwargs and "depth" not in kwargs:
            raise InvalidQoSProfileException("History and/or depth settings are required.")
        self.history = QoSHistoryPolicy(kwargs.get("history", QoSHistoryPolicy.KEEP_LAST))
        if self.history == QoSHistoryPolicy.KEEP_LAST and "depth" not in kwargs:
            raise InvalidQoSProfileException("History set to KEEP_LAST without a depth setting.")
        self.depth = int(kwargs.get("depth", 10))
        if self.depth < 0:
            raise ValueError(f"depth must not be negative, not {self.depth}")
        self.reliability = QoSReliabilityPolicy(kwargs.get("reliability", QoSReliabilityPolicy.RELIABLE))
        self.durability = QoSDurabilityPolicy(kwargs.get("durability", QoSDurabilityPolicy.VOLATILE))
        self.liveliness = QoSLivelinessPolicy(kwargs.get("liveliness", QoSLivelinessPolicy.SYSTEM_DEFAULT))
        for name in _NOT_HONOURED:
            if kwargs.get(name) is not None and name not in _warned:
                _warned.add(name)
                LOGGER.warning("QoS policy %s cannot be honoured over rosbridge and is ignored", name)

    @property
    def bound(self) -> int:
        """Largest number of messages kept; not part of rclpy's interface."""
        return KEEP_ALL_DEPTH if self.history == QoSHistoryPolicy.KEEP_ALL else max(1, self.depth)

    @property
    def latch(self) -> bool:
        """Whether a publisher keeps its last message for late subscribers; not part of rclpy's interface."""
        return self.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL


def profile(qos_profile: QoSProfile | int) -> QoSProfile:
    """A depth stands for a default profile of that depth."""
    if isinstance(qos_profile, QoSProfile):
        return qos_profile
    if isinstance(qos_profile, bool) or not isinstance(qos_profile, int):
        raise TypeError(f"Expected QoSProfile or int, but received {type(qos_profile)}")
    return QoSProfile(depth=qos_profile)


qos_profile_default = QoSProfile(depth=10)
qos_profile_system_default = QoSProfile(depth=10)
qos_profile_services_default = QoSProfile(depth=10)
qos_profile_sensor_data = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.BEST_EFFORT)
