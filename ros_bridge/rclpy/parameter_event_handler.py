"""`ParameterEventHandler`, as in `rclpy.parameter_event_handler`: callbacks for changes of any node's parameters."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

from ros_bridge.messages import load
from ros_bridge.rclpy.callback_groups import CallbackGroup
from ros_bridge.rclpy.qos import QoSProfile, qos_profile_parameter_events
from ros_bridge.rclpy.qos_overriding_options import QoSOverridingOptions


class ParameterCallbackHandle:
    """What `add_parameter_callback` gives, to remove it by."""

    def __init__(self, parameter_name: str, node_name: str, callback: Callable[[Any], None]) -> None:
        self.parameter_name = parameter_name
        self.node_name = node_name
        self.callback = callback
        self.mutex = threading.RLock()


class ParameterEventCallbackHandle:
    """What `add_parameter_event_callback` gives, to remove it by."""

    def __init__(self, callback: Callable[[Any], None]) -> None:
        self.callback = callback
        self.mutex = threading.RLock()


class ParameterEventHandler:
    """Subscribes to `/parameter_events` for `node`."""

    class Callbacks:
        """The callbacks, the last added first."""

        def __init__(self) -> None:
            self.parameter_callbacks: dict[tuple[str, str], list[ParameterCallbackHandle]] = {}
            self.event_callbacks: list[ParameterEventCallbackHandle] = []
            self.mutex = threading.RLock()

        def event_callback(self, event: Any) -> None:
            """Call those that `event` concerns."""
            with self.mutex:
                # Copies: a callback may add and remove callbacks.
                wanted = [(key, list(handles)) for key, handles in self.parameter_callbacks.items()]
                for (parameter_name, node_name), handles in wanted:
                    parameter = ParameterEventHandler.get_parameter_from_event(event, parameter_name, node_name)
                    for handle in handles if parameter is not None else ():
                        with handle.mutex:
                            handle.callback(parameter)
                for event_handle in list(self.event_callbacks):
                    with event_handle.mutex:
                        event_handle.callback(event)

        def add_parameter_callback(
            self, parameter_name: str, node_name: str, callback: Callable[[Any], None]
        ) -> ParameterCallbackHandle:
            """Call `callback(parameter)`, a message, whenever that parameter is declared or set."""
            handle = ParameterCallbackHandle(parameter_name=parameter_name, node_name=node_name, callback=callback)
            with self.mutex:
                self.parameter_callbacks.setdefault((parameter_name, node_name), []).insert(0, handle)
            return handle

        def remove_parameter_callback(self, handle: ParameterCallbackHandle) -> None:
            """Undo it; `RuntimeError` when it is not there."""
            key = (handle.parameter_name, handle.node_name)
            with self.mutex:
                handles = self.parameter_callbacks.get(key, [])
                if handle not in handles:
                    raise RuntimeError("Callback doesn't exist")
                handles.remove(handle)
                if not handles:
                    del self.parameter_callbacks[key]

        def add_parameter_event_callback(self, callback: Callable[[Any], None]) -> ParameterEventCallbackHandle:
            """Call `callback(event)` with every event of any node."""
            handle = ParameterEventCallbackHandle(callback=callback)
            with self.mutex:
                self.event_callbacks.insert(0, handle)
            return handle

        def remove_parameter_event_callback(self, handle: ParameterEventCallbackHandle) -> None:
            """Undo it; `RuntimeError` when it is not there."""
            with self.mutex:
                if handle not in self.event_callbacks:
                    raise RuntimeError("Callback doesn't exist")
                self.event_callbacks.remove(handle)

    def __init__(
        self,
        node: Any,
        qos_profile: QoSProfile = qos_profile_parameter_events,
        callback_group: CallbackGroup | None = None,
        event_callbacks: Any = None,
        qos_overriding_options: QoSOverridingOptions | None = None,
        raw: bool = False,
    ) -> None:
        self.node = node
        self.qos_profile = qos_profile
        self._callbacks = ParameterEventHandler.Callbacks()
        self.parameter_event_subscription = node.create_subscription(
            load("rcl_interfaces/msg/ParameterEvent"),
            "/parameter_events",
            self._callbacks.event_callback,
            self.qos_profile,
            callback_group=callback_group,
            event_callbacks=event_callbacks,
            qos_overriding_options=qos_overriding_options,
            raw=raw,
        )

    def destroy(self) -> None:
        """End the subscription."""
        self.node.destroy_subscription(self.parameter_event_subscription)

    @staticmethod
    def get_parameter_from_event(event: Any, parameter_name: str, node_name: str) -> Any:
        """The parameter's message if `event` declares or sets it, or None. Names are absolute."""
        if event.node == node_name:
            for parameter in ParameterEventHandler.get_parameters_from_event(event):
                if parameter.name == parameter_name:
                    return parameter
        return None

    @staticmethod
    def get_parameters_from_event(event: Any) -> Iterable[Any]:
        """The parameters' messages that `event` declares or sets."""
        yield from chain(event.new_parameters, event.changed_parameters)

    def add_parameter_callback(
        self, parameter_name: str, node_name: str, callback: Callable[[Any], None]
    ) -> ParameterCallbackHandle:
        """Call `callback(parameter)` whenever that parameter is declared or set. An empty name is this node's."""
        return self._callbacks.add_parameter_callback(
            parameter_name=parameter_name, node_name=self._resolve_path(node_name), callback=callback
        )

    def remove_parameter_callback(self, handle: ParameterCallbackHandle) -> None:
        """Undo it; `RuntimeError` when it is not there."""
        self._callbacks.remove_parameter_callback(handle)

    def add_parameter_event_callback(self, callback: Callable[[Any], None]) -> ParameterEventCallbackHandle:
        """Call `callback(event)` with every event of any node."""
        return self._callbacks.add_parameter_event_callback(callback)

    def remove_parameter_event_callback(self, handle: ParameterEventCallbackHandle) -> None:
        """Undo it; `RuntimeError` when it is not there."""
        self._callbacks.remove_parameter_event_callback(handle)

    def _resolve_path(self, node_path: str | None = None) -> str:
        """The absolute name of a node, relative to this node's namespace."""
        if not node_path:
            return str(self.node.get_fully_qualified_name())
        if node_path.startswith("/"):
            return node_path
        namespace = self.node.get_namespace().lstrip("/")
        path = f"{namespace}/{node_path}"
        return path if path.startswith("/") else f"/{path}"
