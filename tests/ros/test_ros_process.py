"""How a process that is one node ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from conftest import ROBOT, ROOT

from ros_bridge.ros_process import interrupted_by_signals, ros_process, spin_for
from ros_bridge.server import free_port


def spinning(spin_once):
    """What `spin_for` needs of rclpy, with an executor that does nothing but `spin_once`."""
    executor = SimpleNamespace(add_node=lambda node: None, spin_once=lambda timeout_sec: spin_once())
    return SimpleNamespace(get_global_executor=lambda: executor, ok=lambda: True)


def fail_as_rclpy(number: int) -> None:
    """A signal amid what native rclpy does in C++: what its handler raises becomes another error."""
    try:
        os.kill(os.getpid(), number)
    except KeyboardInterrupt:
        raise RuntimeError("Unable to convert call argument '0' to Python object") from None


def spin_and_fail_to_stop() -> None:
    try:
        spin_for(spinning(lambda: fail_as_rclpy(signal.SIGTERM)), None, None)
    finally:
        raise RuntimeError("the robot could not be stopped")


@pytest.fixture
def foreground():
    """Ctrl-C and hang-ups as in a terminal, whatever the tests were started from."""
    numbers = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in numbers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("foreground")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_amid_a_message_ends_it_as_quietly_as_at_any_other_moment(own_server, number):
    before = signal.getsignal(number)
    with ros_process(own_server.url):
        spin_for(spinning(lambda: fail_as_rclpy(number)), None, None)
    assert signal.getsignal(number) == before


@pytest.mark.usefixtures("foreground")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_an_ignored_signal_stays_ignored(own_server, number):
    signal.signal(number, signal.SIG_IGN)
    went_on = False
    with ros_process(own_server.url):
        os.kill(os.getpid(), number)
        went_on = True
    assert went_on
    assert signal.getsignal(number) is signal.SIG_IGN


@pytest.mark.usefixtures("foreground")
@pytest.mark.parametrize(
    ("second", "is_cut_short"), [(signal.SIGHUP, False), (signal.SIGTERM, False), (signal.SIGINT, True)]
)
def test_what_the_first_signal_began_only_ctrl_c_cuts_short(second, is_cut_short):
    ended: list[bool] = []

    def stop_on_the_way_out() -> None:
        try:
            os.kill(os.getpid(), signal.SIGHUP)
        finally:
            os.kill(os.getpid(), second)
            ended.append(True)

    with pytest.raises(KeyboardInterrupt), interrupted_by_signals():
        stop_on_the_way_out()
    assert bool(ended) != is_cut_short


def test_a_signal_whose_exception_was_lost_ends_the_spin_all_the_same():
    def lose_it() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt), interrupted_by_signals():
        spin_for(spinning(lose_it), None, None)


def test_a_signal_of_a_process_before_does_not_end_the_next_one(own_server):
    with ros_process(own_server.url):
        os.kill(os.getpid(), signal.SIGTERM)
    turns: list[int] = []
    with interrupted_by_signals():
        spin_for(spinning(lambda: turns.append(1)), None, None, lambda: len(turns) > 2)
    assert len(turns) == 3


@pytest.mark.usefixtures("foreground")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_the_server_is_waited_for_is_an_interrupt(number):
    before = signal.getsignal(number)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), number))
    timer.start()
    with pytest.raises(KeyboardInterrupt), ros_process(f"ws://127.0.0.1:{free_port()}"):
        raise AssertionError("there is no server")
    timer.join()
    assert signal.getsignal(number) == before


def test_run_that_waits_for_its_server_is_ended_in_one_line(artifact):
    url = f"ws://127.0.0.1:{free_port()}"
    # The signal comes when it has begun to wait, however long it took to get there.
    program = (
        "import os, signal, sys, threading; import ros_bridge.rclpy.context as c; from mcsd_agent.cli import main\n"
        "wait = c.Connection.wait_connected\n"
        "def waits(*a):\n    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()\n    wait(*a)\n"
        "c.Connection.wait_connected = waits\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "run", str(artifact), "--robot", str(ROBOT), "--url", url]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (process.returncode, process.stderr) == (130, "interrupted\n")


def test_other_errors_are_not_hidden_nor_those_on_the_way_out(own_server):
    def fail() -> None:
        raise RuntimeError("of its own")

    with pytest.raises(RuntimeError, match="of its own"), ros_process(own_server.url):
        spin_for(spinning(fail), None, None)
    with pytest.raises(RuntimeError, match="could not be stopped"), ros_process(own_server.url):
        spin_and_fail_to_stop()
