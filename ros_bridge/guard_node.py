"""The guard of commands, a node that runs on the robot beside the driver: `mcsd-agent guard`.

It hears stamped commands, passes on those that are fresh by the robot's own clock, and tells the driver to stop when
none has come for a while. The driver's topic must have no other publisher.

    ~/time    builtin_interfaces/Time          the robot's time, ten times a second, for whoever stamps commands
    ~/status  diagnostic_msgs/DiagnosticArray  every second: passing or stopped, and how many were refused for what

A guard over rosbridge, beside a server that stalls, cannot vouch for what becomes of its own commands in that server.
"""

from __future__ import annotations

import time
from typing import Any

from ros_bridge import own_types
from ros_bridge.action_config import TRAJECTORY
from ros_bridge.backend import NATIVE, Clock, ClockType, Duration, Node, QoSProfile, ReliabilityPolicy, load
from ros_bridge.command_guard import Gate, GuardConfig
from ros_bridge.robot_time import nanoseconds
from ros_bridge.status_publisher import OK, WARN, StatusPublisher

TIME_PERIOD_S, STATUS_PERIOD_S = 0.1, 1.0
#: Between the last stop command and the end of its publisher, which would take along what DDS has not sent yet.
_FAREWELL_S = 0.1


class CommandGuard(Node):
    """Passes commands on as `config` says. Raises `UserError` for a type that is not installed."""

    def __init__(self, config: GuardConfig, node_name: str = "command_guard") -> None:
        own_types.register()
        kind, target_kind = load(config.message), load(config.target_type)
        super().__init__(node_name)
        self.config = config
        self.gate = Gate(config.max_age_s, config.max_ahead_s)
        #: How many times the driver was told to stop.
        self.stops = 0
        self._kind = kind
        self._last: Any = None
        self._is_passing = False
        self._stop_at = time.monotonic() + config.timeout_s
        # Natively a command that DDS has not delivered in time is not delivered at all.
        lifespan = {"lifespan": Duration(seconds=config.max_age_s)} if NATIVE else {}
        self._driver = self.create_publisher(target_kind, config.target, QoSProfile(depth=1, **lifespan))
        self._times = self.create_publisher(load("builtin_interfaces/msg/Time"), "~/time", QoSProfile(depth=1))
        self._statuses = StatusPublisher(self, config.target)
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.create_subscription(kind, config.source, self._hear, newest)
        # Timers on the node's clock would stand still when that is set back.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(TIME_PERIOD_S, self._tell_time, clock=steady)
        self.create_timer(config.timeout_s / 4, self._watch, clock=steady)
        self.create_timer(STATUS_PERIOD_S, self._report, clock=steady)
        self.get_logger().info(
            f"guarding {config.target}: {config.message} from {config.source}, at most {config.max_age_s:g} s old"
        )

    def counts(self) -> dict[str, int]:
        """Commands passed on and refused, by cause, and how many times the driver was told to stop."""
        return {**self.gate.counts, "stops": self.stops}

    def stop(self) -> None:
        """Tell the driver to stop, where there is a command that does."""
        message = self._kind()
        if self.config.message == TRAJECTORY:
            if not _zero(message, self._last):
                return
        elif self._last is not None:
            message.header.frame_id = self._last.header.frame_id
        message.header.stamp = self.get_clock().now().to_msg()
        self.stops += 1
        self._send(message)

    def destroy_node(self) -> None:
        """Tell the driver to stop, and end."""
        if self.context.ok():
            self.stop()
            time.sleep(_FAREWELL_S)
        super().destroy_node()

    def _hear(self, message: Any) -> None:
        now_ns = self.get_clock().now().nanoseconds
        stamp_ns = nanoseconds(message.header.stamp)
        cause = self.gate.refusal(stamp_ns, now_ns)
        if cause is not None:
            age = f", {1e-9 * (now_ns - stamp_ns):.3f} s old" if stamp_ns else ""
            self.get_logger().warning(
                f"a command is not passed on: {cause.replace('_', ' ')}{age}", throttle_duration_sec=1.0
            )
            return
        self._last, self._is_passing = message, True
        self._stop_at = time.monotonic() + self.config.timeout_s
        self._send(message)

    def _send(self, message: Any) -> None:
        if self.config.message == TRAJECTORY:
            # To begin now. A controller would take the stamp for a beginning in the past.
            message.header.stamp.sec = message.header.stamp.nanosec = 0
        part = self.config.part
        self._driver.publish(message if part is None else getattr(message, part))

    def _watch(self) -> None:
        if time.monotonic() >= self._stop_at:
            self._is_passing = False
            self._stop_at = time.monotonic() + self.config.timeout_s
            self.stop()

    def _tell_time(self) -> None:
        self._times.publish(self.get_clock().now().to_msg())

    def _report(self) -> None:
        values = {key: str(count) for key, count in self.counts().items()}
        level, word = (OK, "passing") if self._is_passing else (WARN, "stopped: nothing fresh comes")
        self._statuses.publish(level, word, values)


def _zero(message: Any, last: Any) -> bool:
    """Fill a trajectory that stops the joints of `last`; False where none is needed, or none is known.

    A controller holds the last position that it was sent by itself.
    """
    if last is None or not last.points or len(last.points[-1].positions):
        return False
    point = type(last.points[-1])(time_from_start=last.points[-1].time_from_start)
    for quantity in ("velocities", "effort"):
        setattr(point, quantity, [0.0] * len(getattr(last.points[-1], quantity)))
    message.joint_names, message.points = last.joint_names, [point]
    return True
