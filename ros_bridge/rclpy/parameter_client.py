"""`AsyncParameterClient`, as in `rclpy.parameter_client`: reads and sets another node's parameters."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from ros_bridge.messages import load
from ros_bridge.rclpy.node import Node
from ros_bridge.rclpy.parameter import Parameter, parameter_dict_from_yaml_file
from ros_bridge.rclpy.qos import QoSProfile, qos_profile_parameter_events, qos_profile_services_default
from ros_bridge.rclpy.subscription import Subscription
from ros_bridge.rclpy.task import Future

_SERVICES = {
    "get_parameters": "GetParameters",
    "list_parameters": "ListParameters",
    "set_parameters": "SetParameters",
    "get_parameter_types": "GetParameterTypes",
    "describe_parameters": "DescribeParameters",
    "set_parameters_atomically": "SetParametersAtomically",
}


class AsyncParameterClient:
    """Every method returns a future of the service's response; `callback(future)` is called when it is done."""

    def __init__(
        self,
        node: Node,
        remote_node_name: str,
        qos_profile: QoSProfile = qos_profile_services_default,
        callback_group: Any = None,
    ) -> None:
        self.remote_node_name = remote_node_name
        self.node = node
        self._clients = {
            service: node.create_client(
                load(f"rcl_interfaces/srv/{type_name}"),
                f"{remote_node_name}/{service}",
                qos_profile=qos_profile,
                callback_group=callback_group,
            )
            for service, type_name in _SERVICES.items()
        }

    def services_are_ready(self) -> bool:
        """Whether all six services are there."""
        return all(client.service_is_ready() for client in self._clients.values())

    def wait_for_services(self, timeout_sec: float | None = None) -> bool:
        """Whether all six services are there before the timeout (None: wait for ever)."""
        deadline = None if timeout_sec is None else time.monotonic() + timeout_sec
        while not self.services_are_ready():
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(0.1)
        return True

    def list_parameters(
        self, prefixes: list[str] | None = None, depth: int | None = None, callback: Callable[..., Any] | None = None
    ) -> Future:
        """Names; see `Node.list_parameters`."""
        return self._call("list_parameters", callback, prefixes=prefixes or [], depth=depth or 0)

    def get_parameters(self, names: list[str], callback: Callable[..., Any] | None = None) -> Future:
        """Values."""
        return self._call("get_parameters", callback, names=names)

    def set_parameters(self, parameters: Sequence[Any], callback: Callable[..., Any] | None = None) -> Future:
        """Set one after the other."""
        return self._call("set_parameters", callback, parameters=_messages(parameters))

    def describe_parameters(self, names: list[str], callback: Callable[..., Any] | None = None) -> Future:
        """Descriptors."""
        return self._call("describe_parameters", callback, names=names)

    def get_parameter_types(self, names: list[str], callback: Callable[..., Any] | None = None) -> Future:
        """Types."""
        return self._call("get_parameter_types", callback, names=names)

    def set_parameters_atomically(
        self, parameters: Sequence[Any], callback: Callable[..., Any] | None = None
    ) -> Future:
        """Set all or none."""
        return self._call("set_parameters_atomically", callback, parameters=_messages(parameters))

    def delete_parameters(self, names: list[str], callback: Callable[..., Any] | None = None) -> Future:
        """Undeclare."""
        return self.set_parameters([Parameter(name) for name in names], callback)

    def load_parameter_file(
        self, parameter_file: str, use_wildcard: bool = False, callback: Callable[..., Any] | None = None
    ) -> Future:
        """Set what a parameter file holds."""
        parameters = parameter_dict_from_yaml_file(parameter_file, use_wildcard)
        return self.set_parameters(list(parameters.values()), callback)

    def load_parameter_file_atomically(
        self, parameter_file: str, use_wildcard: bool = False, callback: Callable[..., Any] | None = None
    ) -> Future:
        """Set what a parameter file holds, all or none."""
        parameters = parameter_dict_from_yaml_file(parameter_file, use_wildcard)
        return self.set_parameters_atomically(list(parameters.values()), callback)

    def on_parameter_event(
        self,
        callback: Callable[..., Any],
        qos_profile: QoSProfile = qos_profile_parameter_events,
        *,
        callback_group: Any = None,
        event_callbacks: Any = None,
        qos_overriding_options: Any = None,
        raw: bool = False,
    ) -> Subscription:
        """Subscribe to the parameter events of all nodes."""
        return self.node.create_subscription(
            load("rcl_interfaces/msg/ParameterEvent"),
            "/parameter_events",
            callback,
            qos_profile,
            callback_group=callback_group,
            event_callbacks=event_callbacks,
            qos_overriding_options=qos_overriding_options,
            raw=raw,
        )

    def _call(self, service: str, callback: Callable[..., Any] | None, **fields: Any) -> Future:
        client = self._clients[service]
        future = client.call_async(client.srv_type.Request(**fields))
        if callback is not None:
            future.add_done_callback(callback)
        return future


def _messages(parameters: Sequence[Any]) -> list[Any]:
    return [p.to_parameter_msg() if isinstance(p, Parameter) else p for p in parameters]
