"""A WebSocket server that misbehaves on request: malformed and binary frames, silence, sudden ends."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

from autobahn.asyncio.websocket import WebSocketServerFactory, WebSocketServerProtocol

from ros_bridge.server import free_port


class FakeServer:
    """Records every frame it gets (`frames`) and the headers of the last handshake. One client at a time."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.port = free_port()
        self.url = f"{'wss' if tls else 'ws'}://localhost:{self.port}"
        self.frames: list[tuple[float, dict[str, Any]]] = []
        self.headers: dict[str, str] = {}
        self.connections = 0
        self._tls = tls
        self._clients: list[Any] = []
        self._listener: Any = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def __enter__(self) -> FakeServer:
        self.listen()
        return self

    def __exit__(self, *failure: object) -> None:
        self.drop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def listen(self) -> None:
        """Accept connections."""
        outer = self

        class Protocol(WebSocketServerProtocol):  # type: ignore[misc]
            def onConnect(self, request: Any) -> None:
                outer.headers = dict(request.headers)

            def onOpen(self) -> None:
                outer.connections += 1
                outer._clients.append(self)

            def onMessage(self, payload: bytes, isBinary: bool) -> None:
                outer.frames.append((time.monotonic(), json.loads(payload)))

            def onClose(self, wasClean: bool, code: int, reason: str) -> None:
                if self in outer._clients:
                    outer._clients.remove(self)

        async def begin() -> Any:
            factory = WebSocketServerFactory(loop=self._loop)
            factory.protocol = Protocol
            return await self._loop.create_server(factory, "localhost", self.port, ssl=self._tls)

        self._listener = asyncio.run_coroutine_threadsafe(begin(), self._loop).result(5)

    def drop(self) -> None:
        """End every connection without a word, and refuse new ones, as a crash does."""

        def end() -> None:
            if self._listener is not None:
                self._listener.close()
                self._listener = None
            for client in list(self._clients):
                client.transport.abort()

        self._on_loop(end)

    def send(self, payload: bytes | dict[str, Any], *, binary: bool = False) -> None:
        """One frame to the client."""
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self._on_loop(lambda: [client.sendMessage(data, isBinary=binary) for client in self._clients])

    def freeze(self, seconds: float) -> None:
        """Answer nothing for a while, with the connection open: what a half-open link looks like."""
        self._loop.call_soon_threadsafe(time.sleep, seconds)

    @property
    def clients(self) -> int:
        """How many are connected now."""
        return len(self._clients)

    def operations(self) -> list[tuple[str, str]]:
        """`(op, topic or service)` of every frame so far."""
        return [(f["op"], f.get("topic") or f.get("service", "")) for _, f in list(self.frames)]

    def _on_loop(self, function: Callable[[], Any]) -> None:
        done = threading.Event()

        def call() -> None:
            try:
                function()
            finally:
                done.set()

        self._loop.call_soon_threadsafe(call)
        assert done.wait(5)


def eventually(condition: Callable[[], bool], timeout_s: float = 20.0) -> bool:
    """Whether `condition()` becomes true in time."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return condition()
