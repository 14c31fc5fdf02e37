"""Real parts for the ROS tests: a rosbridge server, native rclpy processes, a policy that counts its ticks."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from counting_policy import counting_artifact
from fake_server import FakeServer

from ros_bridge.rclpy.context import Context
from ros_bridge.server import RosbridgeServer, available, end_group

ROOT = Path(__file__).parents[2]
ROBOT = ROOT / "configs/robots/diffdrive.yaml"

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def fake_server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture(scope="session")
def shared_server() -> Iterator[RosbridgeServer]:
    """One real server for every test that does not kill it."""
    require_ros()
    with RosbridgeServer() as server:
        yield server


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RosbridgeServer]:
    """A real server in a ROS domain of its own, for tests with a robot, or that kill it."""
    require_ros()
    with RosbridgeServer(log=tmp_path / "server.log") as server:
        yield server


@contextmanager
def default_context(url: str) -> Iterator[Context]:
    """A context over the server at `url` that nodes without one of their own are made in."""
    context = Context()
    context.init(["--url", url])
    with pytest.MonkeyPatch.context() as patch:
        for module in ("node", "context"):
            patch.setattr(f"ros_bridge.rclpy.{module}.get_default_context", lambda: context)
        yield context


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts Python processes; ends all of them, whatever the test does."""
    running: list[subprocess.Popen[bytes]] = []

    def launch(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        command = [sys.executable, *map(str, arguments)]
        process = subprocess.Popen(command, env=env, cwd=ROOT, start_new_session=True, stdout=subprocess.PIPE)
        running.append(process)
        return process

    yield launch
    for process in running:
        end_group(process)
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy for the Nav robot whose n-th action since a reset is (0.1 + n/5000 m/s, 0.9 rad/s)."""
    path = tmp_path_factory.mktemp("artifact") / "counting.mcsd"
    path.write_bytes(counting_artifact())
    return path


def require_ros() -> None:
    usable, reason = available()
    if not usable and "wheels exist for" in reason:
        pytest.skip(reason)
    assert usable, reason


def require_compiler() -> None:
    """For types of one's own on native ROS; neither the project nor the demo needs one."""
    require_ros()
    if shutil.which("g++") is None or not Path(sysconfig.get_paths()["include"], "Python.h").is_file():
        pytest.skip("compiling message types takes g++ and Python's headers: apt-get install g++ python3-dev")
