"""What the operating system and the interpreter can do for a loop that must be on time.

    from mcsd_agent.runtime import Controller, RealTimeConfig

    Controller(stream, robot, real_time=RealTimeConfig(fifo_priority=50, cpus=(3,), lock_memory=True)).run()

While a loop runs, its thread may have a real-time priority and processors of its own, and the process's memory may be
locked. The process's other Python threads get the priority below the loop's: they share the interpreter's lock with
it, and whoever holds that while an ordinary process has the processor makes the loop wait.

What the system does not permit is said, one line each (`unavailable`, `Controller.real_time_notes`), and the loop runs
without it, or not at all when it is `required`.

Always on (`freeze_gc`): the timer slack of the thread is taken away (50 µs by default), threads take turns every
0.5 ms instead of 5, and the garbage collector is under the loop's control, see `IdleCollector`.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from mcsd_agent.errors import UserError

_MCL_CURRENT, _MCL_FUTURE = 1, 2
_PR_SET_TIMERSLACK = 29
_SWITCH_INTERVAL_S = 0.0005


@dataclass(frozen=True)
class RealTimeConfig:
    """`fifo_priority`  SCHED_FIFO priority of the loop's thread, 1 to 99, and one less for the process's other Python
                     threads; None leaves the scheduler as it is
    `cpus`           processors on which the loop's thread may run; empty: all
    `lock_memory`    keep the whole process in memory (mlockall)
    `freeze_gc`      collect garbage only between ticks, see the module
    `required`       refuse to run where one of these is not permitted
    """

    fifo_priority: int | None = None
    cpus: tuple[int, ...] = ()
    lock_memory: bool = False
    freeze_gc: bool = True
    required: bool = False

    def __post_init__(self) -> None:
        if self.fifo_priority is not None and not 1 <= self.fifo_priority <= 99:
            raise UserError(f"fifo_priority={self.fifo_priority} must be from 1 to 99")
        here = os.cpu_count() or 1
        for cpu in self.cpus:
            if not 0 <= cpu < here:
                raise UserError(f"cpu {cpu} does not exist here; choose from 0 to {here - 1}")


def unavailable(config: RealTimeConfig) -> tuple[str, ...]:
    """What of `config` this process may not do, one line each with the reason and a remedy.

    Raises `UserError` instead when the config says `required`.
    """
    notes: list[str] = []
    if config.fifo_priority is None and not config.cpus and not config.lock_memory:
        return ()

    def attempt() -> None:  # priority and processors belong to a thread: a short-lived one tries
        trial = RealTimeConfig(config.fifo_priority, config.cpus, config.lock_memory, freeze_gc=False)
        with real_time(trial, other_threads=False) as session:
            notes.extend(session.notes)

    thread = threading.Thread(target=attempt, name="real-time-attempt")
    thread.start()
    thread.join()
    if notes and config.required:
        raise UserError(notes[0])
    return tuple(notes)


class IdleCollector:
    """Collects garbage in the idle time after a tick, and only what is quick.

    What exists when the loop starts is frozen: it is not looked at again. Reference counting frees what a tick makes;
    for cycles (exceptions, network code) generations 0 and 1 are collected once a second, and everything once a
    minute, each only when the time that is left before the next tick is `_MARGIN` times what it has ever taken.
    """

    _MARGIN = 4.0
    _EVERY_S = ((1.0, 1), (60.0, 2))

    def __init__(self) -> None:
        now = time.perf_counter()
        self._due = [now + every for every, _ in self._EVERY_S]
        self._longest = [0.0 for _ in self._EVERY_S]

    def between_ticks(self, slack_s: float) -> None:
        """`slack_s` are left until the next tick."""
        now = time.perf_counter()
        for i, (every, generation) in enumerate(self._EVERY_S):
            if now >= self._due[i] and slack_s > self._MARGIN * self._longest[i]:
                gc.collect(generation)
                took = time.perf_counter() - now
                self._longest[i], self._due[i] = max(self._longest[i], took), now + every
                return


class Session:
    """A loop's settings while they last."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.collector: IdleCollector | None = None

    def between_ticks(self, slack_s: float) -> None:
        """Called after every tick, with the seconds until the next."""
        if self.collector is not None:
            self.collector.between_ticks(slack_s)


