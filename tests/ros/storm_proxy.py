"""A TCP proxy in front of a rosbridge server that holds a link, cuts it, or slips frames into it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any


class Proxy:
    """Forwards `port` to `target` on the loopback interface, from a thread of its own."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._is_forwarding = asyncio.Event()
        self._links: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *failure: object) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def hold(self) -> None:
        """Nothing passes in either direction, and nobody is told: what a half-open link looks like."""
        self._loop.call_soon_threadsafe(self._is_forwarding.clear)

    def release(self) -> None:
        """Deliver what was held, and go on."""
        self._loop.call_soon_threadsafe(self._is_forwarding.set)

    def cut(self) -> None:
        """Reset every connection; what was held is lost."""

        async def abort() -> None:
            for link in list(self._links):
                for writer in link:
                    writer.transport.abort()

        self._run(abort())

    def inject(self, payload: bytes, *, binary: bool = False) -> None:
        """A whole message to every client, as if the server had sent it."""
        length = len(payload)
        head = bytes([0x82 if binary else 0x81])
        if length < 126:
            head += bytes([length])
        elif length < 65536:
            head += bytes([126]) + length.to_bytes(2, "big")
        else:
            head += bytes([127]) + length.to_bytes(8, "big")

        async def write() -> None:
            for client, _ in list(self._links):
                client.write(head + payload)

        self._run(write())

    async def _listen(self) -> None:
        self._is_forwarding.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        self._server.close()
        self._is_forwarding.set()
        for link in list(self._links):
            for writer in link:
                writer.transport.abort()
        await asyncio.sleep(0.05)

    async def _accept(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        await self._is_forwarding.wait()
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            to_client.transport.abort()
            return
        link = (to_client, to_server)
        self._links.add(link)
        try:
            pumps = [
                asyncio.ensure_future(self._pump(from_client, to_server)),
                asyncio.ensure_future(self._pump_frames(from_server, to_client)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
                with contextlib.suppress(asyncio.CancelledError, OSError, asyncio.IncompleteReadError):
                    await pump
        finally:
            self._links.discard(link)
            to_client.transport.abort()
            to_server.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await self._is_forwarding.wait()
            data = await reader.read(65536)
            await self._is_forwarding.wait()
            if not data:
                return
            writer.write(data)
            await writer.drain()

    async def _pump_frames(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Whole frames, so that `inject` finds the gaps between them."""
        writer.write(await reader.readuntil(b"\r\n\r\n"))
        while True:
            head = await reader.readexactly(2)
            length, more = head[1] & 127, b""
            if length > 125:
                more = await reader.readexactly(2 if length == 126 else 8)
                length = int.from_bytes(more, "big")
            frame = head + more + await reader.readexactly(length)
            await self._is_forwarding.wait()
            writer.write(frame)
            await writer.drain()

    def _run(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)
