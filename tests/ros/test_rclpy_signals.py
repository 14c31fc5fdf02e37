"""SIGTERM ends what spins on the bridge, with the link still open."""

from __future__ import annotations

import os
import signal
import threading

import pytest

import ros_bridge.rclpy as rclpy
from ros_bridge.rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from ros_bridge.rclpy.signals import SignalHandlerOptions, get_current_signal_handlers_options


@pytest.fixture(autouse=True)
def default_handler():
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    rclpy.try_shutdown()
    rclpy.uninstall_signal_handlers()
    signal.signal(signal.SIGTERM, before)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def init(server, **options) -> rclpy.Context:
    rclpy.init(args=["--url", server.url], **options)
    return rclpy.get_default_context()


@pytest.mark.parametrize(
    "spin",
    [
        rclpy.spin,
        lambda node: rclpy.spin_once(node, timeout_sec=10.0),
        lambda node: rclpy.spin_until_future_complete(node, rclpy.Future(), timeout_sec=10.0),
    ],
    ids=["spin", "spin_once", "spin_until_future_complete"],
)
def test_spin_raises_as_natively_and_what_follows_can_still_publish(fake_server, spin):
    init(fake_server)
    node = rclpy.create_node("ends")
    timer = threading.Timer(0.2, terminate)
    timer.start()
    with pytest.raises(ExternalShutdownException):
        spin(node)
    timer.join()
    terminate()  # a second one does not cut short what the program does now
    assert rclpy.ok()
    assert node.context.connection.connected
    node.destroy_node()
    rclpy.shutdown()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_callback_cannot_take_it_for_an_error_of_its_own(fake_server):
    init(fake_server)
    node = rclpy.create_node("ends")

    def callback() -> None:
        try:
            terminate()
        except Exception:
            pytest.fail("caught")

    node.create_timer(0.01, callback)
    with pytest.raises(ExternalShutdownException):
        rclpy.spin(node)


def test_elsewhere_it_interrupts(fake_server):
    init(fake_server)
    with pytest.raises(KeyboardInterrupt):
        terminate()


def test_own_executor_is_interrupted(fake_server):
    context = init(fake_server)
    executor = SingleThreadedExecutor(context=context)
    executor.create_task(terminate)
    with pytest.raises(KeyboardInterrupt):
        executor.spin()


@pytest.mark.parametrize("own", [signal.SIG_IGN, lambda number, frame: None])
def test_a_handler_of_the_program_is_kept(fake_server, own):
    signal.signal(signal.SIGTERM, own)
    init(fake_server)
    assert signal.getsignal(signal.SIGTERM) is own
    rclpy.shutdown()
    assert signal.getsignal(signal.SIGTERM) is own


@pytest.mark.parametrize(
    ("options", "installed"),
    [
        (None, SignalHandlerOptions.SIGTERM),
        (SignalHandlerOptions.ALL, SignalHandlerOptions.SIGTERM),
        (SignalHandlerOptions.SIGTERM, SignalHandlerOptions.SIGTERM),
        (SignalHandlerOptions.SIGINT, SignalHandlerOptions.NO),
        (SignalHandlerOptions.NO, SignalHandlerOptions.NO),
    ],
)
def test_options_say_whether_it_is_handled(fake_server, options, installed):
    init(fake_server, signal_handler_options=options)
    assert get_current_signal_handlers_options() == installed


def test_neither_another_context_nor_another_thread_handles_it(fake_server):
    context = rclpy.Context()
    init(fake_server, context=context)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    context.shutdown()
    thread = threading.Thread(target=init, args=(fake_server,))
    thread.start()
    thread.join()
    assert rclpy.ok()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
