"""The network side of a rosbridge connection: roslibpy's asyncio transport with its hazards removed.

Everything here runs on the one network thread (roslibpy's event loop). It moves frames, keeps the
link alive and reconnects; it never runs a user's callback, and it never keeps a frame for later.

What roslibpy 2.1 does, and what happens instead:

- reconnects after 1, 2.7, 7.3 ... 3600 s -> after 0.1 ... 0.5 s, for ever;
- believes a half-open link for ever -> pings ten times a second, drops a link that is silent for `dead_s`;
- raises on a binary frame, which ends the connection -> counts and skips it;
- has no handler for `op: status`, and no bound on what it buffers -> both are `Connection`'s to decide.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from typing import Any, Protocol

from roslibpy.comm.comm_asyncio import AsyncioRosBridgeClientFactory, AsyncioRosBridgeProtocol

#: Largest message accepted or sent, bytes: the limit of the usual servers. A larger one closes the link.
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
#: Unsent bytes beyond which frames are dropped: a peer that reads this slowly would get stale commands.
MAX_UNSENT_BYTES = 256 * 1024

# autobahn warns at every failed attempt, twice a second; the reasons go to `Link.closed` instead.
logging.getLogger("autobahn.asyncio.websocket.WebSocketClientProtocol").setLevel(logging.ERROR)

PING_PERIOD_S = 0.1
CONNECT_TIMEOUT_S = 2.0


class Link(Protocol):
    """What the transport tells its owner, always on the network thread."""

    def opened(self) -> list[bytes]:
        """The socket is open; the frames to send before any other, in order."""

    def ready(self) -> None:
        """Those frames are on their way and others may be sent."""

    def closed(self, reason: str) -> None:
        """The link went down, or an attempt failed."""

    def received(self, payload: bytes, is_binary: bool) -> None:
        """One whole message arrived."""

    def dropped(self, cause: str) -> None:
        """A frame was not sent: `backpressure`, `expired` or `disconnected`."""


class BridgeProtocol(AsyncioRosBridgeProtocol):
    """One WebSocket. Made by the factory at every (re)connect."""

    factory: Any
    heard_at = 0.0
    _pulse_call: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        self.heard_at = time.monotonic()
        super().data_received(data)

    def onOpen(self) -> None:
        self._manual_disconnect = False
        if self.factory.is_closing:  # `close` came while this socket was being opened
            self.leave()
            return
        self.heard_at = time.monotonic()
        for frame in self.factory.link.opened():
            self.sendMessage(frame, isBinary=False)
        # Only now may others send: their frames follow the advertisements they depend on.
        self.factory.ready(self)
        self.factory.link.ready()
        self._pulse()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.factory.link.received(payload, isBinary)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if self._pulse_call is not None:
            self._pulse_call.cancel()
        if self.factory is not None:
            self.factory.connection_lost(self)
            self.factory.link.closed(self.wasNotCleanReason or reason or f"closed with code {code}")

    def _pulse(self) -> None:
        """Ping, and drop a link that has answered nothing for `dead_s`."""
        if self.state != self.STATE_OPEN:
            return
        if time.monotonic() - self.heard_at > self.factory.dead_s:
            self.wasNotCleanReason = f"nothing heard for {self.factory.dead_s:g} s"
            self.dropConnection(abort=True)
            return
        self.sendPing()
        self._pulse_call = self.factory.loop.call_later(PING_PERIOD_S, self._pulse)

    def leave(self) -> None:
        """Say goodbye and go: what was written before is flushed, the server's answer is not waited for."""
        self._manual_disconnect = True
        self.sendClose(self.CLOSE_STATUS_CODE_NORMAL)
        self.wasClean = True
        self.dropConnection(abort=False)

    def write(self, payload: bytes, deadline: float | None) -> None:
        """Send now or never: what cannot leave before `deadline` (monotonic) is dropped."""
        link = self.factory.link
        if self.state != self.STATE_OPEN or self.transport is None:
            link.dropped("disconnected")
        elif deadline is not None and time.monotonic() > deadline:
            link.dropped("expired")
        elif self.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            link.dropped("backpressure")
        else:
            self.sendMessage(payload, isBinary=False)


class BridgeFactory(AsyncioRosBridgeClientFactory):
    """Opens sockets until told to stop. `set_*_delay` of roslibpy are class attributes; ours are too."""

    protocol = BridgeProtocol
    initialDelay = 0.1
    maxDelay = 0.5
    factor = 1.5
    # Commands are small and CPU on a robot is dear; it also takes away decompression bombs.
    compression = "none"

    def __init__(self, url: str, link: Link, *, headers: dict[str, str] | None, dead_s: float) -> None:
        super().__init__(url, headers=headers)
        self.link = link
        self.dead_s = dead_s
        self.setProtocolOptions(
            openHandshakeTimeout=CONNECT_TIMEOUT_S,
            closeHandshakeTimeout=0.5,
            maxMessagePayloadSize=MAX_MESSAGE_BYTES,
            maxFramePayloadSize=MAX_MESSAGE_BYTES,
            tcpNoDelay=True,
        )

    @property
    def is_closing(self) -> bool:
        """Whether `close` was called."""
        return self._stop

    @property
    def live(self) -> BridgeProtocol | None:
        """The open socket, or None."""
        return self._proto if self.is_connected else None

    def close(self) -> None:
        """Stop reconnecting and close the socket. Any thread."""
        self._stop = True
        proto = self._proto
        if proto is not None:
            self.loop.call_soon_threadsafe(proto.leave)

    async def _connect_async(self) -> None:
        # roslibpy waits for the kernel's TCP timeout (minutes) and swallows the reason.
        if self._stop:
            return
        tls = ssl.create_default_context() if self.isSecure else None
        try:
            await asyncio.wait_for(self.loop.create_connection(self, self.host, self.port, ssl=tls), CONNECT_TIMEOUT_S)
        except (TimeoutError, OSError) as error:
            self.link.closed(_reason(error))
            self._schedule_reconnect()


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, asyncio.TimeoutError):
        return "no answer"
    if isinstance(error, ConnectionRefusedError) or "Errno 111" in str(error):  # several addresses: one plain OSError
        return "connection refused"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
