"""`once`, `skip_first` and `throttle_duration_sec` of logging calls, counted for each place in the source."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

_KNOWN = ["throttle_duration_sec", "throttle_time_source_type", "skip_first", "once"]


@dataclass(frozen=True)
class Options:
    """Those of one call."""

    once: bool = False
    skip_first: bool = False
    throttle_duration_sec: float | None = None
    throttle_time_source_type: Any = None

    @classmethod
    def of(cls, keywords: dict[str, Any]) -> Options:
        """Raises `TypeError` for unknown options, or a time source without a duration."""
        for name in keywords:
            if name not in _KNOWN:
                raise TypeError(f'parameter "{name}" is not one of the recognized logging options "{_KNOWN}"')
        options = cls(**keywords)
        if options.throttle_time_source_type is not None and options.throttle_duration_sec is None:
            raise TypeError(
                'required parameter "throttle_duration_sec" not specified but is required for the '
                'the logging filter "throttle"'
            )
        return options


class CallSite:
    """What one place in the source has logged."""

    def __init__(self, severity: int, name: str, options: Options) -> None:
        self._severity, self._name, self._options = severity, name, options
        self._count = 0
        self._logged_at = 0

    def require(self, severity: int, name: str, options: Options) -> None:
        """`ValueError` when the place calls in another way than before."""
        if severity != self._severity:
            raise ValueError("Logger severity cannot be changed between calls.")
        if name != self._name:
            raise ValueError("Logger name cannot be changed between calls.")
        if options != self._options:
            raise ValueError("Logging filter parameters cannot be changed between calls.")

    def should_log(self) -> bool:
        """Whether this call passes, in rclpy's order: throttle, skip first, once."""
        options = self._options
        if options.throttle_duration_sec:
            clock = options.throttle_time_source_type
            now = time.time_ns() if clock is None else clock.now().nanoseconds
            if now < self._logged_at + options.throttle_duration_sec * 1e9:
                return False
            self._logged_at = now
        self._count += 1
        if options.skip_first and self._count == 1:
            return False
        return not options.once or self._count == 1 + options.skip_first
