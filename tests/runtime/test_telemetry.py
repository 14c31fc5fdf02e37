"""Telemetry: bounded, exact counts, and a log that cannot hurt the loop."""

from __future__ import annotations

import json
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mcsd_agent.errors import UserError
from mcsd_agent.runtime import Telemetry, Tick, telemetry
from mcsd_agent.runtime.controller_mode import Transition
from mcsd_agent.runtime.telemetry_plot import plot_page, plot_telemetry
from mcsd_agent.runtime.telemetry_read import read_log
from mcsd_agent.runtime.tick import Summary


def tick(index: int = 0, reason: str = "ok", **changes: Any) -> Tick:
    fields: dict[str, Any] = {
        "index": index,
        "time": index / 10,
        "action_asked": np.float32([index, np.nan]),
        "action_sent": np.float32([1, 2]) if reason == "ok" else None,
        "reason": reason,
        "latency_s": index / 1000,
        "lateness_s": 0.001,
        "oldest_s": 0.05,
        "instruction": "go" if index > 3 else "",
        "mode": "running" if reason == "ok" else "stopped",
        "observation": {"scan": Summary(0.0, index / 10, math.nan, 0.05)},
    }
    return Tick(**(fields | changes))


def test_ring_is_bounded_and_counts_are_not() -> None:
    log = Telemetry(capacity=10)
    for i in range(100):
        log.record(tick(i, "ok" if i % 4 else "late", skipped=1 if i % 4 == 0 else 0))
    assert [t.index for t in log.ticks] == list(range(90, 100))
    summary = log.summary()
    assert summary["ticks"] == 100
    assert summary["reasons"] == {"ok": 75, "late": 25}
    assert summary["skipped"] == 25


def test_summary_has_the_percentiles_of_driven_ticks() -> None:
    log = Telemetry()
    for i in range(101):
        log.record(tick(i))
    log.record(tick(5000, "late"))
    summary = log.summary()
    assert (summary["latency_p50_s"], summary["latency_p99_s"], summary["latency_max_s"]) == (0.05, 0.099, 0.1)
    assert summary["oldest_max_s"] == 0.05
    json.dumps(summary, allow_nan=False)


def test_empty_summary_is_json_too() -> None:
    assert Telemetry().summary()["latency_p50_s"] is None
    json.dumps(Telemetry().summary(), allow_nan=False)


def test_log_holds_every_tick_including_those_before_it_was_asked_for(tmp_path: Path) -> None:
    log = Telemetry()
    log.record(tick(0))
    path = log.write_to(tmp_path / "new" / "run")
    for i in range(1, 500):
        log.record(tick(i))
    log.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["index"] for line in lines] == list(range(500))
    assert lines[7]["action_asked"] == [7, None], "NaN is no JSON"
    assert log.summary()["log_lines"] == 500
    assert log.summary()["log_error"] == ""


def test_stream_is_the_same_lines(tmp_path: Path) -> None:
    log = Telemetry()
    log.write_to(tmp_path)
    with (tmp_path / "stream").open("w") as file:
        log.stream_to(file)
        for i in range(20):
            log.record(tick(i))
        log.close()
    assert (tmp_path / "stream").read_text() == (tmp_path / telemetry.FILE_NAME).read_text()
    assert log.summary()["log_lines"] == 40, "both logs together"


def test_log_that_is_asked_for_again_begins_anew(tmp_path: Path) -> None:
    log = Telemetry()
    for name in ("a", "b"):
        log.write_to(tmp_path / name)
        log.record(tick(0))
    log.close()
    assert [len(read_log(tmp_path / name)) for name in ("a", "b")] == [1, 2]


def test_ticks_after_close_are_counted_and_not_written(tmp_path: Path) -> None:
    log = Telemetry()
    path = log.write_to(tmp_path)
    log.record(tick(0))
    log.close()
    log.record(tick(1))
    log.close()
    assert len(path.read_text().splitlines()) == 1
    assert (log.summary()["ticks"], log.summary()["log_dropped"]) == (2, 1)


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"telemetry .*file/telemetry\.jsonl'.*give a folder"):
        Telemetry().write_to(tmp_path / "file")
    with pytest.raises(UserError, match="capacity=0"):
        Telemetry(0)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    log = Telemetry()
    log.write_to(tmp_path)
    for i in range(40):
        log.record(tick(i, "ok" if i % 5 else "stale:scan"))
    log.close()
    return tmp_path


