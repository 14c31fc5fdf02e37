"""What a `ParameterDescriptor` allows: type, read-only, integer and floating-point ranges."""

from __future__ import annotations

import math
from typing import Any

from ros_bridge.messages import load
from ros_bridge.rclpy.parameter import Parameter

SetParametersResult = load("rcl_interfaces/msg/SetParametersResult")

#: Relative tolerance at the ends and steps of a floating-point range.
REL_TOL = 1e-6


def refuse(reason: str) -> Any:
    """An unsuccessful result."""
    return SetParametersResult(successful=False, reason=reason)


def accept() -> Any:
    """A successful result."""
    return SetParametersResult(successful=True)


def apply_descriptor(parameter: Parameter, descriptor: Any, *, is_declared: bool, check_read_only: bool) -> Any:
    """Whether `descriptor` allows `parameter`; a dynamically typed descriptor takes its type."""
    descriptor.name = parameter.name
    if check_read_only and descriptor.read_only:
        return refuse(f"Trying to set a read-only parameter: {parameter.name}.")
    is_unset = parameter.type_ is Parameter.Type.NOT_SET
    if descriptor.dynamic_typing:
        descriptor.type = parameter.type_.value
    elif is_declared and is_unset:
        return refuse("Static parameter cannot be undeclared")
    elif not is_unset and parameter.type_.value != descriptor.type:
        expected = Parameter.Type(descriptor.type)
        return refuse(f"Wrong parameter type, expected '{expected}' got '{parameter.type_}'")
    if parameter.type_ is Parameter.Type.INTEGER and descriptor.integer_range:
        return _integer(parameter, descriptor.integer_range[0])
    if parameter.type_ is Parameter.Type.DOUBLE and descriptor.floating_point_range:
        return _floating_point(parameter, descriptor.floating_point_range[0])
    return accept()


def _integer(parameter: Parameter, allowed: Any) -> Any:
    low, high = sorted((allowed.from_value, allowed.to_value))
    if parameter.value in (low, high):
        return accept()
    if not low < parameter.value < high:
        return refuse(f"Parameter {parameter.name} out of range. Min: {low}, Max: {high}, value: {parameter.value}")
    if allowed.step and (parameter.value - low) % allowed.step:
        return refuse(
            f"The parameter value for {parameter.name} is not a valid step. "
            f"Min: {low}, max: {high}, value: {parameter.value}, step: {allowed.step}"
        )
    return accept()


def _floating_point(parameter: Parameter, allowed: Any) -> Any:
    low, high = sorted((allowed.from_value, allowed.to_value))
    if any(math.isclose(parameter.value, edge, rel_tol=REL_TOL) for edge in (low, high)):
        return accept()
    if not low < parameter.value < high:
        return refuse(f"Parameter {parameter.name} out of range Min: {low}, Max: {high}, value: {parameter.value}")
    if allowed.step:
        nearest = low + round((parameter.value - low) / allowed.step) * allowed.step
        if not math.isclose(nearest, parameter.value, rel_tol=REL_TOL):
            return refuse(
                f"The parameter value for {parameter.name} is not close enough to a valid step. "
                f"Min: {low}, max: {high}, value: {parameter.value}, step: {allowed.step}"
            )
    return accept()
