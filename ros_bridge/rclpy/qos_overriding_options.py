"""QoS settings as read-only parameters, as in `rclpy.qos_overriding_options`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ros_bridge.messages import load
from ros_bridge.rclpy.duration import Duration
from ros_bridge.rclpy.exceptions import ParameterAlreadyDeclaredException
from ros_bridge.rclpy.qos import QoSPolicyEnum, QoSPolicyKind, QoSProfile

_ENUMS = (QoSPolicyKind.LIVELINESS, QoSPolicyKind.RELIABILITY, QoSPolicyKind.HISTORY, QoSPolicyKind.DURABILITY)


class InvalidQosOverridesError(Exception):
    """The callback refused the profile."""


class QoSOverridingOptions:
    """Which policies of a publisher or subscription may be set by parameters."""

    def __init__(
        self,
        policy_kinds: Iterable[QoSPolicyKind],
        *,
        callback: Callable[[QoSProfile], Any] | None = None,
        entity_id: str | None = None,
    ) -> None:
        self._policy_kinds = policy_kinds
        self._callback = callback
        self._entity_id = entity_id

    @property
    def policy_kinds(self) -> Iterable[QoSPolicyKind]:
        """Which policies."""
        return self._policy_kinds

    @property
    def callback(self) -> Callable[[QoSProfile], Any] | None:
        """Accepts or refuses the profile by a `SetParametersResult`."""
        return self._callback

    @property
    def entity_id(self) -> str | None:
        """Tells several of one topic apart."""
        return self._entity_id

    @classmethod
    def with_default_policies(
        cls, *, callback: Callable[[QoSProfile], Any] | None = None, entity_id: str | None = None
    ) -> QoSOverridingOptions:
        """History, depth and reliability."""
        kinds = (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY)
        return cls(kinds, callback=callback, entity_id=entity_id)


def declare_qos_parameters(kind: str, node: Any, topic: str, qos: QoSProfile, options: QoSOverridingOptions) -> None:
    """Declare `qos_overrides.<topic>.<kind>.<policy>` and put the values into `qos`; `kind`: which of them."""
    suffix = "" if options.entity_id is None else f"_{options.entity_id}"
    description = f"for {kind} `{topic}` with id `{options.entity_id}`"
    for policy in options.policy_kinds:
        if policy is QoSPolicyKind.LIFESPAN and kind == "subscription":
            continue
        attribute = policy.name.lower()
        name = f"qos_overrides.{topic}.{kind}{suffix}.{attribute}"
        descriptor = load("rcl_interfaces/msg/ParameterDescriptor")(
            description=f"{attribute} {description}", read_only=True
        )
        value = getattr(qos, attribute)
        if isinstance(value, Duration):
            value = value.nanoseconds
        elif isinstance(value, QoSPolicyEnum):
            value = value.short_key
        try:
            value = node.declare_parameter(name, value, descriptor).value
        except ParameterAlreadyDeclaredException:
            value = node.get_parameter(name).value
        setattr(qos, attribute, _policy(policy, getattr(qos, attribute), value))
    if options.callback is not None:
        result = options.callback(qos)
        if not result.successful:
            raise InvalidQosOverridesError(f"Provided QoS overrides {description}, are not valid: {result.reason}")


def _policy(policy: QoSPolicyKind, current: Any, value: Any) -> Any:
    if isinstance(current, Duration):
        return Duration(nanoseconds=value)
    if policy not in _ENUMS:
        return value
    try:
        return type(current)[value.upper()]
    except KeyError:
        raise RuntimeError(f"Unexpected QoS override for policy `{policy.name.lower()}`: `{value}`") from None
