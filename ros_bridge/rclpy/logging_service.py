"""The services with which other nodes read and set logger levels, as in `rclpy.logging_service`."""

from __future__ import annotations

from typing import Any

from ros_bridge.messages import load
from ros_bridge.rclpy.logging import get_logger_level, set_logger_level
from ros_bridge.rclpy.qos import qos_profile_services_default


class LoggingService:
    """Offers `<node>/get_logger_levels` and `<node>/set_logger_levels` on `node`."""

    def __init__(self, node: Any) -> None:
        for type_name, service, callback in (
            ("GetLoggerLevels", "get_logger_levels", self._get_logger_levels),
            ("SetLoggerLevels", "set_logger_levels", self._set_logger_levels),
        ):
            name = f"{node.get_name()}/{service}"
            kind = load(f"rcl_interfaces/srv/{type_name}")
            node.create_service(kind, name, callback, qos_profile=qos_profile_services_default)

    def _get_logger_levels(self, request: Any, response: Any) -> Any:
        level_type = load("rcl_interfaces/msg/LoggerLevel")
        response.levels = [level_type(name=name, level=int(get_logger_level(name))) for name in request.names]
        return response

    def _set_logger_levels(self, request: Any, response: Any) -> Any:
        result_type = load("rcl_interfaces/msg/SetLoggerLevelsResult")
        for level in request.levels:
            result = result_type()
            try:
                set_logger_level(level.name, level.level)
                result.successful = True
            except ValueError:
                result.reason = "Failed reason: Invalid logger level."
            response.results.append(result)
        return response
