"""MCAP files: read back by other people's readers, complete, and readable to the end after a crash."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from runtime.controlled import make, reasons

from mcsd_agent.errors import UserError
from mcsd_agent.runtime import Telemetry, mcap_log
from mcsd_agent.runtime.telemetry_read import read_log
from mcsd_agent.runtime.tick import Tick


def record(path, ticks=50):
    telemetry = Telemetry()
    telemetry.write_mcap(path)
    controller, robot, clock = make(telemetry)
    reasons(controller, clock, ticks // 2)
    robot.ages["position"] = 9.0
    robot.values["instruction"] = "go"
    reasons(controller, clock, ticks - ticks // 2)
    telemetry.close()
    assert telemetry.summary()["log_error"] == ""
    return telemetry


def decoded(path):
    """Messages by topic, by the MCAP project's own reader and ROS 2 decoder."""
    result: dict[str, list] = {}
    with path.open("rb") as file:
        for schema, channel, message, ros in make_reader(
            file, decoder_factories=[DecoderFactory()]
        ).iter_decoded_messages():
            assert (schema.encoding, channel.message_encoding) == ("ros2msg", "cdr")
            result.setdefault(channel.topic, []).append((message.log_time, ros))
    return result


def test_other_readers_find_every_tick_with_all_its_parts(tmp_path):
    path = tmp_path / "new" / "log.mcap"
    telemetry = record(path)
    messages = decoded(path)
    ticks = [ros for _, ros in messages["/policy/tick"]]
    assert len(ticks) == 50
    for ros, tick in zip(ticks, telemetry.ticks, strict=True):
        assert (ros.index, ros.reason, ros.mode, ros.instruction) == (
            tick.index,
            tick.reason,
            tick.mode,
            tick.instruction,
        )
        assert ros.state_norm == tick.state_norm
        assert list(ros.action_sent) == ([] if tick.action_sent is None else tick.action_sent.tolist())
    seen = {s.name: s for s in ticks[0].observation}
    assert sorted(seen) == ["action_root", "position", "state_root"]
    assert (seen["position"].min, seen["position"].mean, seen["position"].max) == (-0.25, 0, 0.25)
    changes = [(t.before, t.after, t.reason) for _, t in messages["/policy/transition"]]
    assert changes == [(t.before, t.after, t.reason) for t in telemetry.transitions]
    shown = [(d.status[0].level, d.status[0].message) for _, d in messages["/diagnostics"]]
    assert shown == [(0, "ok"), (2, "stale:position")]


def test_times_advance_as_the_controllers_clock_does_and_are_wall_times(tmp_path):
    before = time.time()
    telemetry = record(tmp_path / "log.mcap")
    times = np.array([t for t, _ in decoded(tmp_path / "log.mcap")["/policy/tick"]]) / 1e9
    np.testing.assert_allclose(np.diff(times), np.diff([t.time for t in telemetry.ticks]), atol=1e-6)
    assert before - 1 <= times[0] <= time.time()


def test_ticks_before_the_file_was_asked_for_keep_their_times(tmp_path):
    telemetry = Telemetry()
    controller, _, clock = make(telemetry)
    reasons(controller, clock, 2000)  # 200 s of the controller's clock
    asked = time.time()
    telemetry.write_mcap(tmp_path / "log.mcap")
    reasons(controller, clock, 5)
    telemetry.close()
    times = [t / 1e9 for t, _ in decoded(tmp_path / "log.mcap")["/policy/tick"]]
    assert len(times) == 2005
    assert times[1999] == pytest.approx(asked, abs=60.0), "the newest tick of then was now"


def test_our_reader_gives_what_jsonl_gives(tmp_path):
    telemetry = Telemetry()
    telemetry.write_to(tmp_path)
    telemetry.write_mcap(tmp_path / "log.mcap")
    controller, robot, clock = make(telemetry)
    reasons(controller, clock, 5)
    robot.values["position"] = np.float32([np.nan, 1])
    reasons(controller, clock, 5)
    telemetry.close()
    assert read_log(tmp_path / "log.mcap") == read_log(tmp_path)


