"""A rosbridge connection that is safe for a robot.

A `Connection` advertises, publishes, subscribes and calls services over one WebSocket. What it
promises, and what roslibpy alone does not:

- Nothing is sent later. A publish while the link is down is dropped, counted and reported by its return
  value; it is never replayed at reconnect. A message leaves only when the server has just been heard
  (`websocket.ASK_S`) or answers a ping, so that a stalled server has nothing to deliver late.
- After a reconnect everything is advertised and subscribed again, in the order of declaration,
  before anything else is sent.
- Handlers run on the network thread and must only copy: the rclpy layer's subscriptions keep bounded
  queues and run user callbacks on the executor's thread.
- Server errors (`op: status`) and frames that cannot be read are logged (at most one line a second of
  each kind) and counted.
- A hostile server cannot fill the memory: `framing` bounds what a frame becomes, `backlog` what waits.
- NaN and infinity are refused before sending: JSON has no word for them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from mcsd_agent.errors import UserError
from ros_bridge.actions import ActionOperations
from ros_bridge.address import DEFAULT_URL, TOKEN_FILE_VARIABLE, check_url
from ros_bridge.address import URL_VARIABLE as URL_VARIABLE
from ros_bridge.backlog import Budget
from ros_bridge.declarations import Declarations
from ros_bridge.framing import FrameError, decode, encode
from ros_bridge.reporting import Reporting
from ros_bridge.tls import CA_FILE_VARIABLE, Tls
from ros_bridge.transport import BridgeFactory

#: A publish is dropped at once when the server has been silent for this long, though it is pinged every 0.1 s.
SILENT_S = 0.3
#: A link that is silent for this long is closed and opened afresh (half-open TCP).
DEAD_S = 1.0
#: A frame that the network thread has not written by then is dropped.
FRESH_S = 0.1
MAX_PENDING_CALLS = 64

Handler = Callable[[dict[str, Any]], None]
Done = Callable[[bool, Any], None]


class Connection(Reporting, Declarations, ActionOperations):
    """One link to a rosbridge server. Thread-safe; connects in the background, for ever, until `close`.

    `tls` tells how a `wss://` server is checked; by default as the environment says (`tls.Tls.from_environment`).

    `counters` counts by cause: sent, received, connects, dropped_disconnected, dropped_silent,
    dropped_expired, dropped_backpressure, refused_binary, refused_malformed, refused_heavy, dropped_busy,
    status_errors, status_warnings, handler_errors, unhandled.
    """

    def __init__(
        self, url: str = DEFAULT_URL, *, token: str | None = None, tls: Tls | None = None, dead_s: float = DEAD_S
    ) -> None:
        super().__init__()
        self.url = check_url(url, has_token=token is not None)
        self.last_error = ""
        #: What all queues of received messages share, and the memory of the frame that handlers are given now.
        self.budget = Budget()
        self.arriving_bytes = 0
        self._lock = threading.Lock()
        self._topics: dict[str, list[Handler]] = {}
        self._services: dict[str, Handler] = {}
        self._calls: dict[str, Done] = {}
        self._listeners: list[Callable[[bool], None]] = []
        self._next_id = 0
        self._up = self._closing = False
        self._opened = threading.Event()
        self._idle = threading.Event()
        headers = {"Authorization": f"Bearer {token}"} if token else None
        context = (tls or Tls.from_environment()).context() if self.url.startswith("wss:") else None
        self._factory = BridgeFactory(self.url, self, headers=headers, tls=context, dead_s=dead_s)
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
        elif "certificate is not trusted" in reason:
            remedy = f"name the file of its authority in {CA_FILE_VARIABLE}, or give another address"
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

    # -- topics --------------------------------------------------------------------------------

    def advertise(self, topic: str, ros_type: str, *, latch: bool = False, depth: int = 10) -> None:
        """Declare that `topic` will be published. The first messages may precede the subscribers' discovery."""
        self._declare(("advertise", topic), type=ros_type, latch=latch, queue_size=depth)

    def unadvertise(self, topic: str) -> None:
        """Withdraw `advertise`."""
        self._withdraw(("advertise", topic), {"op": "unadvertise", "topic": topic})

    def publish(self, topic: str, message: Mapping[str, Any], *, latch: bool = False) -> bool:
        """Send now, or drop and return False. Raises `ValueError` for NaN, infinity or an oversized message.

        True means handed over: a server that does not prove within `FRESH_S` that it is there gets nothing, and the
        message is counted as `dropped_expired`.
        """
        return self._send({"op": "publish", "topic": topic, "msg": message, "latch": latch})

    def subscribe(
        self,
        topic: str,
        ros_type: str,
        handler: Handler,
        *,
        depth: int = 10,
        throttle_ms: int = 0,
        compression: str = "none",
        qos: Mapping[str, Any] | None = None,
    ) -> None:
        """Call `handler(msg)` on the network thread for every message; it must only copy.

        With `compression="cbor"` messages come in binary frames: arrays of numbers as NumPy arrays, `uint8[]` as
        bytes, NaN and infinity as they are. Several handlers may share a topic: the server is asked once, with the
        first one's options. `qos` is for servers that take it.
        """
        options: dict[str, Any] = {"queue_length": depth, "throttle_rate": throttle_ms, "compression": compression}
        if qos is not None:
            options["qos"] = qos
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

    def _send(self, frame: Mapping[str, Any], fresh_s: float | None = FRESH_S) -> bool:
        payload = encode(frame)
        proto = self._factory.live
        if proto is None:
            self.dropped("disconnected")
            return False
        now = time.monotonic()
        if now - proto.heard_at > SILENT_S:
            self.dropped("silent")
            return False
        # Bound to this socket: what the network thread finds too late is dropped, never carried over.
        deadline = None if fresh_s is None else now + fresh_s
        if not proto.hand_over(payload, deadline):
            self.dropped("backpressure")
            return False
        self._count("sent")
        return True

    def _forget(self, call_id: str) -> Done | None:
        with self._lock:
            return self._calls.pop(call_id, None)

    # -- the transport's side (network thread) ---------------------------------------------------

    def opened(self) -> list[bytes]:
        """See `transport.Link`."""
        self._count("connects")
        return self._declare_all()

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
        self._actions_lost(reason)
        self._announced = set()
        if self._up:
            self._up = False
            if not self._closing:
                self._warn("lost", "link to %s lost: %s", self.url, reason)
            self._notify(False)

    def received(self, payload: bytes, is_binary: bool) -> None:
        """See `transport.Link`."""
        try:
            frame, self.arriving_bytes = decode(payload, is_binary)
        except FrameError as error:
            self._refuse(error.kind, f"{error.kind} frame skipped: {error}")
            return
        operation = frame["op"]
        route = self._ROUTES.get(operation)
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
            self._warn("status", "server at %s says: %s", self.url, text)
        if level == "error":
            self._note_refusal(str(frame.get("id", "")), text)
        self._on_goal_status(frame)

    _ROUTES = {  # noqa: RUF012
        "publish": _on_publish,
        "call_service": _on_request,
        "service_response": _on_response,
        "status": _on_status,
        **ActionOperations.ACTION_ROUTES,
    }

    def _notify(self, connected: bool) -> None:
        for listener in list(self._listeners):
            self._guard(listener, connected)
