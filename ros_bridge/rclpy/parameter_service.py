"""The services with which other nodes list, read and set a node's parameters, as in `rclpy.parameter_service`."""

from __future__ import annotations

import weakref
from typing import Any

from ros_bridge.messages import load
from ros_bridge.rclpy._parameter_ranges import refuse
from ros_bridge.rclpy.exceptions import ParameterNotDeclaredException, ParameterUninitializedException
from ros_bridge.rclpy.parameter import Parameter
from ros_bridge.rclpy.qos import qos_profile_parameters


class ParameterService:
    """Offers `<node>/get_parameters` and its five companions on `node`."""

    def __init__(self, node: Any) -> None:
        self._node_weak_ref = weakref.ref(node)
        for type_name, service, callback in (
            ("DescribeParameters", "describe_parameters", self._describe_parameters_callback),
            ("GetParameters", "get_parameters", self._get_parameters_callback),
            ("GetParameterTypes", "get_parameter_types", self._get_parameter_types_callback),
            ("ListParameters", "list_parameters", self._list_parameters_callback),
            ("SetParameters", "set_parameters", self._set_parameters_callback),
            ("SetParametersAtomically", "set_parameters_atomically", self._set_parameters_atomically_callback),
        ):
            node.create_service(
                load(f"rcl_interfaces/srv/{type_name}"),
                f"{node.get_name()}/{service}",
                callback,
                qos_profile=qos_profile_parameters,
            )

    def _describe_parameters_callback(self, request: Any, response: Any) -> Any:
        try:
            response.descriptors = self._get_node().describe_parameters(request.names)
        except ParameterNotDeclaredException:
            response.descriptors = []  # as in rclpy: one unknown name, and there is no answer for any
        return response

    def _get_parameters_callback(self, request: Any, response: Any) -> Any:
        try:
            response.values = [p.get_parameter_value() for p in self._get_node().get_parameters(request.names)]
        except (ParameterNotDeclaredException, ParameterUninitializedException):
            response.values = []
        return response

    def _get_parameter_types_callback(self, request: Any, response: Any) -> Any:
        try:
            types = self._get_node().get_parameter_types(request.names)
        except ParameterNotDeclaredException:
            types = []
        response.types = [t.value if isinstance(t, Parameter.Type) else t for t in types]
        return response

    def _list_parameters_callback(self, request: Any, response: Any) -> Any:
        response.result = self._get_node().list_parameters(request.prefixes, request.depth)
        return response

    def _set_parameters_callback(self, request: Any, response: Any) -> Any:
        for message in request.parameters:
            response.results.append(self._set([Parameter.from_parameter_msg(message)]))
        return response

    def _set_parameters_atomically_callback(self, request: Any, response: Any) -> Any:
        response.result = self._set([Parameter.from_parameter_msg(message) for message in request.parameters])
        return response

    def _set(self, parameters: list[Parameter]) -> Any:
        try:
            return self._get_node().set_parameters_atomically(parameters)
        except ParameterNotDeclaredException as error:
            return refuse(str(error))

    def _get_node(self) -> Any:
        node = self._node_weak_ref()
        if node is None:
            raise ReferenceError("Expected valid node weak reference")
        return node
