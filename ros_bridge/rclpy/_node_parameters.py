"""The parameter methods of `Node`, with the rules and texts of rclpy 7.1."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from ros_bridge.messages import load
from ros_bridge.rclpy import _parameter_ranges as ranges
from ros_bridge.rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterAlreadyDeclaredException,
    ParameterImmutableException,
    ParameterNotDeclaredException,
    ParameterUninitializedException,
)
from ros_bridge.rclpy.parameter import PARAMETER_SEPARATOR_STRING, Parameter, ParameterMsg, ParameterValue
from ros_bridge.rclpy.validate_parameter_name import validate_parameter_name

ParameterDescriptor = load("rcl_interfaces/msg/ParameterDescriptor")
ParameterEvent = load("rcl_interfaces/msg/ParameterEvent")
ListParametersResult = load("rcl_interfaces/msg/ListParametersResult")
SetParametersResult = ranges.SetParametersResult

NOT_SET = Parameter.Type.NOT_SET
PreSet = Callable[[list[Parameter]], list[Parameter]]
OnSet = Callable[[list[Parameter]], Any]
PostSet = Callable[[list[Parameter]], None]


class NodeParameters:
    """Declared parameters, their descriptors and callbacks. `Node` derives from it and publishes its events."""

    PARAM_REL_TOL = ranges.REL_TOL

    def __init__(self, overrides: dict[str, Parameter], *, allow_undeclared: bool) -> None:
        self._parameters: dict[str, Parameter] = {}
        self._descriptors: dict[str, Any] = {}
        self._parameter_overrides = overrides
        self._allow_undeclared_parameters = allow_undeclared
        self._pre_set_parameters_callbacks: list[PreSet] = []
        self._on_set_parameters_callbacks: list[OnSet] = []
        self._post_set_parameters_callbacks: list[PostSet] = []

    # -- declaring -----------------------------------------------------------------------------

    def declare_parameter(
        self, name: str, value: Any = None, descriptor: Any = None, ignore_override: bool = False
    ) -> Parameter:
        """Declare one parameter by its default value or its type; an override replaces the value."""
        if value is None and descriptor is None:
            arguments: tuple[Any, ...] = (name,)
        else:
            arguments = (name, value, ParameterDescriptor() if descriptor is None else descriptor)
        return self.declare_parameters("", [arguments], ignore_override)[0]

    def declare_parameters(
        self, namespace: str, parameters: Sequence[tuple[Any, ...]], ignore_override: bool = False
    ) -> list[Parameter]:
        """Declare `(name[, value or type[, descriptor]])` each; names are put below `namespace`."""
        new: list[Parameter] = []
        descriptors: dict[str, Any] = {}
        for index, entry in enumerate(parameters):
            name, value, descriptor = self._declaration(namespace, index, entry)
            if not ignore_override and name in self._parameter_overrides:
                value = self._parameter_overrides[name].value
            new.append(Parameter(name, value=value))
            descriptors[name] = descriptor
        known = [parameter.name for parameter in new if parameter.name in self._parameters]
        if known:
            raise ParameterAlreadyDeclaredException(known)
        for parameter in new:
            result = self._store([parameter], descriptors, keep_unset=True)
            if result.successful:
                continue
            if result.reason.startswith("Wrong parameter type"):
                expected = Parameter.Type(descriptors[parameter.name].type).name
                raise InvalidParameterTypeException(parameter, expected)
            raise InvalidParameterValueException(parameter.name, parameter.value, result.reason)
        return [self._parameters[parameter.name] for parameter in new]

    def _declaration(self, namespace: str, index: int, entry: tuple[Any, ...]) -> tuple[str, Any, Any]:
        if not 1 <= len(entry) <= 3:
            raise TypeError(
                f"Invalid parameter tuple length at index {index} in parameters list: {entry}; "
                "expecting length between 1 and 3"
            )
        name = entry[0]
        if not isinstance(name, str):
            raise TypeError(f"First element {name} at index {index} in parameters list is not a str.")
        if namespace:
            name = f"{namespace}.{name}"
        validate_parameter_name(name)
        value = entry[1] if len(entry) > 1 else None
        descriptor = entry[2] if len(entry) > 2 else ParameterDescriptor()
        if not isinstance(descriptor, ParameterDescriptor):
            raise TypeError(
                f"Third element {descriptor} at index {index} in parameters list is not a ParameterDescriptor."
            )
        if len(entry) == 1:
            warnings.warn(
                f"when declaring parameter named '{name}', declaring a parameter only providing its name is "
                "deprecated; pass a default value, a type, or a descriptor with dynamic_typing=True",
                stacklevel=4,
            )
            descriptor.dynamic_typing = True
        if isinstance(value, Parameter.Type):
            if value is NOT_SET:
                raise ValueError(f"Cannot declare parameter {{{name}}} as statically typed of type NOT_SET")
            if descriptor.dynamic_typing:
                raise ValueError(
                    f"When declaring parameter {{{name}}} passing a descriptor with`dynamic_typing=True` "
                    "is not allowed when the parameter type is provided"
                )
            descriptor.type = value.value
            return name, None, descriptor
        if not descriptor.dynamic_typing:
            is_message = isinstance(value, ParameterValue)
            kind = value.type if is_message else Parameter.Type.from_parameter_value(value).value  # type: ignore[union-attr]
            descriptor.type = kind
            if descriptor.type == NOT_SET.value:
                raise ValueError(
                    "Cannot declare a statically typed parameter with default value of type PARAMETER_NOT_SET"
                )
        return name, value, descriptor

    def undeclare_parameter(self, name: str) -> None:
        """Forget a declared parameter; no callback is called."""
        if not self.has_parameter(name):
            raise ParameterNotDeclaredException(name)
        if self._descriptors[name].read_only:
            raise ParameterImmutableException(name)
        del self._parameters[name]
        del self._descriptors[name]

    # -- reading -------------------------------------------------------------------------------

    def has_parameter(self, name: str) -> bool:
        """Whether it is declared."""
        return name in self._parameters

    def get_parameter_types(self, names: list[str]) -> list[Any]:
        """`get_parameter_type` of each."""
        _check_names(names)
        return [self.get_parameter_type(name) for name in names]

    def get_parameter_type(self, name: str) -> Any:
        """The number of the type, as rclpy gives it."""
        if self.has_parameter(name):
            return self._parameters[name].type_.value
        if self._allow_undeclared_parameters:
            return NOT_SET
        raise ParameterNotDeclaredException(name)

    def get_parameters(self, names: list[str]) -> list[Parameter]:
        """`get_parameter` of each."""
        _check_names(names)
        return [self.get_parameter(name) for name in names]

    def get_parameter(self, name: str) -> Parameter:
        """The parameter; an exception when it is not declared, or has no value yet."""
        parameter = self._parameters.get(name)
        if parameter is None:
            if self._allow_undeclared_parameters:
                return Parameter(name, NOT_SET, None)
            raise ParameterNotDeclaredException(name)
        if parameter.type_ is NOT_SET and not self._descriptors[name].dynamic_typing:
            raise ParameterUninitializedException(name)
        return parameter

    def get_parameter_or(self, name: str, alternative_value: Parameter | None = None) -> Parameter:
        """The parameter, or the alternative when it is not declared or not set."""
        parameter = self._parameters.get(name)
        if parameter is not None and parameter.type_ is not NOT_SET:
            return parameter
        return Parameter(name, NOT_SET) if alternative_value is None else alternative_value

    def get_parameters_by_prefix(self, prefix: str) -> dict[str, Parameter]:
        """The parameters below `prefix`, by the rest of their names."""
        start = prefix + PARAMETER_SEPARATOR_STRING if prefix else ""
        return {name[len(start) :]: value for name, value in self._parameters.items() if name.startswith(start)}

    def list_parameters(self, prefixes: list[str], depth: int) -> Any:
        """Names and prefixes as `ListParametersResult`; depth 0 is any depth."""
        if not isinstance(prefixes, list):
            raise TypeError("The prefixes argument must be a list")
        if not all(isinstance(prefix, str) for prefix in prefixes):
            raise TypeError("All prefixes must be instances of type str")
        if not isinstance(depth, int):
            raise TypeError("The depth must be instance of type int")
        if depth < 0:
            raise ValueError("The depth must be greater than or equal to zero")

        def is_near(rest: str) -> bool:
            return depth == 0 or rest.count(PARAMETER_SEPARATOR_STRING) < depth

        def is_wanted(name: str) -> bool:
            if not prefixes:
                return is_near(name)
            return any(
                name == prefix or (name.startswith(f"{prefix}.") and is_near(name[len(prefix) + 1 :]))
                for prefix in prefixes
            )

        result = ListParametersResult()
        for name in filter(is_wanted, self._parameters):
            result.names.append(name)
            prefix, separator, _ = name.rpartition(PARAMETER_SEPARATOR_STRING)
            if separator and prefix not in result.prefixes:
                result.prefixes.append(prefix)
        return result

    # -- setting -------------------------------------------------------------------------------

    def set_parameters(self, parameter_list: list[Parameter]) -> list[Any]:
        """Set one after the other; a `SetParametersResult` each."""
        return [self.set_parameters_atomically([parameter]) for parameter in parameter_list]

    def set_parameters_atomically(self, parameter_list: list[Parameter]) -> Any:
        """Set all or none."""
        if self._pre_set_parameters_callbacks:
            parameter_list = [
                new for callback in self._pre_set_parameters_callbacks for new in callback(parameter_list)
            ]
            if not parameter_list:
                return ranges.refuse(
                    "parameter list cannot be empty, this might be due to pre_set_parameters_callback modifying "
                    "the original parameters list."
                )
        if not all(isinstance(parameter, Parameter) for parameter in parameter_list):
            raise TypeError(f"parameter must be instance of type '{Parameter!r}'")
        undeclared = [parameter.name for parameter in parameter_list if parameter.name not in self._parameters]
        if undeclared and not self._allow_undeclared_parameters:
            # rclpy names those after the first only: its text is an empty list for one.
            raise ParameterNotDeclaredException(undeclared[1:])
        return self._store(parameter_list, None, keep_unset=False)

    def _store(self, parameters: list[Parameter], descriptors: dict[str, Any] | None, *, keep_unset: bool) -> Any:
        """Check, ask the callbacks, store and announce. New `descriptors` come with a declaration."""
        used = self._descriptors if descriptors is None else descriptors
        for parameter in parameters:
            if parameter.name in used:
                result = self._apply(parameter, used[parameter.name], check_read_only=descriptors is None)
                if not result.successful:
                    return result
        for callback in self._on_set_parameters_callbacks:
            result = callback(parameters)
            if not isinstance(result, SetParametersResult):
                warnings.warn("Callback returned an invalid type, it should return SetParameterResult.", stacklevel=4)
                return ranges.refuse("Callback returned an invalid type")
            if not result.successful:
                return result
        event = ParameterEvent(node=self.get_fully_qualified_name())  # type: ignore[attr-defined]
        for parameter in parameters:
            if parameter.type_ is NOT_SET and not keep_unset:
                event.deleted_parameters.append(parameter.to_parameter_msg())
                self._parameters.pop(parameter.name, None)
                self._descriptors.pop(parameter.name, None)
                continue
            if descriptors is not None:
                self._descriptors[parameter.name] = descriptors[parameter.name]
            else:
                self._descriptors.setdefault(parameter.name, ParameterDescriptor(dynamic_typing=True))
            is_new = self.get_parameter_or(parameter.name).type_ is NOT_SET
            (event.new_parameters if is_new else event.changed_parameters).append(parameter.to_parameter_msg())
            self._parameters[parameter.name] = parameter
        self._publish_parameter_event(event)
        for after in self._post_set_parameters_callbacks:
            after(parameters)
        return ranges.accept()

    def _apply(self, parameter: Parameter, descriptor: Any, *, check_read_only: bool) -> Any:
        is_declared = self.has_parameter(parameter.name)
        return ranges.apply_descriptor(parameter, descriptor, is_declared=is_declared, check_read_only=check_read_only)

    def _publish_parameter_event(self, event: Any) -> None:
        raise NotImplementedError

    # -- descriptors ---------------------------------------------------------------------------

    def describe_parameter(self, name: str) -> Any:
        """The descriptor."""
        if name in self._descriptors:
            return self._descriptors[name]
        if self._allow_undeclared_parameters:
            return ParameterDescriptor()
        raise ParameterNotDeclaredException(name)

    def describe_parameters(self, names: list[str]) -> list[Any]:
        """`describe_parameter` of each."""
        return [self.describe_parameter(name) for name in names]

    def set_descriptor(self, name: str, descriptor: Any, alternative_value: Any = None) -> Any:
        """Give a parameter another descriptor; the alternative stands in for a value that it refuses."""
        if not self.has_parameter(name):
            if not self._allow_undeclared_parameters:
                raise ParameterNotDeclaredException(name)
            return self.get_parameter(name).get_parameter_value()
        if self.describe_parameter(name).read_only:
            raise ParameterImmutableException(name)
        candidates = [self.get_parameter(name)]
        if alternative_value is not None:
            candidates.append(Parameter.from_parameter_msg(ParameterMsg(name=name, value=alternative_value)))
        for parameter in candidates:
            result = self._apply(parameter, descriptor, check_read_only=False)
            if result.successful:
                self._parameters[name] = parameter
                self._descriptors[name] = descriptor
                return parameter.get_parameter_value()
        raise InvalidParameterValueException(name, candidates[-1].value, result.reason)

    # -- callbacks -----------------------------------------------------------------------------

    def add_pre_set_parameters_callback(self, callback: PreSet) -> None:
        """`callback(parameters)` returns what shall be set instead."""
        self._pre_set_parameters_callbacks.insert(0, callback)

    def add_on_set_parameters_callback(self, callback: OnSet) -> None:
        """`callback(parameters)` returns a `SetParametersResult` that accepts or refuses."""
        _check_callable(callback)
        self._on_set_parameters_callbacks.insert(0, callback)

    def add_post_set_parameters_callback(self, callback: PostSet) -> None:
        """`callback(parameters)` after they were set."""
        _check_callable(callback)
        self._post_set_parameters_callbacks.insert(0, callback)

    def remove_pre_set_parameters_callback(self, callback: PreSet) -> None:
        """Undo the adding."""
        self._pre_set_parameters_callbacks.remove(callback)

    def remove_on_set_parameters_callback(self, callback: OnSet) -> None:
        """Undo the adding."""
        self._on_set_parameters_callbacks.remove(callback)

    def remove_post_set_parameters_callback(self, callback: PostSet) -> None:
        """Undo the adding."""
        self._post_set_parameters_callbacks.remove(callback)


def _check_names(names: list[str]) -> None:
    if not all(isinstance(name, str) for name in names):
        raise TypeError("All names must be instances of type str")


def _check_callable(callback: Any) -> None:
    if not callable(callback):
        raise TypeError(f"Callback must be callable, got {type(callback)}")
