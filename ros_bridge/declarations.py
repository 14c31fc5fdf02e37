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
#: What was refused is asked for again after this long: a server may still hold the services of a link that is gone.
#: Nobody says yes; what has not been refused again for so long is granted.
_AGAIN_S, _GRANTED_S = 1.0, 0.5


class Declarations:
    """`Connection` derives from it. Several users may share a declaration; the server hears of it once."""

    _lock: threading.Lock
    _factory: BridgeFactory

    def __init__(self) -> None:
        super().__init__()
        self._declared: dict[Key, dict[str, Any]] = {}
        self._users: Counter[Key] = Counter()
        self._announced: set[Key] = set()  # sent on the open link; network thread only
        self._refused: dict[Key, str] = {}  # by the server, on the open link
        self._asked_again: set[Key] = set()  # and not refused since; network thread only

    def refusal(self, operation: str, name: str) -> str:
        """What the server said when it refused a declaration on the open link; "" when it has not. Any thread."""
        return self._refused.get((operation, name), "")

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
            self._announced, self._refused, self._asked_again = set(self._declared), {}, set()
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
        self._refused.pop(key, None)

    def _note_refusal(self, frame_id: str, reason: str) -> None:
        """An error about a frame; those that declare have ids of their own."""
        operation, _, name = frame_id.partition(":")
        key = operation, name
        if key in self._declared:
            known = key in self._refused
            self._refused[key] = reason or "no reason given"
            self._asked_again.discard(key)
            if not known:
                self._factory.loop.call_later(_AGAIN_S, self._ask_again, key, self._factory.live)

    def _ask_again(self, key: Key, link: Any) -> None:
        """On another link than `link` everything has been asked for anew."""
        frame = self._declared.get(key)
        if link is self._factory.live and link is not None and frame is not None and key in self._refused:
            self._asked_again.add(key)
            link.declare(encode(frame))
            self._factory.loop.call_later(_GRANTED_S, self._take_as_granted, key, link)

    def _take_as_granted(self, key: Key, link: Any) -> None:
        if link is self._factory.live and key in self._asked_again:
            self._asked_again.discard(key)
            self._refused.pop(key, None)
        elif link is self._factory.live and key in self._refused:
            self._factory.loop.call_later(_AGAIN_S, self._ask_again, key, link)
