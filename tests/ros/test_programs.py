"""One source, two backends: node programs in the manner of the rclpy tutorials, on native rclpy and on the bridge.

Each program prints what it observes; both must print the same. The bridge's run goes through a real server.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, require_ros

from ros_bridge.server import RosbridgeServer

PROGRAMS = Path(__file__).with_name("programs")
ARGUMENTS = {
    "names": "-r chatter:=talk -r ~/chatter:=~/private -r rostopic://only_topic:=t -r talker:other:=special "
    "-r nobody:other:=wrong -r __ns:=/glob",
    "parameters": f"-p rate:=20 --params-file {PROGRAMS / 'params.yaml'}",
    "logging_rosout": "--log-level warn --log-level speaker:=info",
}
NAMES = sorted(path.stem for path in PROGRAMS.glob("*.py"))


@pytest.fixture(scope="module")
def native_environment() -> Iterator[dict[str, str]]:
    """A ROS domain of its own, so that native and bridge programs may run at the same time under the same names."""
    require_ros()
    domain = RosbridgeServer()  # not started: it only reserves the domain
    # Native message classes check their fields only when asked to; ours always do.
    yield {**domain.node_environment(), "ROS_PYTHON_CHECK_FIELDS": "1"}
    domain.stop()


@pytest.mark.parametrize("name", NAMES)
def test_program_observes_the_same_on_native_rclpy_and_on_the_bridge(name, native_environment, shared_server):
    program = str(PROGRAMS / f"{name}.py")
    arguments = ["--ros-args", *ARGUMENTS[name].split()] if name in ARGUMENTS else []
    bridge_environment = {**os.environ, "MCSD_ROSBRIDGE_URL": shared_server.url}
    commands = (
        ([sys.executable, program, *arguments], native_environment),
        ([sys.executable, "-m", "ros_bridge", program, *arguments], bridge_environment),
    )
    processes = [
        subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for command, env in commands
    ]
    try:
        results = [process.communicate(timeout=60) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, error) in zip(processes, results, strict=True):
        assert process.returncode == 0, error[-3000:]
    native, bridge = (output.splitlines() for output, _ in results)
    assert len(native) > 3
    assert bridge == native
