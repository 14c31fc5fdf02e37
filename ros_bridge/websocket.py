"""One WebSocket of a rosbridge connection, on the network thread.

It moves frames, keeps no frame for later, and holds every buffer to a bound, whatever the server does. What roslibpy
2.1 and autobahn do, and what happens here instead, is in `transport`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from typing import Any

from roslibpy.comm.comm_asyncio import AsyncioRosBridgeProtocol

LOGGER = logging.getLogger("ros_bridge")

#: Unsent bytes beyond which frames are dropped: a peer that reads this slowly would get stale commands.
MAX_UNSENT_BYTES = 256 * 1024
#: What a frame costs beside its bytes on its way to the network thread.
_FRAME_OVERHEAD = 512
#: An answer to the opening handshake that is longer is none.
MAX_HANDSHAKE_BYTES = 64 * 1024
#: Received bytes are worked through in such pieces: autobahn copies what is left of a piece for every frame in it.
_PIECE_BYTES = 16 * 1024

PING_PERIOD_S = 0.1
#: A frame with a deadline leaves at once if the server was heard so recently; else a ping must be answered first.
ASK_S = 0.005
#: A server that has answered no ping for this long while bytes wait for it reads nothing: the link is dropped.
UNREAD_S = 5.0


class _Log:
    """autobahn's log. Its debug lines show the request with the token; its warnings repeat what `Link.closed` says.

    What it calls errors is what a server did to it, and may come with every attempt to connect.
    """

    def error(self, text: str, **values: Any) -> None:
        LOGGER.debug(text.format(**values))

    def debug(self, *arguments: Any, **values: Any) -> None:
        pass

    trace = info = warn = warning = debug
    critical = failure = error


class BridgeProtocol(AsyncioRosBridgeProtocol):
    """One WebSocket. Made by the factory at every (re)connect."""

    factory: Any
    log = _Log()

    def __init__(self) -> None:
        super().__init__()
        self.heard_at = 0.0
        self._answered_at = 0.0
        self._pings = self._answered = 0
        self._handed_over = self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._waiting: deque[tuple[bytes, float | None]] = deque()
        self._pulse_call: asyncio.TimerHandle | None = None

    # -- receiving ---------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self.heard_at = time.monotonic()
        if self.state == self.STATE_CONNECTING and len(self.data) > MAX_HANDSHAKE_BYTES:
            self._give_up(f"answers the handshake with more than {MAX_HANDSHAKE_BYTES} bytes")
        for start in range(0, len(data), _PIECE_BYTES):
            if self.state == self.STATE_CLOSED:
                return
            self._dataReceived(data[start : start + _PIECE_BYTES])
        if self._waiting:
            self._settle(send=True)

    # A message is put together in one buffer: autobahn's list of pieces takes a hundred times the room if they are
    # small, and has no end if they are empty.
    def onMessageBegin(self, isBinary: bool) -> None:
        self.message_is_binary = isBinary
        self.message_data = bytearray()
        self.message_data_total_length = 0

    def onMessageFrameData(self, payload: bytes) -> None:
        if not self.failedByMe:
            self.message_data += payload

    def onMessageFrameEnd(self) -> None:
        pass

    def onMessageEnd(self) -> None:
        payload, self.message_data = bytes(self.message_data), bytearray()
        if not self.failedByMe:
            self.factory.link.received(payload, self.message_is_binary)

    def onPing(self, payload: bytes) -> None:
        if self._unsent() <= MAX_UNSENT_BYTES:
            self.sendPong(payload)

    def onPong(self, payload: bytes) -> None:
        number = int.from_bytes(payload, "big")
        if self._answered < number <= self._pings:
            self._answered = number
            self._answered_at = time.monotonic()

    # -- opening and closing -----------------------------------------------------------------------

    def onOpen(self) -> None:
        self._manual_disconnect = False
        if self.factory.is_closing:  # `close` came while this socket was being opened
            self.leave()
            return
        self.heard_at = self._answered_at = time.monotonic()
        for frame in self.factory.link.opened():
            self.sendMessage(frame, isBinary=False)
        # Only now may others send: their frames follow the advertisements they depend on.
        self.factory.ready(self)
        self.factory.link.ready()
        self._pulse()

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if self._pulse_call is not None:
            self._pulse_call.cancel()
        if self.factory is not None:
            for _ in self._waiting:
                self.factory.link.dropped("disconnected")
            self._waiting.clear()
            # This object is part of cycles: without this its buffers would stay until they are collected.
            self.message_data, self.data = bytearray(), b""
            self.factory.connection_lost(self)
            self.factory.link.closed(self.wasNotCleanReason or reason or f"closed with code {code}")

    def leave(self) -> None:
        """Say goodbye and go: what was written before is flushed, the server's answer is not waited for."""
        self._manual_disconnect = True
        self._settle(send=True)
        self.sendClose(self.CLOSE_STATUS_CODE_NORMAL)
        self.wasClean = True
        self.dropConnection(abort=False)

    def _give_up(self, reason: str) -> None:
        self.wasNotCleanReason = reason
        self.dropConnection(abort=True)

    def _pulse(self) -> None:
        """Ping, and drop a link that has said nothing for `dead_s`, or reads nothing."""
        if self.state != self.STATE_OPEN:
            return
        now = time.monotonic()
        if now - self.heard_at > self.factory.dead_s:
            self._give_up(f"nothing heard for {self.factory.dead_s:g} s")
            return
        if self._unsent() and now - self._answered_at > UNREAD_S:
            self._give_up(f"the server has read nothing for {UNREAD_S:g} s")
            return
        self._settle(send=False)
        self._ping()
        self._pulse_call = self.factory.loop.call_later(PING_PERIOD_S, self._pulse)

    def _ping(self) -> None:
        self._pings += 1
        self.sendPing(self._pings.to_bytes(8, "big"))

    # -- sending -----------------------------------------------------------------------------------

    def hand_over(self, payload: bytes, deadline: float | None) -> bool:
        """`write` from any thread; False, and nothing is sent, when too much is on its way already."""
        with self._lock:
            if self._handed_over > MAX_UNSENT_BYTES:
                return False
            self._handed_over += len(payload) + _FRAME_OVERHEAD
        self.factory.loop.call_soon_threadsafe(self._receive_order, payload, deadline)
        return True

    def _receive_order(self, payload: bytes, deadline: float | None) -> None:
        with self._lock:
            self._handed_over -= len(payload) + _FRAME_OVERHEAD
        self.write(payload, deadline)

    def write(self, payload: bytes, deadline: float | None) -> None:
        """Send now or never: what cannot leave before `deadline` (monotonic) is dropped.

        A frame with a deadline leaves when the server has been heard within `ASK_S`, or answers a ping in time: a
        stalled server would keep it and deliver it late.
        """
        now = time.monotonic()
        if self.state != self.STATE_OPEN or self.transport is None:
            self.factory.link.dropped("disconnected")
        elif deadline is not None and now > deadline:
            self.factory.link.dropped("expired")
        elif self._unsent() > MAX_UNSENT_BYTES:
            self.factory.link.dropped("backpressure")
        elif not self._waiting and (deadline is None or now - self.heard_at <= ASK_S):
            self.sendMessage(payload, isBinary=False)
        else:
            self._wait(payload, deadline)
            if self._answered == self._pings:
                self._ping()

    def declare(self, payload: bytes) -> None:
        """Send in order, whatever waits: nobody would say it again on this link."""
        if self._waiting:
            self._wait(payload, None)
        else:
            self.sendMessage(payload, isBinary=False)

    def _wait(self, payload: bytes, deadline: float | None) -> None:
        self._waiting.append((payload, deadline))
        self._waiting_bytes += len(payload) + _FRAME_OVERHEAD

    def _settle(self, *, send: bool) -> None:
        """Drop what has waited too long; send the rest, if the server is there."""
        now = time.monotonic()
        waiting, self._waiting, self._waiting_bytes = self._waiting, deque(), 0
        for payload, deadline in waiting:
            if deadline is not None and now > deadline:
                self.factory.link.dropped("expired")
            elif send:
                self.sendMessage(payload, isBinary=False)
            else:
                self._wait(payload, deadline)

    def _unsent(self) -> int:
        return self._waiting_bytes + (self.transport.get_write_buffer_size() if self.transport is not None else 0)
