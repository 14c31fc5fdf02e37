"""`Parameter` and its helpers, as in `rclpy.parameter`."""

from __future__ import annotations

import array
from enum import Enum
from typing import Any

import numpy as np
import yaml

from ros_bridge.messages import load

PARAMETER_SEPARATOR_STRING = "."

ParameterMsg = load("rcl_interfaces/msg/Parameter")
ParameterType = load("rcl_interfaces/msg/ParameterType")
ParameterValue = load("rcl_interfaces/msg/ParameterValue")

#: The field of ParameterValue that carries each type.
_FIELDS = {
    1: "bool_value",
    2: "integer_value",
    3: "double_value",
    4: "string_value",
    5: "byte_array_value",
    6: "bool_array_value",
    7: "integer_array_value",
    8: "double_array_value",
    9: "string_array_value",
}
_SCALARS: dict[int, type] = {1: bool, 2: int, 3: float, 4: str}
#: rclpy gives numbers that came as a message as arrays.
_TYPECODES = {7: "q", 8: "d"}
_ITEMS: dict[int, type] = {5: bytes, 6: bool, 7: int, 8: float, 9: str}


class Parameter:
    """A name, a type and a value."""

    class Type(Enum):
        """The types a parameter may have."""

        NOT_SET = ParameterType.PARAMETER_NOT_SET
        BOOL = ParameterType.PARAMETER_BOOL
        INTEGER = ParameterType.PARAMETER_INTEGER
        DOUBLE = ParameterType.PARAMETER_DOUBLE
        STRING = ParameterType.PARAMETER_STRING
        BYTE_ARRAY = ParameterType.PARAMETER_BYTE_ARRAY
        BOOL_ARRAY = ParameterType.PARAMETER_BOOL_ARRAY
        INTEGER_ARRAY = ParameterType.PARAMETER_INTEGER_ARRAY
        DOUBLE_ARRAY = ParameterType.PARAMETER_DOUBLE_ARRAY
        STRING_ARRAY = ParameterType.PARAMETER_STRING_ARRAY

        @classmethod
        def from_parameter_value(cls, parameter_value: Any) -> Parameter.Type:
            """The type of a Python value; `TypeError` when no parameter can hold it."""
            if parameter_value is None:
                return cls.NOT_SET
            for number, kind in _SCALARS.items():
                if isinstance(parameter_value, kind):
                    return cls(number)
            if not isinstance(parameter_value, (list, tuple, array.array)):
                raise TypeError(f"The given value is not one of the allowed types '{parameter_value}'.")
            for number, kind in _ITEMS.items():
                if all(isinstance(value, kind) for value in parameter_value):
                    return cls(number)
            raise TypeError(f"The given value is not a list of one of the allowed types '{parameter_value}'.")

        def check(self, parameter_value: Any) -> bool:
            """Whether a value is of this type."""
            if self is Parameter.Type.NOT_SET:
                return parameter_value is None
            if self.value in _SCALARS:
                return isinstance(parameter_value, _SCALARS[self.value])
            kind = _ITEMS[self.value]
            sequences = (list, tuple, array.array) if kind in (int, float) else (list, tuple)
            if not isinstance(parameter_value, sequences):
                return False
            is_one_byte = kind is not bytes or all(len(value) == 1 for value in parameter_value)
            return all(isinstance(value, kind) for value in parameter_value) and is_one_byte

    @classmethod
    def from_parameter_msg(cls, param_msg: Any) -> Parameter:
        """From `rcl_interfaces/msg/Parameter`."""
        type_ = Parameter.Type(param_msg.value.type)
        return cls(param_msg.name, type_, _plain(param_msg.value))

    def __init__(self, name: str, type_: Parameter.Type | None = None, value: Any = None) -> None:
        if type_ is None:
            type_ = Parameter.Type.from_parameter_value(value)
        if not isinstance(type_, Parameter.Type):
            raise TypeError(f"type must be an instance of '{Parameter.Type!r}'")
        if not type_.check(value):
            raise ValueError(f"Type '{type_}' and value '{value}' do not agree")
        self._type_ = type_
        self._name = name
        self._value = value

    @property
    def name(self) -> str:
        """Full name, with `.` between its parts."""
        return self._name

    @property
    def type_(self) -> Parameter.Type:
        """Type."""
        return self._type_

    @property
    def value(self) -> Any:
        """Value; None when it is not set."""
        return self._value

    def get_parameter_value(self) -> Any:
        """As `rcl_interfaces/msg/ParameterValue`."""
        message = ParameterValue(type=self.type_.value)
        if self.type_.value in _FIELDS:
            setattr(message, _FIELDS[self.type_.value], self.value)
        return message

    def to_parameter_msg(self) -> Any:
        """As `rcl_interfaces/msg/Parameter`."""
        return ParameterMsg(name=self.name, value=self.get_parameter_value())


