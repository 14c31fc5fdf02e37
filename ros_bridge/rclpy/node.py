"""`Node`, as in `rclpy.node`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ros_bridge.messages import load
from ros_bridge.names import expand
from ros_bridge.rclpy import _ros_arguments as ros_arguments
from ros_bridge.rclpy._graph import NodeGraph
from ros_bridge.rclpy._node_parameters import NodeParameters
from ros_bridge.rclpy._rosout import Rosout
from ros_bridge.rclpy.callback_groups import CallbackGroup, MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from ros_bridge.rclpy.client import Client
from ros_bridge.rclpy.clock import Clock, JumpThreshold, ROSClock
from ros_bridge.rclpy.constants import S_TO_NS
from ros_bridge.rclpy.context import Context, get_default_context
from ros_bridge.rclpy.duration import Duration
from ros_bridge.rclpy.exceptions import NotInitializedException
from ros_bridge.rclpy.guard_condition import GuardCondition
from ros_bridge.rclpy.logging import RcutilsLogger, get_logger
from ros_bridge.rclpy.logging_service import LoggingService
from ros_bridge.rclpy.parameter import Parameter
from ros_bridge.rclpy.parameter_service import ParameterService
from ros_bridge.rclpy.publisher import Publisher
from ros_bridge.rclpy.qos import (
    QoSProfile,
    profile,
    qos_profile_parameter_events,
    qos_profile_services_default,
)
from ros_bridge.rclpy.qos_overriding_options import QoSOverridingOptions, declare_qos_parameters
from ros_bridge.rclpy.service import Service
from ros_bridge.rclpy.subscription import Subscription
from ros_bridge.rclpy.time_source import TimeSource
from ros_bridge.rclpy.timer import Rate, Timer
from ros_bridge.rclpy.validate_full_topic_name import validate_full_topic_name
from ros_bridge.rclpy.validate_namespace import validate_namespace
from ros_bridge.rclpy.validate_node_name import validate_node_name
from ros_bridge.rclpy.validate_topic_name import validate_topic_name

HIDDEN_NODE_PREFIX = "_"
_NO_EVENTS = "event callbacks: rosbridge does not report DDS events"


class Node(NodeParameters, NodeGraph):
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
        super().__init__(overrides, allow_undeclared=allow_undeclared_parameters)
        self._connection = self._context.connection
        self._timers: list[Timer] = []
        self._subscriptions: list[Subscription] = []
        self._publishers: list[Publisher] = []
        self._clients: list[Client] = []
        self._services: list[Service] = []
        self._guards: list[GuardCondition] = []
        self._executor: Any = None
        self._default_callback_group: CallbackGroup = MutuallyExclusiveCallbackGroup()
        self._rate_group = ReentrantCallbackGroup()
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
    def default_callback_group(self) -> CallbackGroup:
        """The group of whatever is made without one."""
        return self._default_callback_group

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

    @property
    def timers(self) -> Iterator[Timer]:
        """Timers made and not destroyed."""
        yield from self._timers

    @property
    def subscriptions(self) -> Iterator[Subscription]:
        """Subscriptions made and not destroyed."""
        yield from self._subscriptions

    @property
    def publishers(self) -> Iterator[Publisher]:
        """Publishers made and not destroyed."""
        yield from self._publishers

    @property
    def clients(self) -> Iterator[Client]:
        """Clients made and not destroyed."""
        yield from self._clients

    @property
    def services(self) -> Iterator[Service]:
        """Services made and not destroyed."""
        yield from self._services

    @property
    def guards(self) -> Iterator[GuardCondition]:
        """Guard conditions made and not destroyed."""
        yield from self._guards

    @property
    def waitables(self) -> Iterator[Any]:
        """None: they are made of DDS handles."""
        yield from ()

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

    # -- making --------------------------------------------------------------------------------

    def create_publisher(
        self,
        msg_type: Any,
        topic: str,
        qos_profile: QoSProfile | int,
        *,
        callback_group: CallbackGroup | None = None,
        event_callbacks: Any = None,
        qos_overriding_options: QoSOverridingOptions | None = None,
        publisher_class: type[Publisher] = Publisher,
    ) -> Publisher:
        """Advertise `topic`."""
        _refuse(event_callbacks, _NO_EVENTS)
        qos_profile, full_name = profile(qos_profile), self._full_name(topic)
        if qos_overriding_options is not None:
            declare_qos_parameters("publisher", self, full_name, qos_profile, qos_overriding_options)
        publisher = publisher_class(self._connection, _message(msg_type), topic, qos_profile, full_name)
        publisher.logger_name = self._logger.name
        self._publishers.append(publisher)
        return publisher

    def create_subscription(
        self,
        msg_type: Any,
        topic: str,
        callback: Callable[..., Any],
        qos_profile: QoSProfile | int,
        *,
        callback_group: CallbackGroup | None = None,
        event_callbacks: Any = None,
        qos_overriding_options: QoSOverridingOptions | None = None,
        raw: bool = False,
    ) -> Subscription:
        """Subscribe `callback` to `topic`; at most the profile's depth of messages wait for it."""
        _refuse(event_callbacks, _NO_EVENTS)
        _refuse(raw or None, "raw=True: rosbridge carries JSON, not serialised messages")
        qos_profile, full_name = profile(qos_profile), self._full_name(topic)
        if qos_overriding_options is not None:
            declare_qos_parameters("subscription", self, full_name, qos_profile, qos_overriding_options)
        group = self._group(callback_group)
        subscription = Subscription(
            self._connection, _message(msg_type), topic, callback, group, qos_profile, full_name, self.wake
        )
        return self._keep(self._subscriptions, subscription)

    def create_timer(
        self,
        timer_period_sec: float,
        callback: Callable[..., Any] | None,
        callback_group: CallbackGroup | None = None,
        clock: Clock | None = None,
        autostart: bool = True,
    ) -> Timer:
        """Call `callback` every `timer_period_sec` of the node's clock, or of `clock`."""
        period_ns = int(float(timer_period_sec) * S_TO_NS)
        clock = self._clock if clock is None else clock
        group = self._group(callback_group)
        timer = Timer(callback, group, period_ns, clock, context=self._context, autostart=autostart)
        return self._keep(self._timers, timer)

    def create_service(
        self,
        srv_type: Any,
        srv_name: str,
        callback: Callable[[Any, Any], Any],
        *,
        qos_profile: QoSProfile = qos_profile_services_default,
        callback_group: CallbackGroup | None = None,
    ) -> Service:
        """Offer a service."""
        full_name, group = self._full_name(srv_name, is_service=True), self._group(callback_group)
        service = Service(self._connection, srv_type, srv_name, callback, group, qos_profile, full_name, self.wake)
        return self._keep(self._services, service)

    def create_client(
        self,
        srv_type: Any,
        srv_name: str,
        *,
        qos_profile: QoSProfile = qos_profile_services_default,
        callback_group: CallbackGroup | None = None,
    ) -> Client:
        """Use a service."""
        full_name, group = self._full_name(srv_name, is_service=True), self._group(callback_group)
        client = Client(self._connection, self, srv_type, srv_name, qos_profile, group, full_name)
        return self._keep(self._clients, client)

    def create_guard_condition(
        self, callback: Callable[..., Any], callback_group: CallbackGroup | None = None
    ) -> GuardCondition:
        """Call `callback` whenever the guard condition is triggered."""
        guard = GuardCondition(callback, self._group(callback_group), context=self._context)
        guard.wake = self.wake
        return self._keep(self._guards, guard)

    def create_rate(self, frequency: float, clock: Clock | None = None) -> Rate:
        """Something to sleep on, in another thread than the one that spins."""
        if frequency <= 0:
            raise ValueError("frequency must be > 0")
        return Rate(self.create_timer(1.0 / frequency, None, self._rate_group, clock), context=self._context)

    # -- ending --------------------------------------------------------------------------------

    def destroy_publisher(self, publisher: Publisher) -> bool:
        """Whether it was this node's."""
        return self._destroy(self._publishers, publisher)

    def destroy_subscription(self, subscription: Subscription) -> bool:
        """Whether it was this node's."""
        return self._destroy(self._subscriptions, subscription)

    def destroy_timer(self, timer: Timer) -> bool:
        """Whether it was this node's."""
        return self._destroy(self._timers, timer)

    def destroy_service(self, service: Service) -> bool:
        """Whether it was this node's."""
        return self._destroy(self._services, service)

    def destroy_client(self, client: Client) -> bool:
        """Whether it was this node's."""
        return self._destroy(self._clients, client)

    def destroy_guard_condition(self, guard: GuardCondition) -> bool:
        """Whether it was this node's."""
        return self._destroy(self._guards, guard)

    def destroy_rate(self, rate: Rate) -> bool:
        """Whether it was this node's; who sleeps on it wakes."""
        was_here = self.destroy_timer(rate._timer)
        rate.destroy()
        return was_here

    def destroy_node(self) -> None:
        """Destroy everything this node made."""
        self._parameter_event_publisher = None
        groups: tuple[list[Any], ...] = (
            self._timers,
            self._subscriptions,
            self._services,
            self._clients,
            self._guards,
            self._publishers,
        )
        for group in groups:
            for entity in list(group):
                self._destroy(group, entity)
        if self._rosout is not None:
            self._rosout.destroy()
            self._rosout = None
        if self._executor is not None:
            self._executor.remove_node(self)

    # -- for the executor ----------------------------------------------------------------------

    def entities(self) -> list[Any]:
        """What may be ready, in rclpy's order."""
        return [*self._timers, *self._subscriptions, *self._guards, *self._clients, *self._services]

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

    def _group(self, callback_group: CallbackGroup | None) -> CallbackGroup:
        return self._default_callback_group if callback_group is None else callback_group

    def _keep(self, group: list[Any], entity: Any) -> Any:
        entity.callback_group.add_entity(entity)
        entity.logger_name = self._logger.name
        group.append(entity)
        self.wake()
        return entity

    def _destroy(self, group: list[Any], entity: Any) -> bool:
        if entity not in group:
            return False
        group.remove(entity)
        entity.destroy()
        self.wake()
        return True


def _message(msg_type: Any) -> Any:
    if "FIELDS" not in vars(msg_type):
        raise RuntimeError(f"The message type provided is not valid ({msg_type}), this might be a service or action")
    return msg_type


def _refuse(value: Any, reason: str) -> None:
    if value is not None:
        raise NotImplementedError(reason)
