"""Metrics: what they say, and to whom."""

from __future__ import annotations

import socket
import sys
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families
from runtime.controlled import make, reasons

from mcsd_agent.errors import UserError
from mcsd_agent.runtime import Telemetry
from mcsd_agent.runtime.prometheus import Exporter


def test_metrics_are_those_of_the_telemetry():
    telemetry = Telemetry()
    exporter = Exporter(telemetry, 0)
    try:
        controller, robot, clock = make(telemetry)
        reasons(controller, clock, 5)
        robot.connected = False
        reasons(controller, clock, 2)
        with urllib.request.urlopen(f"http://127.0.0.1:{exporter.port}/metrics", timeout=10) as answer:
            families = text_string_to_metric_families(answer.read().decode())
        values = {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}
    finally:
        exporter.close()
    assert values["mcsd_ticks_total", "ok"] == 5
    assert values["mcsd_ticks_total", "disconnected"] == 2
    assert values["mcsd_mode", "stopped"] == 1
    assert sum(v for (name, *_), v in values.items() if name == "mcsd_mode") == 1
    assert values["mcsd_transitions_total",] == 3
    assert values["mcsd_last_state_norm",] == pytest.approx(telemetry.last.state_norm)


def test_only_this_machine_is_answered():
    exporter = Exporter(Telemetry(), 0)
    try:
        assert exporter._server.server_address[0] == "127.0.0.1"
    finally:
        exporter.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", exporter.port), timeout=5)


def test_port_that_is_taken_or_none_is_named():
    exporter = Exporter(Telemetry(), 0)
    try:
        with pytest.raises(UserError, match=f"Prometheus port {exporter.port}: Address already in use; choose another"):
            Exporter(Telemetry(), exporter.port)
    finally:
        exporter.close()
    with pytest.raises(UserError, match="port 70000 must be from 0 to 65535"):
        Exporter(Telemetry(), 70000)


def test_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(UserError, match=r"extra \[telemetry\]"):
        Exporter(Telemetry(), 0)