@contextmanager
def real_time(config: RealTimeConfig, *, other_threads: bool = True) -> Iterator[Session]:
    """Applies `config` to the calling thread, and puts everything back afterwards.

    `other_threads=False` leaves the scheduling of the process's other threads alone.
    """
    session = Session()
    with ExitStack() as stack:
        if config.lock_memory:
            _note(session, "memory is not locked", _lock_memory, stack)
        if config.cpus:
            _note(session, f"processors {list(config.cpus)} are not given", _pin, stack, config.cpus)
        if config.fifo_priority is not None:
            _note(session, "SCHED_FIFO is not given", _prioritise, stack, config.fifo_priority, other_threads)
        if config.freeze_gc:
            _sharpen(stack)
            session.collector = IdleCollector()
            stack.enter_context(_gc_frozen())
        yield session


def _note(session: Session, what: str, apply: object, *arguments: object) -> None:
    try:
        apply(*arguments)  # type: ignore[operator]
    except (OSError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or "this system has no such call"
        session.notes.append(f"{what}: {reason}{_REMEDIES.get(what.split()[0], '')}")


_REMEDIES = {
    "memory": "; raise the limit (ulimit -l unlimited) or grant CAP_IPC_LOCK",
    "SCHED_FIFO": "; raise the limit (ulimit -r 99) or grant CAP_SYS_NICE",
    "processors": "; choose among those that this process may use",
}


def _lock_memory(stack: ExitStack) -> None:
    import resource  # not everywhere, and neither is mlockall

    libc = ctypes.CDLL(None, use_errno=True)
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    # Under a limit, locking what comes later as well would make later allocations fail.
    flags = _MCL_CURRENT | (_MCL_FUTURE if soft == resource.RLIM_INFINITY or os.geteuid() == 0 else 0)
    if libc.mlockall(flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    stack.callback(libc.munlockall)


def _pin(stack: ExitStack, cpus: tuple[int, ...]) -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    stack.callback(os.sched_setaffinity, 0, before)


def _prioritise(stack: ExitStack, priority: int, other_threads: bool) -> None:
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    stack.callback(os.sched_setscheduler, 0, policy, parameters)
    if other_threads:
        # Threads that they start inherit it; afterwards all of them get what this one had.
        _schedule_others(os.SCHED_FIFO, os.sched_param(max(1, priority - 1)))
        stack.callback(_schedule_others, policy, parameters)


def _schedule_others(policy: int, parameters: os.sched_param) -> None:
    for thread in threading.enumerate():
        if thread.native_id is not None and thread is not threading.current_thread():
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.sched_setscheduler(thread.native_id, policy, parameters)


def _sharpen(stack: ExitStack) -> None:
    """Timers that fire on time, and other Python threads that give way within half a millisecond."""
    stack.callback(sys.setswitchinterval, sys.getswitchinterval())
    sys.setswitchinterval(min(_SWITCH_INTERVAL_S, sys.getswitchinterval()))
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(1), 0, 0, 0)
        stack.callback(prctl, _PR_SET_TIMERSLACK, ctypes.c_ulong(0), 0, 0, 0)  # 0: back to the default


_frozen_lock = threading.Lock()
_frozen = 0


@contextmanager
def _gc_frozen() -> Iterator[None]:
    """No automatic collections, and nothing that exists now is collected, until the last such loop has ended."""
    global _frozen
    with _frozen_lock:
        ours = _frozen > 0 or gc.isenabled()  # somebody else's disabled collector stays as it is
        if ours and _frozen == 0:
            gc.collect()
            gc.freeze()
            gc.disable()
        _frozen += ours
    try:
        yield
    finally:
        with _frozen_lock:
            _frozen -= ours
            if ours and _frozen == 0:
                gc.unfreeze()
                gc.enable()
