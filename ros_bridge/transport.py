"""The network side of a rosbridge connection: roslibpy's asyncio transport with its hazards removed.

Everything here runs on the one network thread (roslibpy's event loop). It moves frames, keeps the
link alive and reconnects; it never runs a user's callback, and it never keeps a frame for later.

What roslibpy 2.1 does, and what happens instead:

- reconnects after 1, 2.7, 7.3 ... 3600 s -> after 0.1 ... 0.5 s, for ever;
- believes a half-open link for ever -> pings ten times a second, drops a link that is silent for `dead_s`;
- sends into a stalled server, which delivers it all when it goes on -> a frame that may go stale leaves only when
  the server has just been heard, if need be by an answer to a ping;
- buffers what a server sends, and what it does not read, without end -> every buffer has a bound;
- raises on a binary frame, which ends the connection -> hands it on.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Protocol

from roslibpy.comm.comm_asyncio import AsyncioRosBridgeClientFactory

from ros_bridge.framing import MAX_MESSAGE_BYTES
from ros_bridge.websocket import BridgeProtocol

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


class BridgeFactory(AsyncioRosBridgeClientFactory):
    """Opens sockets until told to stop. `set_*_delay` of roslibpy are class attributes; ours are too."""

    protocol = BridgeProtocol
    initialDelay = 0.1
    maxDelay = 0.5
    factor = 1.5
    # Commands are small and CPU on a robot is dear; it also takes away decompression bombs.
    compression = "none"

    def __init__(
        self, url: str, link: Link, *, headers: dict[str, str] | None, tls: ssl.SSLContext | None, dead_s: float
    ) -> None:
        super().__init__(url, headers=headers)
        self.link = link
        self._tls = tls
        self.dead_s = dead_s
        self.setProtocolOptions(
            openHandshakeTimeout=CONNECT_TIMEOUT_S,
            closeHandshakeTimeout=0.5,
            maxMessagePayloadSize=MAX_MESSAGE_BYTES,
            maxFramePayloadSize=MAX_MESSAGE_BYTES,
            # `framing` reads text strictly, and skips a bad message instead of ending the link.
            utf8validateIncoming=False,
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
        connecting = self.loop.create_connection(self, self.host, self.port, ssl=self._tls)
        try:
            await asyncio.wait_for(connecting, CONNECT_TIMEOUT_S)
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
