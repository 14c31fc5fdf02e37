"""How a process that is one node ends."""

from __future__ import annotations

import os
import signal

import pytest

from ros_bridge.ros_process import ros_process


def test_an_error_that_a_signal_caused_ends_it_as_quietly_as_the_signal(own_server):
    before = signal.getsignal(signal.SIGTERM)
    with ros_process(own_server.url):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            raise RuntimeError("Unable to convert call argument '0' to Python object") from None
    assert signal.getsignal(signal.SIGTERM) == before


def test_any_other_error_is_not_hidden(own_server):
    with pytest.raises(RuntimeError, match="of its own"), ros_process(own_server.url):
        raise RuntimeError("of its own")
