"""`Node`, as in `rclpy.node`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ros_bridge.rclpy.client import Client
from ros_bridge.rclpy.clock import Clock, ClockType
from ros_bridge.rclpy.context import Context, get_default_context
from ros_bridge.rclpy.exceptions import NotInitializedException
from ros_bridge.rclpy.logging import RcutilsLogger, get_logger
from ros_bridge.rclpy.publisher import Publisher
from ros_bridge.rclpy.qos import QoSProfile, profile
from ros_bridge.rclpy.service import Service
from ros_bridge.rclpy.subscription import Subscription
from ros_bridge.rclpy.timer import Timer

_NO_GRAPH = "rosbridge cannot list the graph (its rosapi is optional)"
_NO_PARAMETERS = "parameters are not here yet"
_UNSUPPORTED = {
    "count_clients": _NO_GRAPH,
    "count_publishers": _NO_GRAPH,
    "count_services": _NO_GRAPH,
    "count_subscribers": _NO_GRAPH,
    "get_node_names": _NO_GRAPH,
    "get_node_names_and_namespaces": _NO_GRAPH,
    "get_publishers_info_by_topic": _NO_GRAPH,
    "get_service_names_and_types": _NO_GRAPH,
    "get_subscriptions_info_by_topic": _NO_GRAPH,
    "get_topic_names_and_types": _NO_GRAPH,
    "wait_for_node": _NO_GRAPH,
    "add_on_set_parameters_callback": _NO_PARAMETERS,
    "declare_parameter": _NO_PARAMETERS,
    "declare_parameters": _NO_PARAMETERS,
    "get_parameter": _NO_PARAMETERS,
    "get_parameters": _NO_PARAMETERS,
    "has_parameter": _NO_PARAMETERS,
    "set_parameters": _NO_PARAMETERS,
    "add_waitable": "waitables are made of DDS handles, which this side does not have",
    "create_guard_condition": "guard conditions are not here yet; use Executor.create_task",
    "create_rate": "rates are not here yet; use create_timer",
}
_NO_GROUPS = "callback groups are not here yet: SingleThreadedExecutor runs one callback at a time anyway"
_NO_EVENTS = "event callbacks: rosbridge does not report DDS events"


class Node:
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
        parameter_overrides: list[Any] | None = None,
        allow_undeclared_parameters: bool = False,
        automatically_declare_parameters_from_overrides: bool = False,
        enable_logger_service: bool = False,
    ) -> None:
        if cli_args:
            raise NotImplementedError("cli_args: remapping and parameters from the command line are not here yet")
        if parameter_overrides or allow_undeclared_parameters or automatically_declare_parameters_from_overrides:
            raise NotImplementedError(_NO_PARAMETERS)
        if enable_logger_service:
            raise NotImplementedError("enable_logger_service: the logger services are not here yet")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", node_name):
            raise ValueError(f"node name {node_name!r} must be letters, digits and _, not starting with a digit")
        self._context = context or get_default_context()
        if not self._context.ok():
            raise NotInitializedException("cannot create node")
        self._name = node_name
        self._namespace = "/" + (namespace or "").strip("/")
        self._connection = self._context.connection
        self._logger = get_logger(".".join(part for part in (self._namespace.strip("/"), node_name) if part))
        self._clock = Clock(clock_type=ClockType.ROS_TIME)
        self._timers: list[Timer] = []
        self._subscriptions: list[Subscription] = []
        self._publishers: list[Publisher] = []
        self._clients: list[Client] = []
        self._services: list[Service] = []
        #: Set by the executor that runs this node.
        self.executor: Any = None

    # -- names and tools -----------------------------------------------------------------------

    @property
    def context(self) -> Context:
        """The context this node belongs to."""
        return self._context

    @property
    def timers(self) -> list[Timer]:
        """Timers made and not destroyed."""
        return self._timers

    @property
    def subscriptions(self) -> list[Subscription]:
        """Subscriptions made and not destroyed."""
        return self._subscriptions

    @property
    def publishers(self) -> list[Publisher]:
        """Publishers made and not destroyed."""
        return self._publishers

    @property
    def clients(self) -> list[Client]:
        """Clients made and not destroyed."""
        return self._clients

    @property
    def services(self) -> list[Service]:
        """Services made and not destroyed."""
        return self._services

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
        """The node's clock: system time."""
        return self._clock

    def resolve_topic_name(self, topic: str, *, only_expand: bool = False) -> str:
        """Absolute name of `topic`: `~` is the node, a relative name is in the namespace."""
        if topic == "~" or topic.startswith("~/"):
            full = self.get_fully_qualified_name() + topic[1:]
        else:
            full = topic if topic.startswith("/") else f"{self._namespace.rstrip('/')}/{topic}"
        if not re.fullmatch(r"(/[A-Za-z_][A-Za-z0-9_]*)+", full):
            raise ValueError(f"topic or service name {topic!r} is not valid: words of letters, digits and _ between /")
        return full

    def resolve_service_name(self, service: str, *, only_expand: bool = False) -> str:
        """As `resolve_topic_name`."""
        return self.resolve_topic_name(service)

    # -- making --------------------------------------------------------------------------------

    def create_publisher(
        self,
        msg_type: Any,
        topic: str,
        qos_profile: QoSProfile | int,
        *,
        callback_group: Any = None,
        event_callbacks: Any = None,
        qos_overriding_options: Any = None,
        publisher_class: type[Publisher] = Publisher,
    ) -> Publisher:
        """Advertise `topic`."""
        _refuse(callback_group, _NO_GROUPS)
        _refuse(event_callbacks, _NO_EVENTS)
        _refuse(qos_overriding_options, _NO_PARAMETERS)
        publisher = publisher_class(self._connection, msg_type, self.resolve_topic_name(topic), profile(qos_profile))
        self._publishers.append(publisher)
        return publisher

    def create_subscription(
        self,
        msg_type: Any,
        topic: str,
        callback: Callable[[Any], None],
        qos_profile: QoSProfile | int,
        *,
        callback_group: Any = None,
        event_callbacks: Any = None,
        qos_overriding_options: Any = None,
        raw: bool = False,
    ) -> Subscription:
        """Subscribe `callback` to `topic`; at most the profile's depth of messages wait for it."""
        _refuse(callback_group, _NO_GROUPS)
        _refuse(event_callbacks, _NO_EVENTS)
        _refuse(qos_overriding_options, _NO_PARAMETERS)
        _refuse(raw or None, "raw=True: rosbridge carries JSON, not serialised messages")
        subscription = Subscription(
            self._connection, msg_type, self.resolve_topic_name(topic), callback, profile(qos_profile), self.wake
        )
        self._subscriptions.append(subscription)
        return subscription

    def create_timer(
        self,
        timer_period_sec: float,
        callback: Callable[[], Any],
        callback_group: Any = None,
        clock: Any = None,
        autostart: bool = True,
    ) -> Timer:
        """Call `callback` every `timer_period_sec`."""
        _refuse(callback_group, _NO_GROUPS)
        _refuse(clock, "timers on another clock are not here yet")
        if not timer_period_sec >= 0:
            raise ValueError(f"timer period must not be negative, not {timer_period_sec}")
        timer = Timer(callback, int(timer_period_sec * 1_000_000_000), autostart=autostart)
        self._timers.append(timer)
        self.wake()
        return timer

    def create_service(
        self,
        srv_type: Any,
        srv_name: str,
        callback: Callable[[Any, Any], Any],
        *,
        qos_profile: Any = None,
        callback_group: Any = None,
    ) -> Service:
        """Offer a service."""
        _refuse(callback_group, _NO_GROUPS)
        service = Service(self._connection, srv_type, self.resolve_service_name(srv_name), callback, self.wake)
        self._services.append(service)
        return service

    def create_client(
        self, srv_type: Any, srv_name: str, *, qos_profile: Any = None, callback_group: Any = None
    ) -> Client:
        """Use a service."""
        _refuse(callback_group, _NO_GROUPS)
        client = Client(self._connection, srv_type, self.resolve_service_name(srv_name), self)
        self._clients.append(client)
        return client

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

    def destroy_node(self) -> None:
        """Destroy everything this node made."""
        groups: tuple[list[Any], ...] = (
            self._timers,
            self._subscriptions,
            self._services,
            self._clients,
            self._publishers,
        )
        for group in groups:
            for entity in list(group):
                self._destroy(group, entity)
        if self.executor is not None:
            self.executor.remove_node(self)

    # -- for the executor ----------------------------------------------------------------------

    def entities(self) -> list[Any]:
        """What may be ready, in rclpy's order."""
        return [*self._timers, *self._subscriptions, *self._clients, *self._services]

    def wake(self) -> None:
        """Let the executor look at this node. Any thread."""
        executor = self.executor
        if executor is not None:
            executor.wake()

    def _destroy(self, group: list[Any], entity: Any) -> bool:
        if entity not in group:
            return False
        group.remove(entity)
        entity.destroy()
        return True


def _refuse(value: Any, reason: str) -> None:
    if value is not None:
        raise NotImplementedError(reason)


def _unsupported(name: str, reason: str) -> Callable[..., Any]:
    def method(self: Node, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{name}: {reason}")

    method.__name__, method.__doc__ = name, f"Raises `NotImplementedError`: {reason}."
    return method


for _name, _reason in _UNSUPPORTED.items():
    setattr(Node, _name, _unsupported(_name, _reason))
