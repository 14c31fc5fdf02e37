"""`TimeSource`, as in `rclpy.time_source`: the parameter `use_sim_time` and the topic `/clock`."""

from __future__ import annotations

import weakref
from typing import Any

from ros_bridge.messages import load
from ros_bridge.rclpy._parameter_ranges import accept, refuse
from ros_bridge.rclpy.clock import ROSClock
from ros_bridge.rclpy.clock_type import ClockType
from ros_bridge.rclpy.parameter import Parameter
from ros_bridge.rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_bridge.rclpy.time import Time

CLOCK_TOPIC = "/clock"
USE_SIM_TIME_NAME = "use_sim_time"


class TimeSource:
    """Sets the time of its clocks from `/clock` while the node's `use_sim_time` is true."""

    def __init__(self, *, node: Any = None) -> None:
        self._clock_sub: Any = None
        self._node_weak_ref: Any = None
        self._associated_clocks: list[ROSClock] = []
        # Zero means: no time yet.
        self._last_time_set = Time(clock_type=ClockType.ROS_TIME)
        self._ros_time_is_active = False
        if node is not None:
            self.attach_node(node)

    @property
    def ros_time_is_active(self) -> bool:
        """Whether the clocks follow `/clock`."""
        return self._ros_time_is_active

    @ros_time_is_active.setter
    def ros_time_is_active(self, enabled: bool) -> None:
        if self._ros_time_is_active == enabled:
            return
        self._ros_time_is_active = enabled
        for clock in self._associated_clocks:
            clock._set_ros_time_is_active(enabled)
        node = self._get_node()
        if node is None:
            return
        if enabled:
            profile = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
            kind = load("rosgraph_msgs/msg/Clock")
            self._clock_sub = node.create_subscription(kind, CLOCK_TOPIC, self.clock_callback, profile)
        elif self._clock_sub is not None:
            node.destroy_subscription(self._clock_sub)
            self._clock_sub = None

    def attach_node(self, node: Any) -> None:
        """Follow the parameter of `node`."""
        from ros_bridge.rclpy.node import Node

        if not isinstance(node, Node):
            raise TypeError("Node must be of type rclpy.node.Node")
        if self._node_weak_ref is not None:
            self.detach_node()
        self._node_weak_ref = weakref.ref(node)
        if not node.has_parameter(USE_SIM_TIME_NAME):
            node.declare_parameter(USE_SIM_TIME_NAME, False)
        parameter = node.get_parameter(USE_SIM_TIME_NAME)
        if parameter.type_ is Parameter.Type.BOOL:
            self.ros_time_is_active = parameter.value
        elif parameter.type_ is not Parameter.Type.NOT_SET:
            node.get_logger().error(
                f"Invalid type for parameter '{USE_SIM_TIME_NAME}' {parameter.type_!r} should be bool"
            )
        node.add_on_set_parameters_callback(self._on_parameter_event)

    def detach_node(self) -> None:
        """Follow no node."""
        node = self._get_node()
        if self._clock_sub is not None:
            if node is None:
                raise RuntimeError("Unable to destroy previously created clock subscription")
            node.destroy_subscription(self._clock_sub)
        self._clock_sub = None
        self._node_weak_ref = None

    def attach_clock(self, clock: ROSClock) -> None:
        """Set this clock's time, too."""
        if not isinstance(clock, ROSClock):
            raise ValueError("Only clocks with type ROS_TIME can be attached.")
        clock.set_ros_time_override(self._last_time_set)
        clock._set_ros_time_is_active(self._ros_time_is_active)
        self._associated_clocks.append(clock)

    def clock_callback(self, msg: Any) -> None:
        """The subscription's callback."""
        self._last_time_set = Time.from_msg(msg.clock)
        for clock in self._associated_clocks:
            clock.set_ros_time_override(self._last_time_set)

    def _on_parameter_event(self, parameter_list: list[Parameter]) -> Any:
        for parameter in parameter_list:
            if parameter.name == USE_SIM_TIME_NAME:
                if parameter.type_ is not Parameter.Type.BOOL:
                    reason = f"{USE_SIM_TIME_NAME} parameter set to something besides a bool"
                    node = self._get_node()
                    if node is not None:
                        node.get_logger().error(reason)
                    return refuse(reason)
                self.ros_time_is_active = parameter.value
        return accept()

    def _get_node(self) -> Any:
        return None if self._node_weak_ref is None else self._node_weak_ref()
