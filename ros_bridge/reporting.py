"""Counters by cause and rate-limited log lines: how a connection tells what it does."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

LOGGER = logging.getLogger("ros_bridge")


class Reporting:
    """`Connection` derives from it."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self.counters: Counter[str] = Counter()
        self._count_lock = threading.Lock()
        self._logged_at: dict[str, float] = {}

    def counts(self) -> dict[str, int]:
        """A copy of `counters`."""
        with self._count_lock:
            return dict(self.counters)

    def dropped(self, cause: str) -> None:
        """See `transport.Link`."""
        self._count(f"dropped_{cause}")

    def _count(self, cause: str) -> None:
        with self._count_lock:
            self.counters[cause] += 1

    def _guard(self, function: Callable[..., None], *args: Any) -> None:
        """A handler's bug must not end the network thread."""
        try:
            function(*args)
        except Exception:
            self._count("handler_errors")
            if self._may_log("handler"):
                LOGGER.exception("a handler failed")

    def _refuse(self, kind: str, text: str) -> None:
        self._count(f"refused_{kind}")
        self._warn(kind, "%s: %s", self.url, text)

    def _warn(self, kind: str, text: str, *args: Any) -> None:
        if self._may_log(kind):
            LOGGER.warning(text, *args)

    def _may_log(self, kind: str) -> bool:
        """At most one line a second of each kind: a server decides how often there is a reason."""
        now = time.monotonic()
        if now - self._logged_at.get(kind, -1.0) < 1.0:
            return False
        self._logged_at[kind] = now
        return True
