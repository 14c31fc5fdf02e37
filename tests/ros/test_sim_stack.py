"""However `mcsd-agent sim` ends, it leaves no process behind."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from conftest import ROBOT, Start, require_ros
from fake_server import eventually

from ros_bridge.server import free_port


def is_alive(pid: int) -> bool:
    """Neither gone nor a zombie, which only waits for whoever inherited it."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_child_outlives_it(start: Start, number: int):
    require_ros()
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # what is started inherits it
    try:
        process = start("-m", "mcsd_agent", "sim", "--robot", ROBOT, "--port", str(free_port()))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"simulated robot at")
    children = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    assert len(children) == 3  # the server, the robot, and who ends both
    process.send_signal(number)
    assert process.wait(20) == (-number if number == signal.SIGKILL else 0)
    assert eventually(lambda: not any(map(is_alive, children)), 20.0)
