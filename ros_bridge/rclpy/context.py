"""A context owns the one connection that its nodes share, and the ROS arguments of the program."""

from __future__ import annotations

import inspect
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakMethod

from mcsd_agent.errors import UserError
from ros_bridge.address import DEFAULT_URL, URL_VARIABLE, token_from_environment
from ros_bridge.connection import Connection
from ros_bridge.rclpy._ros_arguments import RosArguments, parse
from ros_bridge.rclpy.exceptions import NotInitializedException
from ros_bridge.rclpy.logging import set_log_levels

CONNECT_TIMEOUT_S = 5.0


class Context:
    """Between `init` and `shutdown`: a link to a rosbridge server that reconnects by itself."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._connection: Connection | None = None
        self._callbacks: list[Callable[[], Any]] = []
        self._ok = self._was_shut_down = False
        #: The program's ROS arguments; not part of rclpy's interface.
        self.arguments = RosArguments()

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

    def init(
        self, args: Sequence[str] | None = None, *, initialize_logging: bool = True, domain_id: int | None = None
    ) -> None:
        """Connect; raises `UserError` within `CONNECT_TIMEOUT_S` when no server answers."""
        if domain_id is not None:
            raise NotImplementedError(
                "domain_id: over rosbridge the server's ROS domain applies; start it in that domain"
            )
        with self._lock:
            if self._connection is not None:
                raise RuntimeError("Context.init() must only be called once")
            self.arguments = parse(sys.argv if args is None else args)
            if initialize_logging:
                set_log_levels(self.arguments.log_levels)
            connection = Connection(_url_from(self.arguments.remaining), token=token_from_environment())
            try:
                connection.wait_connected(CONNECT_TIMEOUT_S)
            except BaseException:
                connection.close()
                raise
            self._connection, self._ok, self._was_shut_down = connection, True, False

    def ok(self) -> bool:
        """Initialised and not shut down."""
        return self._ok

    def shutdown(self) -> None:
        """Close the link, wake every executor. A context may be initialised again afterwards."""
        with self._lock:
            if self._connection is None:
                raise RuntimeError("Context must be initialized before it can be shutdown")
            self._ok, self._was_shut_down = False, True
            callbacks, self._callbacks = self._callbacks, []
            connection, self._connection = self._connection, None
        for callback in callbacks:
            _call(callback)
        connection.close()

    def try_shutdown(self) -> None:
        """`shutdown` unless it has happened already."""
        if self._connection is not None:
            self.shutdown()

    def on_shutdown(self, callback: Callable[[], Any]) -> None:
        """Call `callback` once, at shutdown, or now if that was before. A bound method keeps no object alive."""
        if not callable(callback):
            raise TypeError(f"callback should be a callable, got {type(callback)}")
        with self._lock:
            if not self._was_shut_down:
                self._callbacks.append(WeakMethod(callback, self._forget) if inspect.ismethod(callback) else callback)
                return
        callback()

    def get_domain_id(self) -> int:
        """Not known here."""
        raise NotImplementedError("get_domain_id: rosbridge does not tell the server's ROS domain")

    def destroy(self) -> None:
        """Nothing is left to do after `shutdown`."""

    def _forget(self, reference: Any) -> None:
        with self._lock:
            if reference in self._callbacks:
                self._callbacks.remove(reference)


_default: Context | None = None
_default_lock = threading.Lock()


def get_default_context(*, shutting_down: bool = False) -> Context:
    """The context used when none is given; with `shutting_down`, the next call gives a new one."""
    global _default
    with _default_lock:
        context = Context() if _default is None else _default
        _default = None if shutting_down else context
        return context


def _call(callback: Callable[[], Any]) -> None:
    function = callback() if isinstance(callback, WeakMethod) else callback
    if function is not None:
        function()


def _url_from(args: Sequence[str]) -> str:
    """`--url` in `args`, else the environment, else the default. Other arguments are the program's own."""
    url = os.environ.get(URL_VARIABLE) or DEFAULT_URL
    remaining = iter(args)
    for argument in remaining:
        if argument == "--url":
            try:
                url = next(remaining)
            except StopIteration:
                raise UserError("--url needs a value, for example --url ws://robot:9090") from None
        elif argument.startswith("--url="):
            url = argument.removeprefix("--url=")
    return url
