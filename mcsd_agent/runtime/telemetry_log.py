"""Telemetry on its way to a file: a thread of its own writes, so that no disk and no reader can delay a tick."""

from __future__ import annotations

import json
import threading
from collections import deque
from typing import IO, Any, Protocol, TypeAlias

from mcsd_agent.runtime.controller_mode import Transition
from mcsd_agent.runtime.tick import Tick

#: Entries that may wait for a slow disk; what comes on top is counted and dropped.
_MAX_WAITING = 10_000

Entry: TypeAlias = Tick | Transition


class Sink(Protocol):
    """A file of some format. Only the log's thread calls it."""

    def write(self, entry: Entry) -> None:
        """Add one entry."""
        ...

    def flush(self) -> None:
        """Hand over what was added so far."""
        ...

    def close(self) -> None:
        """Finish the file."""
        ...


class Jsonl:
    """Ticks as lines of JSON in one file, and changes of mode in another one, if there is one."""

    def __init__(self, ticks: IO[str], transitions: IO[str] | None = None) -> None:
        self._ticks, self._transitions = ticks, transitions

    def write(self, entry: Entry) -> None:
        """Add one line."""
        file = self._ticks if isinstance(entry, Tick) else self._transitions
        if file is not None:
            file.write(json.dumps(entry.to_json()) + "\n")

    def flush(self) -> None:
        """Lines added are lines that others can read."""
        for file in self._files():
            file.flush()

    def close(self) -> None:
        """No more lines."""
        for file in self._files():
            file.close()

    def _files(self) -> list[IO[str]]:
        return [self._ticks] if self._transitions is None else [self._ticks, self._transitions]


class BackgroundLog:
    """Feeds a sink in a thread of its own. `put` never waits and never raises.

    `written`  ticks that the sink took and handed over
    `dropped`  ticks that it did not: the disk was too slow, or the sink failed
    `error`    why the sink failed; after that nothing more is written
    """

    def __init__(self, sink: Sink) -> None:
        self.written = 0
        self.error = ""
        self._refused = 0  # counted by the loop's thread
        self._lost = 0  # counted by this one's
        self._sink = sink
        self._waiting: deque[Entry] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        return self._refused + self._lost

    def put(self, entry: Entry) -> None:
        """Hand over an entry."""
        if self.error or self._closing or len(self._waiting) >= _MAX_WAITING:
            self._refused += isinstance(entry, Tick)
            return
        self._waiting.append(entry)
        self._wake.set()

    def close(self) -> None:
        """Write what waits and finish the file; five seconds are given for it."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout=5.0)

    def _run(self) -> None:
        batch = 0
        try:
            while not self._closing or self._waiting:
                self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    entry = self._waiting.popleft()
                    batch += isinstance(entry, Tick)
                    self._sink.write(entry)
                self._sink.flush()
                self.written, batch = self.written + batch, 0
            self._sink.close()
        except Exception as error:  # a full disk, a reader that left, an encoder that failed: all end the log alike
            self.error = f"{type(error).__name__}: {error}"
            self._lost = batch + sum(isinstance(entry, Tick) for entry in self._waiting)
            self._waiting.clear()
            _give_up(self._sink)


def _give_up(sink: Any) -> None:
    """Close a sink that failed; it may well fail again."""
    try:
        sink.close()
    except Exception:
        return
