"""Telemetry for Prometheus: text over HTTP on this machine's loopback address, and nowhere else.

    mcsd-agent run nav.mcsd --robot robot.yaml --prometheus 9400
    curl http://127.0.0.1:9400/metrics

Whoever asks is served by a thread of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, get_args

from mcsd_agent.errors import UserError
from mcsd_agent.runtime.controller_mode import Mode
from mcsd_agent.runtime.telemetry import Telemetry

ADDRESS = "127.0.0.1"
_LAST = {
    "latency_seconds": "latency_s",
    "policy_seconds": "policy_s",
    "lateness_seconds": "lateness_s",
    "oldest_observation_seconds": "oldest_s",
    "state_norm": "state_norm",
    "success": "success",
}


class Exporter:
    """Serves `telemetry` until `close`. Who asks, asks a thread of its own: no reader can delay a tick."""

    def __init__(self, telemetry: Telemetry, port: int) -> None:
        """`port` 0 takes a free one, see `port`. Raises `UserError` when it is taken, or without the package."""
        if not 0 <= port < 65536:
            raise UserError(f"Prometheus port {port} must be from 0 to 65535")
        try:
            from prometheus_client import CollectorRegistry, start_http_server
        except ModuleNotFoundError:
            raise UserError(
                "Prometheus needs the package prometheus_client; install mcsd-agent with the extra [telemetry]"
            ) from None
        registry = CollectorRegistry()
        registry.register(_Collector(telemetry))
        try:
            self._server, self._thread = start_http_server(port, addr=ADDRESS, registry=registry)
        except OSError as error:
            raise UserError(f"Prometheus port {port}: {error.strerror}; choose another one, or 0") from None
        self.port: int = self._server.server_port

    def close(self) -> None:
        """Answer nobody any more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=2.0)


class _Collector:
    """Telemetry as metric families, read anew for everyone who asks."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def describe(self) -> list[Any]:
        """Nothing is known before it is asked for; without this the registry would ask now."""
        return []

    def collect(self) -> Iterator[Any]:
        """Counters since the start, and the last tick's times."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        counts, last = self._telemetry.counts(), self._telemetry.last
        ticks = CounterMetricFamily("mcsd_ticks", "Ticks by reason.", labels=["reason"])
        for reason, count in counts["reasons"].items():
            ticks.add_metric([reason], count)
        yield ticks
        for name, key, text in (
            ("mcsd_skipped_periods", "skipped", "Periods without a tick."),
            ("mcsd_stop_failures", "stop_failures", "Stops that the robot could not carry out."),
            ("mcsd_transitions", "transitions", "Changes of the controller's mode."),
            ("mcsd_log_dropped", "log_dropped", "Ticks that are missing in a log."),
        ):
            yield CounterMetricFamily(name, text, value=counts[key])
        mode = GaugeMetricFamily("mcsd_mode", "1 for what the controller is doing.", labels=["mode"])
        for name in get_args(Mode):
            mode.add_metric([name], float(name == counts["mode"]))
        yield mode
        for name, key in _LAST.items():
            value = math.nan if last is None else getattr(last, key)
            yield GaugeMetricFamily(f"mcsd_last_{name}", f"{key} of the last tick.", value=value)
