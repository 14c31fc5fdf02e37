"""Real time: what the system gives is taken and given back, what it does not give is said, and nothing grows."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import tracemalloc
import weakref

import pytest
from runtime.controlled import PACKAGE, make
from runtime.scripted_robot import ScriptedRobot

from mcsd_agent.errors import UserError
from mcsd_agent.runtime import Controller, ControllerConfig, RealTimeConfig, Stream, Telemetry
from mcsd_agent.runtime.realtime import IdleCollector, real_time, unavailable

ALL = RealTimeConfig(fifo_priority=10, cpus=(min(os.sched_getaffinity(0)),), lock_memory=True)


def settings():
    return (
        os.sched_getscheduler(0),
        os.sched_getparam(0).sched_priority,
        os.sched_getaffinity(0),
        gc.isenabled(),
        gc.get_freeze_count(),
        sys.getswitchinterval(),
    )


def refuse(*arguments):
    raise PermissionError(1, "Operation not permitted")


def test_everything_is_put_back_also_after_an_error():
    before = settings()
    with real_time(ALL) as session:
        given = session.notes == []
        assert not gc.isenabled()
        assert gc.get_freeze_count() > 0
        assert sys.getswitchinterval() < 0.001
        if given:  # a system that permits it
            assert os.sched_getscheduler(0) == os.SCHED_FIFO
            assert os.sched_getparam(0).sched_priority == 10
        if not any("processors" in note for note in session.notes):
            assert os.sched_getaffinity(0) == set(ALL.cpus)
    assert settings() == before
    with pytest.raises(RuntimeError), real_time(ALL):
        raise RuntimeError
    assert settings() == before


def test_what_is_not_permitted_is_said_in_a_line_each_and_the_loop_runs(monkeypatch):
    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    monkeypatch.setattr("mcsd_agent.runtime.realtime._lock_memory", refuse)
    controller = Controller(Stream(PACKAGE, "numpy"), make()[1], real_time=ALL)
    assert [note.partition(":")[0] for note in controller.real_time_notes] == [
        "memory is not locked",
        f"processors {list(ALL.cpus)} are not given",
        "SCHED_FIFO is not given",
    ]
    assert all("Operation not permitted; " in note and "\n" not in note for note in controller.real_time_notes)
    controller.run(max_ticks=2)
    assert controller.telemetry.summary()["ticks"] == 2


def test_what_is_required_and_not_permitted_refuses_to_start(monkeypatch):
    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with pytest.raises(UserError, match="SCHED_FIFO is not given: Operation not permitted; raise the limit"):
        unavailable(RealTimeConfig(fifo_priority=10, required=True))
    assert unavailable(RealTimeConfig(required=True)) == ()


def test_system_without_such_calls_says_so(monkeypatch):
    monkeypatch.delattr(os, "sched_setscheduler")
    assert "this system has no such call" in unavailable(RealTimeConfig(fifo_priority=10))[0]


def test_threads_that_share_the_interpreter_share_its_urgency_for_as_long_as_the_loop_runs(monkeypatch):
    """A thread that holds the interpreter's lock and is preempted would make the loop wait for other processes."""
    given = {}
    monkeypatch.setattr(os, "sched_getscheduler", lambda thread: os.SCHED_OTHER)
    monkeypatch.setattr(os, "sched_getparam", lambda thread: os.sched_param(0))
    monkeypatch.setattr(os, "sched_setscheduler", lambda thread, *how: given.update({thread: how}))
    end = threading.Event()
    other = threading.Thread(target=end.wait)
    other.start()
    try:
        with real_time(RealTimeConfig(fifo_priority=10)):
            assert [(how, p.sched_priority) for how, p in (given[0], given[other.native_id])] == [
                (os.SCHED_FIFO, 10),
                (os.SCHED_FIFO, 9),
            ]
        assert {how for how, _ in given.values()} == {os.SCHED_OTHER}
        given.clear()
        unavailable(RealTimeConfig(fifo_priority=10))
        assert other.native_id not in given, "trying out concerns nobody else"
    finally:
        end.set()
        other.join()


