"""What goes wrong on a robot ends with a stop in the same tick, and its reason is on record everywhere."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runtime.controlled import PERIOD, make, reasons

from mcsd_agent.runtime import Telemetry
from mcsd_agent.runtime.mcap_log import read_mcap
from mcsd_agent.runtime.prometheus import Exporter
from mcsd_agent.runtime.telemetry_read import read_log

#: What to do to a driving robot, and the reason that the very next tick must have.
FAULTS: dict[str, tuple[Callable[..., None], str]] = {
    "NaN observation": (
        lambda robot, clock: robot.values.update(position=np.float32([np.nan, 0])),
        "nan_observation:position",
    ),
    "infinite observation": (
        lambda robot, clock: robot.values.update(position=np.float32([0, np.inf])),
        "nan_observation:position",
    ),
    "wrong shape mid-stream": (
        lambda robot, clock: robot.values.update(position=np.zeros((2, 1), np.float32)),
        "invalid_observation:position",
    ),
    "sensor silent": (lambda robot, clock: robot.ages.update(position=1.0), "stale:position"),
    "clock back": (lambda robot, clock: clock.__init__(clock() - 3600), "clock_jump"),
    "clock forward": (lambda robot, clock: clock.sleep(3600), "late"),
    "policy output NaN": (lambda robot, clock: robot.values.update(action_root=np.float32([-1])), "nan_action"),
    "policy state NaN": (lambda robot, clock: robot.values.update(state_root=np.float32([-1])), "nan_state"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_stops_in_its_tick_with_its_reason_in_every_record(fault: str, tmp_path: Path) -> None:
    telemetry = Telemetry()
    telemetry.write_to(tmp_path)
    telemetry.write_mcap(tmp_path / "log.mcap")
    controller, robot, clock = make(telemetry)
    assert reasons(controller, clock, 3) == ["ok"] * 3
    clock.sleep(PERIOD)
    break_it, reason = FAULTS[fault]
    break_it(robot, clock)
    assert controller.tick().reason == reason
    assert robot.last == ("stop", reason)
    telemetry.close()
    assert [t["reason"] for t in read_log(tmp_path)] == [*["ok"] * 3, reason]
    assert [t["reason"] for t in read_mcap(tmp_path / "log.mcap")] == [*["ok"] * 3, reason]
    change = json.loads((tmp_path / "transitions.jsonl").read_text().splitlines()[-1])
    assert (change["before"], change["reason"]) == ("running", reason)
    assert change["after"] in ("stopped", "faulted")


def test_frozen_sensor_stops_in_the_tick_that_exceeds_its_limit() -> None:
    controller, robot, clock = make(max_frozen_by_name={"position": 2.5 * PERIOD})
    assert reasons(controller, clock, 4) == ["ok"] * 3 + ["frozen:position"]
    assert robot.last == ("stop", "frozen:position")


# --- telemetry that cannot be written ------------------------------------------------------------


def _full_disk(telemetry: Telemetry, tmp_path: Path) -> None:
    (tmp_path / "telemetry.jsonl").symlink_to("/dev/full")
    telemetry.write_to(tmp_path)


def _full_disk_mcap(telemetry: Telemetry, tmp_path: Path) -> None:
    (tmp_path / "log.mcap").symlink_to("/dev/full")
    telemetry.write_mcap(tmp_path / "log.mcap")
    telemetry._logs["mcap"]._sink._finished_at -= 1.0  # the next chunk is due


def _reader_gone(telemetry: Telemetry, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    telemetry.stream_to(os.fdopen(writer, "w"))
    os.close(reader)


LOSSES = {
    "disk full": (_full_disk, "No space left"),
    "disk full, MCAP": (_full_disk_mcap, "No space left"),
    "reader gone": (_reader_gone, "Broken pipe"),
}


def _wait_for_loss(telemetry: Telemetry) -> None:
    deadline = time.monotonic() + 30
    while not telemetry.lost and time.monotonic() < deadline:
        time.sleep(0.005)
    assert telemetry.lost


@pytest.mark.parametrize("loss", LOSSES)
def test_lost_telemetry_stops_the_robot_at_the_next_tick_and_is_counted(loss: str, tmp_path: Path) -> None:
    lose, words = LOSSES[loss]
    telemetry = Telemetry()
    lose(telemetry, tmp_path)
    controller, robot, clock = make(telemetry)
    assert reasons(controller, clock, 1) == ["ok"]
    _wait_for_loss(telemetry)
    clock.sleep(PERIOD)
    tick = controller.tick()
    assert (tick.reason, controller.mode) == ("telemetry_lost", "stopped")
    assert words in tick.detail
    assert robot.last == ("stop", "telemetry_lost")
    telemetry.close()
    summary = telemetry.summary()
    assert words in summary["log_error"]
    assert (summary["ticks"], summary["log_lines"], summary["log_dropped"]) == (2, 0, 2)
    telemetry.write_to(tmp_path / "elsewhere")
    telemetry.stream_to((tmp_path / "s").open("w"))
    telemetry.write_mcap(tmp_path / "another.mcap")
    assert reasons(controller, clock, 1) == ["ok"], "a log that can be written is good enough"
    telemetry.close()


@pytest.mark.parametrize("loss", LOSSES)
def test_where_telemetry_may_be_lost_driving_goes_on(loss: str, tmp_path: Path) -> None:
    telemetry = Telemetry()
    LOSSES[loss][0](telemetry, tmp_path)
    controller, _, clock = make(telemetry, on_telemetry_loss="go_on")
    reasons(controller, clock, 1)
    _wait_for_loss(telemetry)
    assert reasons(controller, clock, 20) == ["ok"] * 20
    telemetry.close()
    assert telemetry.summary()["log_dropped"] == 21


def test_reader_that_does_not_read_costs_ticks_in_the_log_and_none_of_the_loop(monkeypatch: Any) -> None:
    monkeypatch.setattr("mcsd_agent.runtime.telemetry_log._MAX_WAITING", 50)
    reader, writer = os.pipe()
    telemetry = Telemetry()
    telemetry.stream_to(os.fdopen(writer, "w", buffering=1))
    controller, _, clock = make(telemetry)
    try:
        assert reasons(controller, clock, 3000) == ["ok"] * 3000
        assert telemetry.summary()["log_dropped"] > 0
        assert telemetry.lost == ""
    finally:
        os.close(reader)
        telemetry.close()


def test_http_reader_that_leaves_early_hurts_nobody() -> None:
    telemetry = Telemetry()
    exporter = Exporter(telemetry, 0)
    controller, _, clock = make(telemetry)
    try:
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", exporter.port)) as rude:
                rude.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # closes with a reset
            assert reasons(controller, clock, 1) == ["ok"]
        with socket.create_connection(("127.0.0.1", exporter.port)) as patient:
            patient.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            answer = b"".join(iter(lambda: patient.recv(65536), b""))
        assert b'mcsd_ticks_total{reason="ok"} 20' in answer
    finally:
        exporter.close()
