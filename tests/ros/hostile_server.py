"""A rosbridge server that wants its clients' memory: bare sockets, so that it can break every rule."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Iterable

CONTINUATION, TEXT, BINARY, PING, PONG, FINAL, COMPRESSED = 0, 1, 2, 9, 10, 0x80, 0x40
ACCEPT = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n"
)


def frame(payload: bytes, kind: int = TEXT | FINAL, length: int | None = None) -> bytes:
    """A server's frame; `length` may lie."""
    size = len(payload) if length is None else length
    if size < 126:
        return bytes([kind, size]) + payload
    if size < 65536:
        return bytes([kind, 126]) + size.to_bytes(2, "big") + payload
    return bytes([kind, 127]) + size.to_bytes(8, "big") + payload


class HostileServer:
    """Answers every connection with `attack`, again and again, for as long as the client stays."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}"
        #: What goes on the wire after the handshake, once or (if `repeat`) for ever; `headers` join the handshake.
        self.attack: Iterable[bytes] = ()
        self.repeat = False
        self.headers = b""
        self.reads = True
        self.connections = self.sent = 0
        self._round = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def begin(self, attack: Iterable[bytes], *, repeat: bool = False, headers: bytes = b"", reads: bool = True) -> None:
        """Drop everybody, and treat whoever comes back so."""
        self.attack, self.repeat, self.headers, self.reads = attack, repeat, headers, reads
        self.sent = 0
        self._round += 1

    def close(self) -> None:
        """End it."""
        self._round = -1
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        self._listener.settimeout(0.2)
        while self._round >= 0:
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            self.connections += 1
            with client, contextlib.suppress(OSError):
                self._treat(client, self._round)

    def _treat(self, client: socket.socket, number: int) -> None:
        client.settimeout(2.0)
        request = client.recv(65536)
        key = request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
        digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        client.sendall(ACCEPT % base64.b64encode(digest) + self.headers)
        if not self.headers.endswith(b"endless"):
            client.sendall(b"\r\n")
        client.setblocking(False)
        while True:
            for data in self.attack:
                self._push(client, data, number)
                self._answer(client, number)
            if not self.repeat:
                break
        while self._round == number:
            self._answer(client, number)
            time.sleep(0.01)

    def _push(self, client: socket.socket, data: bytes, number: int) -> None:
        view = memoryview(data)
        while view:
            if self._round != number:
                raise ConnectionAbortedError
            try:
                count = client.send(view[: 1 << 18])
            except BlockingIOError:
                time.sleep(0.001)
                continue
            self.sent += count
            view = view[count:]

    def _answer(self, client: socket.socket, number: int) -> None:
        """Read what there is, and seem alive."""
        if self.reads:
            with contextlib.suppress(BlockingIOError):
                if not client.recv(1 << 16):
                    raise ConnectionAbortedError
                self._push(client, frame(b"", PONG | FINAL), number)
