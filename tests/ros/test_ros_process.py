"""How a process that is one node ends."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace

import pytest

from ros_bridge.ros_process import ros_process, spin_for


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
    """Ctrl-C as in a terminal, whatever the tests were started from."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("foreground")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_amid_a_message_ends_it_as_quietly_as_at_any_other_moment(own_server, number):
    before = signal.getsignal(number)
    with ros_process(own_server.url):
        spin_for(spinning(lambda: fail_as_rclpy(number)), None, None)
    assert signal.getsignal(number) == before


@pytest.mark.usefixtures("foreground")
def test_an_ignored_signal_stays_ignored(own_server):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with ros_process(own_server.url):
        os.kill(os.getpid(), signal.SIGINT)
        went_on = True
    assert went_on
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_other_errors_are_not_hidden_nor_those_on_the_way_out(own_server):
    def fail() -> None:
        raise RuntimeError("of its own")

    with pytest.raises(RuntimeError, match="of its own"), ros_process(own_server.url):
        spin_for(spinning(fail), None, None)
    with pytest.raises(RuntimeError, match="could not be stopped"), ros_process(own_server.url):
        spin_and_fail_to_stop()