def test_what_a_killed_process_left_is_readable(tmp_path, monkeypatch):
    monkeypatch.setattr(mcap_log, "_CHUNK_S", 0.0)  # a chunk whenever nothing more waits
    telemetry = Telemetry()
    telemetry.write_mcap(tmp_path / "log.mcap")
    controller, _, clock = make(telemetry)
    for count in range(1, 21):
        reasons(controller, clock, 1)
        deadline = time.monotonic() + 10
        while telemetry.summary()["log_lines"] < count and time.monotonic() < deadline:
            time.sleep(0.001)
    data = (tmp_path / "log.mcap").read_bytes()  # nobody has closed it
    telemetry.close()
    cut = tmp_path / "cut.mcap"
    for missing in range(0, 400, 37):
        cut.write_bytes(data[: len(data) - missing])
        ticks = read_log(cut)
        assert [t["index"] for t in ticks] == list(range(len(ticks)))
        assert len(ticks) >= 18 or missing > 100


def test_long_recordings_go_on_in_further_files(tmp_path, monkeypatch):
    monkeypatch.setattr(mcap_log, "_CHUNK_S", 0.0)
    monkeypatch.setattr(mcap_log, "_CHUNKS_PER_FILE", 1)
    log = mcap_log.Mcap(tmp_path / "log.mcap")
    telemetry = Telemetry()
    controller, _, clock = make(telemetry)
    reasons(controller, clock, 3)
    for tick in telemetry.ticks:
        log.write(tick)
        log.flush()
    log.close()
    names = ["log.mcap", "log-2.mcap", "log-3.mcap"]
    assert [len(decoded(tmp_path / name)["/policy/tick"]) for name in names] == [1, 1, 1]


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89MCAP0\r\n", b"\x89MCAP0\r\n" + bytes(100)])
def test_other_files_are_no_recordings(tmp_path, content):
    (tmp_path / "x.mcap").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.mcap"):
        read_log(tmp_path / "x.mcap")


def test_paths_that_cannot_be_written_and_packages_that_are_missing_are_named(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"log\.bag' must have a name that ends with \.mcap"):
        Telemetry().write_mcap(tmp_path / "log.bag")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="give a path that can be written"):
        Telemetry().write_mcap(tmp_path / "file" / "log.mcap")
    with pytest.raises(UserError, match=r"none\.mcap.*No such file"):
        read_log(tmp_path / "none.mcap")
    monkeypatch.setitem(sys.modules, "mcap.writer", None)
    with pytest.raises(UserError, match=r"extras \[robot,telemetry\]"):
        Telemetry().write_mcap(tmp_path / "log.mcap")


def test_estimates_of_success_are_beside_the_ticks_and_are_read_back(tmp_path):
    path, telemetry = tmp_path / "log.mcap", Telemetry()
    telemetry.write_mcap(path)
    for i, success in enumerate((0.25, np.nan, 0.75)):
        telemetry.record(Tick(i, float(i), None, None, "ok", 0.0, 0.0, 0.0, success=success))
    telemetry.close()
    assert [ros.data for _, ros in decoded(path)["/policy/success"]] == [0.25, 0.75]
    assert [tick["success"] for tick in read_log(path)] == [0.25, None, 0.75]
    assert [tick["success"] for tick in (t.to_json() for t in telemetry.ticks)] == [0.25, None, 0.75]


def test_earlier_recordings_stay_and_the_next_free_name_is_taken(tmp_path, caplog):
    record(tmp_path / "log.mcap")
    before = (tmp_path / "log.mcap").read_bytes()
    telemetry = Telemetry()
    path = telemetry.write_mcap(tmp_path / "log.mcap")
    telemetry.record(Tick(0, 0.0, None, None, "ok", 0.0, 0.0, 0.0))
    telemetry.close()
    assert path.name == "log-2.mcap"
    assert (tmp_path / "log.mcap").read_bytes() == before
    assert len(read_log(path)) == 1
    assert "log-2.mcap" in caplog.messages[-1]


def test_recording_without_ticks_leaves_no_file(tmp_path):
    telemetry = Telemetry()
    telemetry.write_mcap(tmp_path / "log.mcap")
    telemetry.close()
    assert list(tmp_path.iterdir()) == []
