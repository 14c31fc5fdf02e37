"""A rosbridge connection that is safe for a robot.

A `Connection` advertises, publishes, subscribes and calls services over one WebSocket. What it
promises, and what roslibpy alone does not:

- Nothing is sent later. A publish while the link is down is dropped, counted and reported by its return
  value; it is never replayed at reconnect. When the server has fallen silent two more are let through, so
  that what a stalled network delivers in the end finishes with a controller's stop.
- After a reconnect everything is advertised and subscribed again, in the order of declaration,
  before anything else is sent.
- Handlers run on the network thread and must only copy: the rclpy layer's subscriptions keep bounded
  queues and run user callbacks on the executor's thread.
- Server errors (`op: status`), malformed and binary frames are logged (at most one line a second of
  each kind) and counted.
- NaN and infinity are refused before sending: JSON has no word for them.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from mcsd_agent.errors import UserError
from ros_bridge.address import DEFAULT_URL, TOKEN_FILE_VARIABLE, check_url
from ros_bridge.address import URL_VARIABLE as URL_VARIABLE
from ros_bridge.transport import MAX_MESSAGE_BYTES, BridgeFactory

LOGGER = logging.getLogger("ros_bridge")

#: A publish is dropped when the server has been silent for this long. Pings go out every 0.1 s, so a
#: stalled server or network holds at most three ticks of a 10 Hz controller, instead of all of them.
SILENT_S = 0.3
#: So many more messages of each topic are let through then: what a stalled server holds should end with the
#: controller's stop, not with its last command. (Two: a tick may be between its reading and its command.)
LAST_WORDS = 2
#: A link that is silent for this long is closed and opened afresh (half-open TCP).
DEAD_S = 1.0
#: A frame that the network thread has not written by then is dropped.
FRESH_S = 0.1
MAX_PENDING_CALLS = 64

Handler = Callable[[dict[str, Any]], None]
Done = Callable[[bool, Any], None]


class Connection:
    """One link to a rosbridge server. Thread-safe; connects in the background, for ever, until `close`.

    `counters` counts by cause: sent, received, connects, dropped_disconnected, dropped_silent,
    dropped_expired, dropped_backpressure, refused_binary, refused_malformed, dropped_busy,
    status_errors, status_warnings, handler_errors, unhandled.
    """

    def __init__(self, url: str = DEFAULT_URL, *, token: str | None = None, dead_s: float = DEAD_S) -> None:
        self.url = check_url(url, has_token=token is not None)
        self.counters: Counter[str] = Counter()
        self.last_error = ""
        self._lock = threading.Lock()
        self._count_lock = threading.Lock()
        self._declared: dict[tuple[str, str], dict[str, Any]] = {}
        self._users: Counter[tuple[str, str]] = Counter()
        self._topics: dict[str, list[Handler]] = {}
        self._services: dict[str, Handler] = {}
        self._calls: dict[str, Done] = {}
        self._last_words: dict[str, int] = {}
        self._listeners: list[Callable[[bool], None]] = []
        self._logged_at: dict[str, float] = {}
        self._next_id = 0
        self._announced: set[tuple[str, str]] = set()  # sent on the open link; network thread only
        self._up = self._closing = False
        self._opened = threading.Event()
        self._idle = threading.Event()
        headers = {"Authorization": f"Bearer {token}"} if token else None
        self._factory = BridgeFactory(self.url, self, headers=headers, dead_s=dead_s)
        self._factory.connect()

    # -- state ---------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether the link is open and the server has been heard within the last `SILENT_S`."""
        proto = self._factory.live
        return proto is not None and time.monotonic() - proto.heard_at <= SILENT_S

    def wait_connected(self, timeout_s: float = 5.0) -> None:
        """Block until the link is up; `UserError` with the last reason when it is not in time."""
        if self._opened.wait(timeout_s):
            return
        reason = self.last_error or "no answer"
        remedy = "start one there (ros2 launch rosbridge_server rosbridge_websocket_launch.xml) or give its address"
        if "[401]" in reason or "[403]" in reason:
            remedy = f"it wants a token: put one into a file named by {TOKEN_FILE_VARIABLE}, or give another address"
        raise UserError(f"no rosbridge server at {self.url} after {timeout_s:g} s: {reason}; {remedy} with --url")

    def on_state(self, listener: Callable[[bool], None]) -> None:
        """Call `listener(connected)` on the network thread whenever the link opens or closes."""
        self._listeners.append(listener)

    def close(self, timeout_s: float = 1.0) -> None:
        """Close the link and stop reconnecting. Frames handed over before are sent first."""
        self._closing = True
        was_open = self._factory.live is not None
        self._factory.close()
        if was_open:
            self._idle.wait(timeout_s)

    def counts(self) -> dict[str, int]:
        """A copy of `counters`."""
        with self._count_lock:
            return dict(self.counters)

    # -- topics --------------------------------------------------------------------------------

    def advertise(self, topic: str, ros_type: str, *, latch: bool = False, depth: int = 10) -> None:
        """Declare that `topic` will be published. The first messages may precede the subscribers' discovery."""
        self._declare(("advertise", topic), type=ros_type, latch=latch, queue_size=depth)

    def unadvertise(self, topic: str) -> None:
        """Withdraw `advertise`."""
        self._withdraw(("advertise", topic), {"op": "unadvertise", "topic": topic})

    def publish(self, topic: str, message: Mapping[str, Any], *, latch: bool = False) -> bool:
        """Send now, or drop and return False. Raises `ValueError` for NaN, infinity or an oversized message."""
        frame = {"op": "publish", "topic": topic, "msg": message, "latch": latch}
        if self.connected:
            self._last_words.pop(topic, None)
        elif self._factory.live is not None:
            said = self._last_words[topic] = self._last_words.get(topic, 0) + 1
            return self._send(frame, last_word=said <= LAST_WORDS)
        return self._send(frame)

    def subscribe(self, topic: str, ros_type: str, handler: Handler, *, depth: int = 10, throttle_ms: int = 0) -> None:
        """Call `handler(msg)` on the network thread for every message; it must only copy.

        Several handlers may share a topic: the server is asked once.
        """
        options = {"queue_length": depth, "throttle_rate": throttle_ms, "compression": "none"}
        self._declare(("subscribe", topic), type=ros_type, **options)
        with self._lock:
            self._topics.setdefault(topic, []).append(handler)

    def unsubscribe(self, topic: str, handler: Handler) -> None:
        """Stop calling `handler`; other handlers of the topic go on."""
        with self._lock:
            handlers = self._topics.get(topic, [])
            if handler not in handlers:
                return
            handlers.remove(handler)
        self._withdraw(("subscribe", topic), {"op": "unsubscribe", "topic": topic})

    # -- services ------------------------------------------------------------------------------

    def advertise_service(self, service: str, ros_type: str, handler: Handler) -> None:
        """Call `handler({"id", "args"})` on the network thread for every request; answer with `respond`."""
        with self._lock:
            self._services[service] = handler
        self._declare(("advertise_service", service), type=ros_type)

    def unadvertise_service(self, service: str) -> None:
        """Withdraw `advertise_service`."""
        with self._lock:
            self._services.pop(service, None)
        self._withdraw(("advertise_service", service), {"op": "unadvertise_service", "service": service})

    def respond(self, service: str, request_id: str, values: Mapping[str, Any], *, ok: bool = True) -> bool:
        """Answer one request."""
        frame = {"op": "service_response", "service": service, "id": request_id, "values": values, "result": ok}
        return self._send(frame, fresh_s=None)

    def call(self, service: str, ros_type: str, args: Mapping[str, Any], done: Done) -> bool:
        """Call a service; `done(ok, values or text)` runs on the network thread, also when the link is lost.

        Returns False, without calling `done`, when the request was not sent.
        """
        with self._lock:
            if len(self._calls) >= MAX_PENDING_CALLS:
                self._count("dropped_busy")
                return False
            self._next_id += 1
            call_id = f"call:{service}:{self._next_id}"
            self._calls[call_id] = done
        frame = {"op": "call_service", "id": call_id, "service": service, "type": ros_type, "args": args}
        try:
            sent = self._send(frame)
        except ValueError:
            self._forget(call_id)
            raise
        return sent or self._forget(call_id) is None

    # -- sending -------------------------------------------------------------------------------

    def _send(self, frame: Mapping[str, Any], fresh_s: float | None = FRESH_S, *, last_word: bool = False) -> bool:
        payload = encode(frame)
        proto = self._factory.live
        if proto is None:
            self.dropped("disconnected")
            return False
        now = time.monotonic()
        if now - proto.heard_at > SILENT_S and not last_word:
            self.dropped("silent")
            return False
        # Bound to this socket: what the network thread finds too late is dropped, never carried over.
        self._factory.loop.call_soon_threadsafe(proto.write, payload, None if fresh_s is None else now + fresh_s)
        self._count("sent")
        return True

    def _declare(self, key: tuple[str, str], **fields: Any) -> None:
        operation, name = key
        target = "service" if operation == "advertise_service" else "topic"
        frame = {"op": operation, "id": f"{operation}:{name}", target: name, **fields}
        with self._lock:
            known = self._declared.setdefault(key, frame)
            if known["type"] != frame["type"]:
                raise ValueError(f"{name} is already used as {known['type']}, not {frame['type']}")
            self._users[key] += 1
        # On the network thread, where "open" cannot change meanwhile; if it is down, `opened` sends it.
        self._factory.loop.call_soon_threadsafe(self._announce, key)

    def _announce(self, key: tuple[str, str]) -> None:
        proto, frame = self._factory.live, self._declared.get(key)
        if proto is not None and frame is not None and key not in self._announced:
            self._announced.add(key)
            proto.write(encode(frame), None)

    def _withdraw(self, key: tuple[str, str], frame: dict[str, Any]) -> None:
        with self._lock:
            self._users[key] -= 1
            if self._users[key] > 0:
                return  # one of several: the others still need it
            del self._users[key]
            if self._declared.pop(key, None) is None:
                return
        self._factory.loop.call_soon_threadsafe(self._retract, key, frame)

    def _retract(self, key: tuple[str, str], frame: dict[str, Any]) -> None:
        proto = self._factory.live
        if proto is not None and key in self._announced:
            proto.write(encode(frame), None)
        self._announced.discard(key)

    def _forget(self, call_id: str) -> Done | None:
        with self._lock:
            return self._calls.pop(call_id, None)

    # -- the transport's side (network thread) ---------------------------------------------------

    def opened(self) -> list[bytes]:
        """See `transport.Link`."""
        self._count("connects")
        with self._lock:
            frames = [encode(frame) for frame in self._declared.values()]
            self._announced = set(self._declared)
        return frames

    def ready(self) -> None:
        """See `transport.Link`."""
        self._up = True
        self._idle.clear()
        self._opened.set()
        self._notify(True)

    def closed(self, reason: str) -> None:
        """See `transport.Link`."""
        self.last_error = reason
        self._idle.set()
        with self._lock:
            lost, self._calls = self._calls, {}
        for done in lost.values():
            self._guard(done, False, f"connection lost: {reason}")
        self._announced = set()
        if self._up:
            self._up = False
            if not self._closing:
                LOGGER.warning("link to %s lost: %s", self.url, reason)
            self._notify(False)

    def dropped(self, cause: str) -> None:
        """See `transport.Link`."""
        self._count(f"dropped_{cause}")

    def received(self, payload: bytes, is_binary: bool) -> None:
        """See `transport.Link`."""
        if is_binary:
            self._refuse("binary", f"binary frame of {len(payload)} bytes skipped: this client speaks JSON only")
            return
        try:
            frame = json.loads(payload)
            operation = frame["op"]
            route = self._ROUTES.get(operation)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            self._refuse("malformed", f"malformed frame skipped: {type(error).__name__}")
            return
        self._count("received")
        if route is None:
            self._count("unhandled")
            return
        try:
            route(self, frame)
        except (TypeError, KeyError, AttributeError) as error:
            self._refuse("malformed", f"malformed {operation} frame skipped: {type(error).__name__} {error}")

    def _on_publish(self, frame: dict[str, Any]) -> None:
        message = frame["msg"]
        for handler in tuple(self._topics.get(frame["topic"], ())):
            self._guard(handler, message)

    def _on_request(self, frame: dict[str, Any]) -> None:
        handler = self._services.get(frame["service"])
        if handler is None:
            self._count("unhandled")
            return
        self._guard(handler, {"id": frame.get("id", ""), "args": frame.get("args") or {}})

    def _on_response(self, frame: dict[str, Any]) -> None:
        done = self._forget(frame["id"])
        if done is not None:
            self._guard(done, frame.get("result", True) is not False, frame.get("values"))

    def _on_status(self, frame: dict[str, Any]) -> None:
        level, text = str(frame.get("level", "error")), str(frame.get("msg", ""))[:300]
        if level in ("error", "warning"):
            self._count(f"status_{level}s")
            self.last_error = text
            self._log("status", logging.WARNING, "server at %s says: %s", self.url, text)

    _ROUTES = {  # noqa: RUF012
        "publish": _on_publish,
        "call_service": _on_request,
        "service_response": _on_response,
        "status": _on_status,
    }

    # -- reporting -----------------------------------------------------------------------------

    def _count(self, cause: str) -> None:
        with self._count_lock:
            self.counters[cause] += 1

    def _guard(self, function: Callable[..., None], *args: Any) -> None:
        """A handler's bug must not end the network thread."""
        try:
            function(*args)
        except Exception:
            self._count("handler_errors")
            LOGGER.exception("a handler failed")

    def _notify(self, connected: bool) -> None:
        for listener in list(self._listeners):
            self._guard(listener, connected)

    def _refuse(self, kind: str, text: str) -> None:
        self._count(f"refused_{kind}")
        self._log(kind, logging.WARNING, "%s: %s", self.url, text)

    def _log(self, kind: str, level: int, text: str, *args: Any) -> None:
        now = time.monotonic()
        if now - self._logged_at.get(kind, -1.0) >= 1.0:
            self._logged_at[kind] = now
            LOGGER.log(level, text, *args)


def encode(frame: Mapping[str, Any]) -> bytes:
    """The JSON text of a frame; `ValueError` for NaN, infinity, foreign objects or an oversized message."""
    try:
        payload = json.dumps(frame, allow_nan=False, separators=(",", ":")).encode()
    except TypeError as error:
        raise ValueError(f"{frame.get('topic') or frame.get('service')}: {error}") from None
    except ValueError:
        name = frame.get("topic") or frame.get("service")
        raise ValueError(f"{name}: NaN or infinity in the message; rosbridge JSON cannot carry it") from None
    if len(payload) > MAX_MESSAGE_BYTES:
        raise ValueError(f"message of {len(payload)} bytes exceeds {MAX_MESSAGE_BYTES}; send it compressed or smaller")
    return payload
