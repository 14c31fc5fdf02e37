"""A context owns the one connection that its nodes share."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence

from mcsd_agent.errors import UserError
from ros_bridge.address import DEFAULT_URL, URL_VARIABLE, token_from_environment
from ros_bridge.connection import Connection
from ros_bridge.rclpy.exceptions import NotInitializedException

CONNECT_TIMEOUT_S = 5.0


class Context:
    """Between `init` and `shutdown`: a link to a rosbridge server that reconnects by itself."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._connection: Connection | None = None
        self._callbacks: list[Callable[[], None]] = []
        self._ok = False

    def __enter__(self) -> Context:
        self.init()
        return self

    def __exit__(self, *failure: object) -> None:
        self.try_shutdown()

    @property
    def connection(self) -> Connection:
        """The link; not part of rclpy's interface."""
        if self._connection is None:
            raise NotInitializedException()
        return self._connection

    def init(self, args: Sequence[str] | None = None) -> None:
        """Connect; raises `UserError` within `CONNECT_TIMEOUT_S` when no server answers."""
        with self._lock:
            if self._connection is not None:
                raise RuntimeError("Context.init() must only be called once")
            connection = Connection(_url_from(sys.argv[1:] if args is None else args), token=token_from_environment())
            try:
                connection.wait_connected(CONNECT_TIMEOUT_S)
            except BaseException:
                connection.close()
                raise
            self._connection, self._ok = connection, True

    def ok(self) -> bool:
        """Initialised and not shut down."""
        return self._ok

    def shutdown(self) -> None:
        """Close the link, wake every executor. A context may be initialised again afterwards."""
        with self._lock:
            if self._connection is None:
                raise RuntimeError("Context must be initialized before it can be shutdown")
            self._ok = False
            callbacks, self._callbacks = self._callbacks, []
            connection, self._connection = self._connection, None
        for callback in callbacks:
            callback()
        connection.close()

    def try_shutdown(self) -> None:
        """`shutdown` unless it has happened already."""
        if self._connection is not None:
            self.shutdown()

    def on_shutdown(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, at shutdown."""
        with self._lock:
            self._callbacks.append(callback)

    def get_domain_id(self) -> int:
        """Not known here."""
        raise NotImplementedError("get_domain_id: rosbridge does not tell the server's ROS domain")


_default: Context | None = None
_default_lock = threading.Lock()


def get_default_context() -> Context:
    """The context used when none is given."""
    global _default
    with _default_lock:
        if _default is None:
            _default = Context()
        return _default


def _url_from(args: Sequence[str]) -> str:
    """`--url` in `args`, else the environment, else the default. Other arguments are the program's own."""
    url = os.environ.get(URL_VARIABLE) or DEFAULT_URL
    remaining = iter(args)
    for argument in remaining:
        if argument == "--ros-args":
            raise NotImplementedError("--ros-args: remapping and parameters from the command line are not here yet")
        if argument == "--url":
            try:
                url = next(remaining)
            except StopIteration:
                raise UserError("--url needs a value, for example --url ws://robot:9090") from None
        elif argument.startswith("--url="):
            url = argument.removeprefix("--url=")
    return url