def test_trying_out_leaves_this_thread_alone():
    before = settings()
    unavailable(ALL)
    assert settings() == before


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fifo_priority": 0}, "fifo_priority=0 must be from 1 to 99"),
        ({"fifo_priority": 100}, "fifo_priority=100"),
        ({"cpus": (4096,)}, "cpu 4096 does not exist here"),
        ({"cpus": (-1,)}, "cpu -1"),
    ],
)
def test_impossible_settings_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        RealTimeConfig(**fields)


def test_garbage_collector_comes_back_with_the_last_of_several_loops():
    inside, ends = threading.Barrier(3, timeout=30), [threading.Event(), threading.Event()]

    def loop(end):
        with real_time(RealTimeConfig()):
            inside.wait()
            end.wait(30)

    threads = [threading.Thread(target=loop, args=(end,)) for end in ends]
    for thread in threads:
        thread.start()
    inside.wait()
    for end, thread, enabled in zip(ends, threads, (False, True), strict=True):
        end.set()
        thread.join(30)
        assert gc.isenabled() == enabled
        assert (gc.get_freeze_count() == 0) == enabled


def test_collector_that_somebody_else_switched_off_stays_off():
    gc.disable()
    try:
        with real_time(RealTimeConfig()):
            assert gc.get_freeze_count() == 0
        assert not gc.isenabled()
    finally:
        gc.enable()


class Node:
    """Refers to itself: only a collector frees it."""

    def __init__(self):
        self.me = self


def test_idle_collector_frees_cycles_when_there_is_time_and_waits_when_there_is_none(monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    gc.disable()
    try:
        collector = IdleCollector()
        collector._longest = [0.01, 0.01]
        garbage = weakref.ref(Node())
        collector.between_ticks(1.0)
        assert garbage() is not None, "not due yet"
        now = 1.5
        collector.between_ticks(0.03)
        assert garbage() is not None, "four times what it takes is not there"
        collector.between_ticks(0.05)
        assert garbage() is None
    finally:
        gc.enable()


def test_ticks_make_no_cycles_and_do_not_grow():
    controller, robot, _ = make(Telemetry(capacity=50))

    def vary():  # every kind of tick
        count = len(robot.commands)
        robot.connected = count % 7 != 3
        robot.ages["position"] = 9.0 if count % 7 == 5 else 0.0
        robot.values["instruction"] = "go" if count % 2 else ""
        if count > 200:
            del robot.commands[:]

    robot.on_observe = vary
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        controller.run(max_ticks=3000)  # fills the rings
        before, _ = tracemalloc.get_traced_memory()
        controller.run(max_ticks=2000)
        after, _ = tracemalloc.get_traced_memory()
        assert gc.collect() == 0
    finally:
        tracemalloc.stop()
        gc.enable()
    assert after - before < 20_000  # bytes; a tick in the ring takes thousands


def test_tick_that_is_preempted_before_it_begins_makes_no_second_one_in_its_period():
    """Other processes may take the processor between the loop's look at the clock and the tick's."""
    controller, robot, clock = make()
    start, calls, taken = clock(), 0, []

    def preempted():
        nonlocal calls
        calls += 1
        if calls % 17 == 0:
            clock.sleep(1.3 * controller.period_s)
        return clock()

    robot.on_observe = lambda: taken.append(clock())
    controller._clock = preempted
    controller.run(max_ticks=200)
    periods = [int((t.time - start) / controller.period_s + 1e-6) for t in controller.telemetry.ticks]
    assert len(set(periods)) == len(periods) == 200
    assert {t.reason for t in controller.telemetry.ticks} == {"ok", "late"}


def test_real_loop_with_all_that_this_system_permits_drives_and_stops():
    robot = ScriptedRobot(time.monotonic)
    config = ControllerConfig(late_tolerance_s=60.0, max_age_s=60.0)
    controller = Controller(Stream(PACKAGE), robot, config, real_time=ALL)
    controller.run(max_ticks=3)
    assert [t.reason for t in controller.telemetry.ticks] == ["ok"] * 3
    assert robot.last == ("stop", "shutdown")
