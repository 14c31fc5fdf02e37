"""What a node makes, keeps and destroys: publishers, subscriptions, timers, services, clients and the like."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ros_bridge.connection import Connection
from ros_bridge.rclpy.callback_groups import CallbackGroup, MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from ros_bridge.rclpy.client import Client
from ros_bridge.rclpy.constants import S_TO_NS
from ros_bridge.rclpy.guard_condition import GuardCondition
from ros_bridge.rclpy.publisher import Publisher
from ros_bridge.rclpy.qos import QoSProfile, profile, qos_profile_services_default
from ros_bridge.rclpy.qos_overriding_options import QoSOverridingOptions, declare_qos_parameters
from ros_bridge.rclpy.service import Service
from ros_bridge.rclpy.subscription import Subscription
from ros_bridge.rclpy.timer import Rate, Timer

if TYPE_CHECKING:
    from ros_bridge.rclpy.clock import Clock
    from ros_bridge.rclpy.context import Context
    from ros_bridge.rclpy.logging import RcutilsLogger

_NO_EVENTS = "event callbacks: rosbridge does not report DDS events"


class NodeEntities:
    """`Node` derives from it, and knows names, clock and executor."""

    _connection: Connection
    _context: Context
    _clock: Clock
    _logger: RcutilsLogger
    _full_name: Callable[..., str]
    wake: Callable[[], None]

    def __init__(self, **others: Any) -> None:
        super().__init__(**others)
        self._timers: list[Timer] = []
        self._subscriptions: list[Subscription] = []
        self._publishers: list[Publisher] = []
        self._clients: list[Client] = []
        self._services: list[Service] = []
        self._guards: list[GuardCondition] = []
        self._waitables: list[Any] = []
        self._default_callback_group: CallbackGroup = MutuallyExclusiveCallbackGroup()
        self._rate_group = ReentrantCallbackGroup()

    @property
    def default_callback_group(self) -> CallbackGroup:
        """The group of whatever is made without one."""
        return self._default_callback_group

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
        """Action clients and servers made and not destroyed."""
        yield from self._waitables

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

    # -- destroying ----------------------------------------------------------------------------

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

    def destroy_entities(self) -> None:
        """Destroy all of it."""
        for waitable in list(self._waitables):
            waitable.destroy()
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

    # -- keeping -------------------------------------------------------------------------------

    def entities(self) -> list[Any]:
        """What may be ready, in rclpy's order. For the executor."""
        return [
            *self._timers,
            *self._subscriptions,
            *self._guards,
            *self._clients,
            *self._services,
            *self._waitables,
        ]

    def add_entity(self, entity: Any) -> None:
        """Let the executor serve an action client or server, which removes itself when it is destroyed."""
        self._keep(self._waitables, entity)

    def remove_entity(self, entity: Any) -> None:
        """Undo `add_entity`."""
        if entity in self._waitables:
            self._waitables.remove(entity)
            self.wake()

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
