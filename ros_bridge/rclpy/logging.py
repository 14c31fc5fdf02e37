"""Loggers, as in `rclpy.logging`: lines on stderr in rclpy's format, and to `/rosout` for the loggers of nodes."""

from __future__ import annotations

import logging as _logging
import sys
import threading
from collections.abc import Callable, Mapping
from enum import IntEnum
from types import FrameType
from typing import Any

from ros_bridge.rclpy._logging_filters import CallSite, Options


class LoggingSeverity(IntEnum):
    """Severities with rclpy's numbers, which are Python's."""

    UNSET = 0
    DEBUG = 10
    INFO = 20
    WARN = 30
    ERROR = 40
    FATAL = 50


#: `(severity, logger name, text, frame of the caller)` to /rosout.
Sink = Callable[[int, str, str, FrameType], None]

_PREFIX = "ros_bridge.node"


class _StderrHandler(_logging.Handler):
    # Looks sys.stderr up at every line, because tests and notebooks replace it.
    def emit(self, record: _logging.LogRecord) -> None:
        level = LoggingSeverity(record.levelno).name
        name = record.name.removeprefix(f"{_PREFIX}.")
        print(f"[{level}] [{record.created:.9f}] [{name}]: {record.getMessage()}", file=sys.stderr)


_ROOT = _logging.getLogger(_PREFIX)
_ROOT.addHandler(_StderrHandler())
_ROOT.setLevel(_logging.INFO)
_ROOT.propagate = False
_sinks: dict[str, Sink] = {}
_sinks_lock = threading.Lock()


class RcutilsLogger:
    """A named logger; use `get_logger`. Options of its methods: `once`, `skip_first`, `throttle_duration_sec`,
    `throttle_time_source_type` (a `Clock`), each for the place in the source that calls."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self._call_sites: dict[tuple[Any, ...], CallSite] = {}

    def get_child(self, name: str) -> RcutilsLogger:
        """The logger `<self>.<name>`."""
        if not name:
            raise ValueError("Child logger name must not be empty.")
        return RcutilsLogger(f"{self.name}.{name}" if self.name else name)

    def set_level(self, level: LoggingSeverity | int) -> None:
        """Show this severity and above."""
        set_logger_level(self.name, level)

    def get_effective_level(self) -> LoggingSeverity:
        """The lowest severity shown."""
        return get_logger_effective_level(self.name)

    def is_enabled_for(self, severity: LoggingSeverity | int) -> bool:
        """Whether that severity is shown."""
        return _python_logger(self.name).isEnabledFor(LoggingSeverity(severity))

    def log(self, message: str, severity: LoggingSeverity | int, **kwargs: Any) -> bool:
        """Write one line; False when the level or an option held it back."""
        if not self.is_enabled_for(severity):
            return False
        severity, name = LoggingSeverity(severity), kwargs.pop("name", self.name)
        frame: FrameType = sys._getframe(1)
        while frame.f_code.co_filename == __file__ and frame.f_back is not None:
            frame = frame.f_back
        options = Options.of(kwargs)
        key = (frame.f_code.co_filename, frame.f_code.co_name, frame.f_lineno, frame.f_lasti)
        site = self._call_sites.get(key)
        if site is None:
            site = self._call_sites[key] = CallSite(severity, name, options)
        site.require(severity, name, options)
        if not site.should_log():
            return False
        _python_logger(name).log(severity, "%s", message)
        sink = _sink_of(name)
        if sink is not None:
            sink(severity, name, str(message), frame)
        return True

    def debug(self, message: str, **kwargs: Any) -> bool:
        """See `log`."""
        return self.log(message, LoggingSeverity.DEBUG, **kwargs)

    def info(self, message: str, **kwargs: Any) -> bool:
        """See `log`."""
        return self.log(message, LoggingSeverity.INFO, **kwargs)

    def warning(self, message: str, **kwargs: Any) -> bool:
        """See `log`."""
        return self.log(message, LoggingSeverity.WARN, **kwargs)

    def warn(self, message: str, **kwargs: Any) -> bool:
        """See `log`."""
        return self.warning(message, **kwargs)

    def error(self, message: str, **kwargs: Any) -> bool:
        """See `log`."""
        return self.log(message, LoggingSeverity.ERROR, **kwargs)

    def fatal(self, message: str, **kwargs: Any) -> bool:
        """See `log`."""
        return self.log(message, LoggingSeverity.FATAL, **kwargs)


_root_logger = RcutilsLogger()


def get_logger(name: str) -> RcutilsLogger:
    """The logger of that name."""
    if not name:
        raise ValueError("Logger name must not be empty.")
    return _root_logger.get_child(name)


def set_logger_level(name: str, level: LoggingSeverity | int, detailed_error: bool = False) -> None:
    """Show this severity and above of the logger `name` and its children."""
    _python_logger(name).setLevel(LoggingSeverity(level))


def get_logger_effective_level(name: str) -> LoggingSeverity:
    """The lowest severity shown."""
    return LoggingSeverity(_python_logger(name).getEffectiveLevel())


def get_logger_level(name: str) -> LoggingSeverity:
    """The level set for this very logger; UNSET when its parent's applies."""
    return LoggingSeverity(_python_logger(name).level)


def get_logging_severity_from_string(log_severity: str) -> LoggingSeverity:
    """The severity of that name."""
    try:
        return LoggingSeverity[log_severity.upper()]
    except KeyError:
        raise RuntimeError(f"Failed to get log severity from name '{log_severity}'") from None


def set_log_levels(levels: Mapping[str, int]) -> None:
    """Levels from `--log-level`, by logger name ("": all); not part of rclpy's interface."""
    for name, level in levels.items():
        set_logger_level(name, level)


def initialize() -> None:
    """Nothing to do here."""


def shutdown() -> None:
    """Forget all levels."""
    for logger in list(_logging.root.manager.loggerDict.values()):
        if isinstance(logger, _logging.Logger) and logger.name.startswith(f"{_PREFIX}."):
            logger.setLevel(_logging.NOTSET)
    _ROOT.setLevel(_logging.INFO)


def clear_config() -> None:
    """Forget all levels."""
    shutdown()
    initialize()


def get_logging_directory() -> Any:
    """Not here."""
    raise NotImplementedError("get_logging_directory: the bridge writes no log files; redirect stderr")


def add_sink(name: str, sink: Sink) -> None:
    """Send what the logger `name` and its children say to `sink`, too; not part of rclpy's interface."""
    with _sinks_lock:
        _sinks[name] = sink


def remove_sink(name: str, sink: Sink) -> None:
    """Undo `add_sink`."""
    with _sinks_lock:
        if _sinks.get(name) is sink:
            del _sinks[name]


def _sink_of(name: str) -> Sink | None:
    while name:
        sink = _sinks.get(name)
        if sink is not None:
            return sink
        name = name.rpartition(".")[0]
    return None


def _python_logger(name: str) -> _logging.Logger:
    return _ROOT.getChild(name) if name else _ROOT
