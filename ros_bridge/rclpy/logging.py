"""`get_logger`, as in `rclpy.logging`: lines on stderr, rclpy's format, with `once` and `throttle_duration_sec`."""

from __future__ import annotations

import logging as _logging
import sys
import time
from enum import IntEnum


class LoggingSeverity(IntEnum):
    """Severities with rclpy's numbers, which are Python's."""

    UNSET = 0
    DEBUG = 10
    INFO = 20
    WARN = 30
    ERROR = 40
    FATAL = 50


_NAMES = {10: "DEBUG", 20: "INFO", 30: "WARN", 40: "ERROR", 50: "FATAL"}


class _StderrHandler(_logging.Handler):
    # Looks sys.stderr up at every line, because tests and notebooks replace it.
    def emit(self, record: _logging.LogRecord) -> None:
        level = _NAMES.get(record.levelno, record.levelname)
        name = record.name.removeprefix("ros_bridge.node.")
        print(f"[{level}] [{record.created:.9f}] [{name}]: {record.getMessage()}", file=sys.stderr)


_ROOT = _logging.getLogger("ros_bridge.node")
_ROOT.addHandler(_StderrHandler())
_ROOT.setLevel(_logging.INFO)
_ROOT.propagate = False


class RcutilsLogger:
    """A named logger; use `get_logger`."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self._logger = _ROOT.getChild(name) if name else _ROOT
        self._seen: dict[str, float] = {}

    def get_child(self, name: str) -> RcutilsLogger:
        """The logger `<self>.<name>`."""
        return RcutilsLogger(f"{self.name}.{name}" if self.name else name)

    def set_level(self, level: LoggingSeverity | int) -> None:
        """Show this severity and above."""
        self._logger.setLevel(int(level))

    def get_effective_level(self) -> LoggingSeverity:
        """The lowest severity shown."""
        return LoggingSeverity(self._logger.getEffectiveLevel())

    def is_enabled_for(self, severity: LoggingSeverity | int) -> bool:
        """Whether that severity is shown."""
        return self._logger.isEnabledFor(int(severity))

    def log(
        self,
        message: str,
        severity: LoggingSeverity | int,
        *,
        once: bool = False,
        throttle_duration_sec: float | None = None,
    ) -> bool:
        """Write one line; False when `once` or the throttle held it back. Call sites are told apart by the text."""
        if once or throttle_duration_sec is not None:
            # Bounded: a text that changes at every call would otherwise grow this for ever.
            if len(self._seen) > 256:
                self._seen.clear()
            now, last = time.monotonic(), self._seen.get(message)
            if last is not None and (once or now - last < (throttle_duration_sec or 0.0)):
                return False
            self._seen[message] = now
        self._logger.log(int(severity), "%s", message)
        return True

    def debug(self, message: str, *, once: bool = False, throttle_duration_sec: float | None = None) -> bool:
        """See `log`."""
        return self.log(message, 10, once=once, throttle_duration_sec=throttle_duration_sec)

    def info(self, message: str, *, once: bool = False, throttle_duration_sec: float | None = None) -> bool:
        """See `log`."""
        return self.log(message, 20, once=once, throttle_duration_sec=throttle_duration_sec)

    def warning(self, message: str, *, once: bool = False, throttle_duration_sec: float | None = None) -> bool:
        """See `log`."""
        return self.log(message, 30, once=once, throttle_duration_sec=throttle_duration_sec)

    warn = warning

    def error(self, message: str, *, once: bool = False, throttle_duration_sec: float | None = None) -> bool:
        """See `log`."""
        return self.log(message, 40, once=once, throttle_duration_sec=throttle_duration_sec)

    def fatal(self, message: str, *, once: bool = False, throttle_duration_sec: float | None = None) -> bool:
        """See `log`."""
        return self.log(message, 50, once=once, throttle_duration_sec=throttle_duration_sec)


def get_logger(name: str) -> RcutilsLogger:
    """The logger of that name."""
    return RcutilsLogger(name)
