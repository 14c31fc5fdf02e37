"""`Node`, as in `rclpy.node`."""

from __future__ import annotations

from typing import Any

from ros_bridge.messages import load
from ros_bridge.names import expand
from ros_bridge.rclpy import _ros_arguments as ros_arguments
from ros_bridge.rclpy._graph import NodeGraph
from ros_bridge.rclpy._node_entities import NodeEntities
from ros_bridge.rclpy._node_parameters import NodeParameters
from ros_bridge.rclpy._rosout import Rosout
from ros_bridge.rclpy.clock import Clock, JumpThreshold, ROSClock
from ros_bridge.rclpy.context import Context, get_default_context
from ros_bridge.rclpy.duration import Duration
from ros_bridge.rclpy.exceptions import NotInitializedException
from ros_bridge.rclpy.logging import RcutilsLogger, get_logger
from ros_bridge.rclpy.logging_service import LoggingService
from ros_bridge.rclpy.parameter import Parameter
from ros_bridge.rclpy.parameter_service import ParameterService
from ros_bridge.rclpy.publisher import Publisher
from ros_bridge.rclpy.qos import qos_profile_parameter_events
from ros_bridge.rclpy.time_source import TimeSource
from ros_bridge.rclpy.validate_full_topic_name import validate_full_topic_name
from ros_bridge.rclpy.validate_namespace import validate_namespace
from ros_bridge.rclpy.validate_node_name import validate_node_name
from ros_bridge.rclpy.validate_topic_name import validate_topic_name

HIDDEN_NODE_PREFIX = "_"


class Node(NodeEntities, NodeParameters, NodeGraph):
    """A node on the connection of its context. Arguments and methods as in rclpy 7.1."""

    def __init__(
        self,
        node_name: str,
        *,
        context: Context | None = None,
        cli_args: list[str] | None = None,
        namespace: str | None = None,
        use_global_arguments: bool = True,
        enable_rosout: bool = True,
        start_parameter_services: bool = True,
        parameter_overrides: list[Parameter] | None = None,
        allow_undeclared_parameters: bool = False,
        automatically_declare_parameters_from_overrides: bool = False,
        enable_logger_service: bool = False,
    ) -> None:
        self._context = get_default_context() if context is None else context
        if not self._context.ok():
            raise NotInitializedException("cannot create node")
        local = [ros_arguments.parse(cli_args)] if cli_args else []
        #: ROS arguments, the node's own before the program's.
        self._arguments = [*local, *([self._context.arguments] if use_global_arguments else [])]
        self._name, self._namespace = self._names(node_name, namespace or "")
        overrides = {
            name: Parameter(name, value=value)
            for name, value in ros_arguments.overrides(self._arguments, self.get_fully_qualified_name()).items()
        }
        overrides.update({parameter.name: parameter for parameter in parameter_overrides or ()})
        super().__init__(overrides=overrides, allow_undeclared=allow_undeclared_parameters)
        self._connection = self._context.connection
        self._executor: Any = None
        self._logger = get_logger(self.get_fully_qualified_name()[1:].replace("/", "."))
        says_rosout = enable_rosout and all(arguments.rosout for arguments in self._arguments)
        self._rosout = Rosout(self._connection, self._logger.name) if says_rosout else None
        self._parameter_event_publisher: Publisher | None = self.create_publisher(
            load("rcl_interfaces/msg/ParameterEvent"), "/parameter_events", qos_profile_parameter_events
        )
        self._clock = ROSClock()
        every_jump = JumpThreshold(min_forward=Duration(nanoseconds=1), min_backward=Duration(nanoseconds=-1))
        self._jumps = self._clock.create_jump_callback(every_jump, post_callback=lambda _: self.wake())
        if automatically_declare_parameters_from_overrides:
            entries = [(name, parameter.value) for name, parameter in self._parameter_overrides.items()]
            self.declare_parameters("", entries, ignore_override=True)
        self._time_source = TimeSource(node=self)
        self._time_source.attach_clock(self._clock)
        if start_parameter_services:
            self._parameter_service = ParameterService(self)
        if enable_logger_service:
            self._logger_service = LoggingService(self)

    def _names(self, node_name: str, namespace: str) -> tuple[str, str]:
        """Valid name and absolute namespace, remapped."""
        validate_node_name(node_name)
        namespace = namespace if namespace.startswith("/") else f"/{namespace}"
        validate_namespace(namespace)
        return ros_arguments.remap_node(self._arguments, node_name, namespace)

    # -- names and tools -----------------------------------------------------------------------

    @property
    def context(self) -> Context:
        """The context this node belongs to."""
        return self._context

    @property
    def executor(self) -> Any:
        """The executor this node was added to, or None."""
        return self._executor

    @executor.setter
    def executor(self, new_executor: Any) -> None:
        if new_executor is self._executor:
            return
        if self._executor is not None:
            self._executor.remove_node(self)
        self._executor = new_executor
        if new_executor is not None:
            new_executor.add_node(self)

    def get_name(self) -> str:
        """Name without namespace."""
        return self._name

    def get_namespace(self) -> str:
        """Namespace, with a leading slash."""
        return self._namespace

    def get_fully_qualified_name(self) -> str:
        """Namespace and name."""
        return f"{self._namespace.rstrip('/')}/{self._name}"

    def get_logger(self) -> RcutilsLogger:
        """The node's logger."""
        return self._logger

    def get_clock(self) -> Clock:
        """The node's clock: system time, or `/clock` while the parameter `use_sim_time` is true."""
        return self._clock

    def resolve_topic_name(self, topic: str, *, only_expand: bool = False) -> str:
        """Absolute name of `topic`, remapped."""
        return self._resolve(topic, only_expand, is_service=False)

    def resolve_service_name(self, service: str, *, only_expand: bool = False) -> str:
        """Absolute name of `service`, remapped."""
        return self._resolve(service, only_expand, is_service=True)

    def _resolve(self, name: str, only_expand: bool, *, is_service: bool) -> str:
        full_name = expand(name, self._name, self._namespace)
        if only_expand:
            return full_name
        return ros_arguments.remap_name(self._arguments, full_name, self._name, self._namespace, is_service=is_service)

    def _full_name(self, name: str, *, is_service: bool = False) -> str:
        """`_resolve`, with the exceptions that the `create_` methods raise."""
        validate_topic_name(name, is_service=is_service)
        full_name = self._resolve(name, False, is_service=is_service)
        validate_full_topic_name(full_name, is_service=is_service)
        return full_name

    # -- ending --------------------------------------------------------------------------------

    def destroy_node(self) -> None:
        """Destroy everything this node made."""
        self._parameter_event_publisher = None
        self.destroy_entities()
        if self._rosout is not None:
            self._rosout.destroy()
            self._rosout = None
        if self._executor is not None:
            self._executor.remove_node(self)

    # -- for the executor ----------------------------------------------------------------------

    def wake(self) -> None:
        """Let the executor look at this node. Any thread."""
        executor = self._executor
        if executor is not None:
            executor.wake()

    def _publish_parameter_event(self, event: Any) -> None:
        event.stamp = self._clock.now().to_msg()
        # An event during an outage is lost, like every message.
        if self._parameter_event_publisher is not None and self._connection.connected:
            self._parameter_event_publisher.publish(event)
