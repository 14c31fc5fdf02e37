"""The robot's time on this machine, for stamps that a `command_guard` beside the robot's driver compares with its own.

The guard publishes its time ten times a second. A time that arrives is older than the robot's clock by its journey, so
the newest of the last ones, each carried on by this machine's steady clock, is never ahead of the robot's clock: no
command can look younger than it is, however far apart the two machines' clocks are and however they are set.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ros_bridge.backend import Node, QoSProfile, ReliabilityPolicy, load

#: Times that are compared: two seconds of them.
WINDOW = 20
#: Without a time for so long none is known: clocks drift apart, by some milliseconds at most until then.
MAX_SILENCE_S = 60.0
#: The robot's time does not go back by less; by more, its clock was set.
_SET_BACK_NS = 1_000_000_000


class RobotTime:
    """Hears the robot's time, and tells it, on any thread. `clock` is this machine's, steady, in nanoseconds."""

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._offsets: deque[int] = deque(maxlen=WINDOW)
        self._heard_at = 0
        self._told = 0

    def hear(self, robot_ns: int) -> None:
        """A time of the robot's clock has arrived just now."""
        with self._lock:
            self._heard_at = self._clock()
            self._offsets.append(robot_ns - self._heard_at)

    def now_ns(self) -> int | None:
        """The robot's time, by the journey of the quickest message late; None when it is not known."""
        with self._lock:
            now = self._clock()
            if not self._offsets or now - self._heard_at > MAX_SILENCE_S * 1e9:
                self._offsets.clear()
                self._told = 0
                return None
            told = now + max(self._offsets)
            if 0 < self._told - told < _SET_BACK_NS:
                # The quickest message has left the window. What was true then is not too late now.
                told = self._told
            self._told = told
            return told


def stamper(node: Node, topic: str | None) -> Callable[[], Any]:
    """What gives the stamps of commands, builtin_interfaces/msg/Time: the node's time, or the robot's.

    The robot's is heard on `topic`. As long as it is not known commands look as old as can be, so that nobody obeys
    them; to many a driver a stamp of zero would mean now.
    """
    if topic is None:
        return lambda: node.get_clock().now().to_msg()
    kind, robot_time = load("builtin_interfaces/msg/Time"), RobotTime()
    qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    node.create_subscription(kind, topic, lambda message: robot_time.hear(nanoseconds(message)), qos)

    def stamp() -> Any:
        seconds, rest = divmod(robot_time.now_ns() or 1, 1_000_000_000)
        return kind(sec=seconds, nanosec=rest)

    return stamp


def nanoseconds(stamp: Any) -> int:
    """A builtin_interfaces/msg/Time as one number."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