def test_log_reads_back_without_a_line_cut_short(run_folder: Path) -> None:
    path = run_folder / telemetry.FILE_NAME
    with path.open("a") as file:
        file.write('{"index": 40, "ti')
    assert len(read_log(run_folder)) == len(read_log(path)) == 40


@pytest.mark.parametrize("content", ["", "hello\n", "[]\n{}\n", '{"index": 1}\n'])
def test_other_files_are_no_logs(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=r"x\.jsonl"):
        read_log(path)
    with pytest.raises(UserError, match=r"y\.jsonl.*No such file"):
        read_log(tmp_path / "y.jsonl")


def test_plot_is_a_png(run_folder: Path) -> None:
    picture = plot_telemetry(run_folder, run_folder / "plots" / "t.png", names=("speed", "turn"))
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 10_000


def test_page_shows_every_picture(run_folder: Path) -> None:
    page = plot_page(run_folder, run_folder / "plots")
    pictures = sorted(path.name for path in (run_folder / "plots").glob("*.png"))
    assert pictures == ["actions.png", "memory.png", "observations.png", "times.png"]
    assert all(f'src="{name}"' in page.read_text() for name in pictures)
    assert all((run_folder / "plots" / name).read_bytes().startswith(b"\x89PNG") for name in pictures)


def test_plot_of_ticks_that_never_drove_is_a_png(tmp_path: Path) -> None:
    log = Telemetry()
    log.write_to(tmp_path)
    log.record(tick(0, "disconnected", action_asked=None))
    log.close()
    assert plot_telemetry(tmp_path, tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")


def test_missing_matplotlib_names_the_remedy(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match="pip install matplotlib"):
        plot_telemetry(run_folder, run_folder / "t.png")


def _record(folder: Path, count: int) -> Path:
    log = Telemetry()
    path = log.write_to(folder)
    for i in range(count):
        log.record(tick(i))
    log.record_transition(Transition(0.0, "inactive", "running", f"record of {count}"))
    log.close()
    return path


def test_earlier_record_is_never_overwritten_and_the_new_name_is_said(tmp_path: Path, caplog) -> None:
    assert _record(tmp_path, 1).name == "telemetry.jsonl"
    assert not caplog.messages
    assert [_record(tmp_path, count).name for count in (2, 3)] == ["telemetry-2.jsonl", "telemetry-3.jsonl"]
    names = [["telemetry.jsonl", "transitions.jsonl"]] + [
        [f"telemetry-{i}.jsonl", f"transitions-{i}.jsonl"] for i in (2, 3)
    ]
    for count, (ticks, transitions) in enumerate(names, 1):
        assert len(read_log(tmp_path / ticks)) == count
        assert json.loads((tmp_path / transitions).read_text())["reason"] == f"record of {count}"
    assert "telemetry-3.jsonl" in caplog.messages[-1]


def test_folder_is_read_by_its_newest_record_and_gaps_stay_gaps(tmp_path: Path) -> None:
    for count in (1, 2, 3):
        _record(tmp_path, count)
    (tmp_path / "telemetry.jsonl").unlink()
    (tmp_path / "telemetry-of-another.jsonl").write_text("no record\n")
    assert len(read_log(tmp_path)) == 3
    assert _record(tmp_path, 4).name == "telemetry-4.jsonl"
    assert len(read_log(tmp_path)) == 4
    (tmp_path / "telemetry-5.jsonl").touch()  # of a process that was killed before its first tick
    assert len(read_log(tmp_path)) == 4


def test_start_that_failed_before_its_first_tick_leaves_no_files(tmp_path: Path) -> None:
    log = Telemetry()
    log.write_to(tmp_path)
    log.close()
    assert list(tmp_path.iterdir()) == []


def test_two_that_begin_at_once_write_to_different_files(tmp_path: Path) -> None:
    logs = [Telemetry() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda log: log.write_to(tmp_path), logs))
    for log in logs:
        log.record(tick(0))
        log.close()
    assert len(set(paths)) == 8
    assert all(len(read_log(path)) == 1 for path in paths)
