"""What a hostile server sends or leaves unread: the memory of a real process stays below the bound in docs/ros.md."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cbor2
import pytest
from conftest import ROOT
from hostile_server import BINARY, COMPRESSED, CONTINUATION, FINAL, PING, TEXT, HostileServer, frame

MIB = 1 << 20
#: docs/ros.md, Security: so much may a server make the process grow.
BOUND_MIB = 400


def publication(topic: str, message: bytes) -> bytes:
    return frame(b'{"op":"publish","topic":"/%s","msg":%s}' % (topic.encode(), message))


def binary(**fields: Any) -> bytes:
    return frame(cbor2.dumps({"op": "publish", **fields}), BINARY | FINAL)


#: What is sent for ever, and the server's other manners. Messages are just below and far above the limits.
ATTACKS: dict[str, tuple[Iterable[bytes], dict[str, Any]]] = {
    "a frame without end": ([frame(b"", length=1 << 40), bytes(MIB)], {}),
    "a message without end, in fragments": ([frame(b"", TEXT)] + [frame(bytes(MIB), CONTINUATION)] * 64, {}),
    "tiny fragments": ([frame(b"", TEXT)] + [frame(b"xy", CONTINUATION) * 1000] * 1000, {}),
    "empty fragments": ([frame(b"", TEXT)] + [frame(b"", CONTINUATION) * 1000] * 1000, {}),
    "small frames": ([publication("String", b'{"data":"x"}') * 1000], {}),
    "large grids": ([publication("OccupancyGrid", b'{"data":[' + b"-1," * 900_000 + b"0]}")], {}),
    "large images": ([publication("Image", b'{"data":"' + b"AAAA" * (3 * MIB) + b'"}')], {}),
    "large images, binary": ([binary(topic="/Image", msg={"data": bytes(15 * MIB)})], {}),
    "wide text": ([publication("String", '{"data":"\U0001f600'.encode() + b"a" * (15 * MIB) + b'"}')], {}),
    "many objects": ([publication("String", b"[" + b"{}," * 200_000 + b"0]")], {}),
    "far too many objects": ([publication("String", b"[" + b"{}," * (5 * MIB) + b"0]")], {}),
    "many lists, binary": ([binary(topic="/String", msg=[[]] * 500_000)], {}),
    "far too many lists, binary": ([frame(b"\x9a\x00\xf0\x00\x00" + b"\x80" * 0xF00000, BINARY | FINAL)], {}),
    "deep nesting": ([frame(b"[" * 500_000), frame(b"\x81" * 500_000, BINARY | FINAL)], {}),
    "a handshake without end": ([b"X: " + b"y" * 1000 + b"\r\n"] * 1000, {"headers": b"endless"}),
    "compression that nobody asked for": ([frame(bytes(1000), TEXT | FINAL | COMPRESSED)], {}),
    "compression forced on us": (
        [frame(bytes(1000), TEXT | FINAL | COMPRESSED)],
        {"headers": b"Sec-WebSocket-Extensions: permessage-deflate\r\n"},
    ),
    "pings, and nothing is read": ([frame(b"p" * 125, PING | FINAL) * 1000], {"reads": False}),
    "talk, and nothing is read": ([publication("String", b'{"data":"x"}')], {"reads": False}),
}

#: What must be counted before an attack ends.
COUNTED = {
    "far too many objects": "refused_heavy",
    "far too many lists, binary": "refused_heavy",
    "deep nesting": "refused_binary",
    "pings, and nothing is read": "dropped_backpressure",
    "talk, and nothing is read": "dropped_backpressure",
}


class Victim:
    """A process with a node whose callbacks never run."""

    def __init__(self, url: str) -> None:
        command = [sys.executable, str(Path(__file__).with_name("hostile_victim.py")), url]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, cwd=ROOT, start_new_session=True
        )

    def ask(self, publish: int = 0) -> dict[str, Any]:
        """Let it publish so many pictures of 300 kB, and tell about itself."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{publish}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture
def server() -> Iterator[HostileServer]:
    server = HostileServer()
    yield server
    server.close()


@pytest.fixture
def victim(server: HostileServer) -> Iterator[Victim]:
    victim = Victim(server.url)
    yield victim
    victim.process.kill()
    victim.process.communicate()


def suffer(server: HostileServer, victim: Victim, seconds: float) -> None:
    """All attacks, and what the victim is like then."""
    first = now = victim.ask()
    for name, (attack, manners) in ATTACKS.items():
        connections, before, counter = server.connections, victim.ask()["counters"], COUNTED.get(name)
        server.begin(attack, repeat=True, **manners)
        begun, is_felt = time.monotonic(), False
        while time.monotonic() < begun + seconds or not is_felt:
            assert time.monotonic() < begun + seconds + 60.0, f"{name}: not felt, {now}"
            now = victim.ask(publish=2 if server.reads else 20)
            # Linux may lag behind with the peak.
            grown = max(now["peak_mib"], now["rss_mib"]) - first["rss_mib"]
            assert grown < BOUND_MIB, f"{name}: {grown:.0f} MiB"
            has_counted = counter is None or now["counters"].get(counter, 0) > before.get(counter, 0)
            is_felt = server.connections > connections and has_counted
            time.sleep(0.05)
    # It lives, comes back to whoever behaves, and has leaked no thread.
    opened = victim.ask()["counters"]["connects"]
    server.begin([])
    end = time.monotonic() + 30.0
    while victim.ask()["counters"]["connects"] == opened and time.monotonic() < end:
        time.sleep(0.05)
    now = victim.ask()
    assert now["counters"]["connects"] > opened
    assert now["threads"] == first["threads"]


@pytest.mark.thorough
def test_memory_stays_bounded_under_every_attack(server, victim):
    suffer(server, victim, 0.1)


@pytest.mark.slow
def test_memory_stays_bounded_when_attacks_last(server, victim):
    suffer(server, victim, 8.0)
