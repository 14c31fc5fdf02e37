"""What a connection has declared to the server: said again after every reconnect, in order."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

from ros_bridge.framing import encode
from ros_bridge.transport import BridgeFactory

#: Operation and name, such as `("subscribe", "/scan")`.
Key = tuple[str, str]
_TARGETS = {"advertise_service": "service", "advertise_action": "action"}


class Declarations:
    """`Connection` derives from it. Several users may share a declaration; the server hears of it once."""

    _lock: threading.Lock
    _factory: BridgeFactory

    def __init__(self) -> None:
        super().__init__()
        self._declared: dict[Key, dict[str, Any]] = {}
        self._users: Counter[Key] = Counter()
        self._announced: set[Key] = set()  # sent on the open link; network thread only

    def _declare(self, key: Key, **fields: Any) -> None:
        operation, name = key
        frame = {"op": operation, "id": f"{operation}:{name}", _TARGETS.get(operation, "topic"): name, **fields}
        with self._lock:
            known = self._declared.setdefault(key, frame)
            if known["type"] != frame["type"]:
                raise ValueError(f"{name} is already used as {known['type']}, not {frame['type']}")
            self._users[key] += 1
        # On the network thread, where "open" cannot change meanwhile; if it is down, `_declare_all` sends it.
        self._factory.loop.call_soon_threadsafe(self._announce, key)

    def _withdraw(self, key: Key, frame: dict[str, Any]) -> None:
        with self._lock:
            self._users[key] -= 1
            if self._users[key] > 0:
                return  # one of several: the others still need it
            del self._users[key]
            if self._declared.pop(key, None) is None:
                return
        self._factory.loop.call_soon_threadsafe(self._retract, key, frame)

    # -- network thread --------------------------------------------------------------------------

    def _declare_all(self) -> list[bytes]:
        with self._lock:
            self._announced = set(self._declared)
            return [encode(frame) for frame in self._declared.values()]

    def _announce(self, key: Key) -> None:
        proto, frame = self._factory.live, self._declared.get(key)
        if proto is not None and frame is not None and key not in self._announced:
            self._announced.add(key)
            proto.declare(encode(frame))

    def _retract(self, key: Key, frame: dict[str, Any]) -> None:
        proto = self._factory.live
        if proto is not None and key in self._announced:
            proto.declare(encode(frame))
        self._announced.discard(key)
