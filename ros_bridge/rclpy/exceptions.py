"""The exceptions of `rclpy.exceptions`, with rclpy's texts."""

from __future__ import annotations

from typing import Any


class NotInitializedException(Exception):
    """`init` has not been called, or `shutdown` has."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(f"rclpy.init() has not been called.{f' msg:{message}' if message else ''}")


class NoTypeSupportImportedException(Exception):
    """There is no type support; the bridge needs none and never raises it."""

    def __init__(self) -> None:
        super().__init__("no type_support imported")


class InvalidHandle(RuntimeError):
    """What is used was destroyed."""


class RCLError(RuntimeError):
    """Native rclpy raises this for ROS arguments that it cannot parse."""


class UnknownROSArgsError(RuntimeError):
    """ROS arguments that are no ROS arguments."""


class NameValidationException(Exception):
    """A topic, service, node or namespace name is not valid; the text points at the place."""

    def __init__(self, name_type: str, name: str, error_msg: str, invalid_index: int) -> None:
        super().__init__(f"Invalid {name_type}: {error_msg}:\n  '{name}'\n   {' ' * invalid_index}^")


class InvalidNamespaceException(NameValidationException):
    """A namespace is not valid."""

    def __init__(self, name: str, error_msg: str, invalid_index: int) -> None:
        super().__init__("namespace", name, error_msg, invalid_index)


class InvalidNodeNameException(NameValidationException):
    """A node name is not valid."""

    def __init__(self, name: str, error_msg: str, invalid_index: int) -> None:
        super().__init__("node name", name, error_msg, invalid_index)


class InvalidTopicNameException(NameValidationException):
    """A topic name is not valid."""

    def __init__(self, name: str, error_msg: str, invalid_index: int) -> None:
        super().__init__("topic name", name, error_msg, invalid_index)


class InvalidServiceNameException(NameValidationException):
    """A service name is not valid."""

    def __init__(self, name: str, error_msg: str, invalid_index: int) -> None:
        super().__init__("service name", name, error_msg, invalid_index)


class ParameterException(Exception):
    """Any error about parameters."""

    def __init__(self, error_msg: str, parameters: str | list[str]) -> None:
        super().__init__(f"{error_msg}: {parameters}")


class ParameterNotDeclaredException(ParameterException):
    """A parameter must be declared first."""

    def __init__(self, parameters: str | list[str]) -> None:
        super().__init__("Invalid access to undeclared parameter(s)", parameters)


class ParameterAlreadyDeclaredException(ParameterException):
    """A parameter was declared before."""

    def __init__(self, parameters: str | list[str]) -> None:
        super().__init__("Parameter(s) already declared", parameters)


class InvalidParameterException(ParameterException):
    """A parameter has no valid name."""

    def __init__(self, parameter_name: str) -> None:
        super().__init__("Invalid parameter name", parameter_name)


class InvalidParameterTypeException(ParameterException):
    """A parameter's value has another type than was declared."""

    def __init__(self, desired_parameter: Any, expected_type: Any) -> None:
        found = type(desired_parameter.type_).from_parameter_value(desired_parameter.value).name
        super().__init__(
            f"Trying to set parameter '{desired_parameter.name}' to '{desired_parameter.value}' of type '{found}'"
            f", expecting type '{expected_type}'",
            desired_parameter.name,
        )


class InvalidParameterValueException(ParameterException):
    """A descriptor or a callback refused a value."""

    def __init__(self, parameter: str, value: Any, reason: str) -> None:
        super().__init__(f"Invalid parameter value ({value}) for parameter. Reason: {reason}", parameter)


class ParameterImmutableException(ParameterException):
    """A read-only parameter."""

    def __init__(self, parameter_name: str) -> None:
        super().__init__("Attempted to modify read-only parameter", parameter_name)


class ParameterUninitializedException(ParameterException):
    """A parameter that was declared by its type alone and has no value yet."""

    def __init__(self, parameter_name: str) -> None:
        super().__init__(f"The parameter '{parameter_name}' is not initialized", parameter_name)


class ROSInterruptException(Exception):
    """A wait was ended by `shutdown`."""

    def __init__(self) -> None:
        super().__init__("rclpy.shutdown() has been called")