def get_parameter_value(string_value: str) -> Any:
    """A `ParameterValue` of the type that the text looks like in YAML."""
    try:
        value = yaml.safe_load(string_value)
    except yaml.parser.ParserError:
        value = string_value
    try:
        type_ = Parameter.Type.from_parameter_value(value)
    except TypeError:  # a mapping, a date, a mixed list
        type_, value = Parameter.Type.STRING, string_value
    if value is None:
        type_, value = Parameter.Type.STRING, string_value
    elif value == []:
        type_ = Parameter.Type.BOOL_ARRAY
    return Parameter("", type_, value).get_parameter_value()


def parameter_value_to_python(parameter_value: Any) -> Any:
    """The Python value in a `ParameterValue`; None when it is not set."""
    if parameter_value.type == ParameterType.PARAMETER_NOT_SET:
        return None
    if parameter_value.type not in _FIELDS:
        raise RuntimeError(f"unexpected parameter type {parameter_value.type}")
    value = getattr(parameter_value, _FIELDS[parameter_value.type])
    if parameter_value.type not in _ITEMS:
        return value
    # NumPy's numbers as Python's.
    return value.tolist() if isinstance(value, np.ndarray) else list(value)


def parameter_dict_from_yaml_file(
    parameter_file: str,
    use_wildcard: bool = False,
    target_nodes: list[str] | None = None,
    namespace: str = "",
) -> dict[str, Any]:
    """`rcl_interfaces/msg/Parameter` by name from a parameter file, of `target_nodes` or of all nodes in it.

    Raises `RuntimeError` when a node is not in the file, or the file is no parameter file.
    """
    with open(parameter_file) as file:
        content = yaml.safe_load(file)
    keys = ["/**"] if use_wildcard and "/**" in content else []
    for node in target_nodes or ():
        if node not in content:
            raise RuntimeError(
                f"Param file does not contain parameters for {node},only for nodes: {list(content.keys())} "
            )
        keys.append(node)
    if not target_nodes:
        keys.extend(key for key in content if key != "/**")
    if not keys:
        raise RuntimeError("Param file does not contain selected parameters")
    values: dict[str, Any] = {}
    for key in keys:
        if not isinstance(content[key], dict) or "ros__parameters" not in content[key]:
            raise RuntimeError(f"YAML file is not a valid ROS parameter file for node {key}")
        values.update(content[key]["ros__parameters"])
    return _unpack_parameter_dict(namespace, values)


def _unpack_parameter_dict(namespace: str, parameter_dict: dict[str, Any]) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for name, value in parameter_dict.items():
        full_name = namespace + name
        if isinstance(value, dict):
            parameters.update(_unpack_parameter_dict(full_name + PARAMETER_SEPARATOR_STRING, value))
        else:
            parameters[full_name] = ParameterMsg(name=full_name, value=get_parameter_value(str(value)))
    return parameters


def _plain(message: Any) -> Any:
    value = parameter_value_to_python(message)
    typecode = _TYPECODES.get(message.type)
    return value if typecode is None else array.array(typecode, value)
