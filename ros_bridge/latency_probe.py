"""One end of a round trip, on native rclpy or over rosbridge, for `mcsd-agent bench ros`.

    python -m ros_bridge.latency_probe echo              the far end: native, sends back whatever any probe sends
    python -m ros_bridge.latency_probe native NAME       the near end on native rclpy
    python -m ros_bridge.latency_probe bridge NAME URL   the near end over rosbridge

A near end reads one JSON object a line from stdin, `{"message", "rate_hz", "seconds"}`, and answers each with
`{"rtt_ms", "back_ms", "lost", "ages_ms", "bytes"}`. It publishes from a timer and hears the answers in a subscription,
one executor for both: `rtt_ms` is there and back, `back_ms` from the far end's publishing to the callback. Meanwhile a
thread looks at the newest answer at the same rate, with the pace of a policy's controller: `ages_ms` says how long
before such a look the far end had published what was found.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np

from mcsd_agent.runtime.pace import keep_pace
from ros_bridge.sensors import stamp_seconds

#: Class by name of the message. Their headers carry the count there and the far end's time back.
MESSAGES = {
    "JointState": "sensor_msgs/msg/JointState",
    "LaserScan": "sensor_msgs/msg/LaserScan",
    "CompressedImage": "sensor_msgs/msg/CompressedImage",
}
#: How long after the last message an answer may still come before it counts as lost.
GRACE_S = 0.5
#: Looks before the ages count: until then the looks have found their place behind the arrivals.
_SETTLING_LOOKS = 30


def topics(name: str, message: str) -> tuple[str, str]:
    """Where probe `name` sends such messages, and where the answers come."""
    return f"/latency/{name}/{message}/there", f"/latency/{name}/{message}/back"


def main(arguments: list[str]) -> None:
    """Run one end until stdin closes (a near end) or the process is ended (the echo)."""
    kind, *rest = arguments
    if kind != "bridge":
        import rclpy  # noqa: F401 (chooses the native backend)
    from ros_bridge.backend import ExternalShutdownException

    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        if kind == "echo":
            _echo(("native", "bridge"))
        else:
            _probe(rest[0], ["--url", rest[1]] if kind == "bridge" else [])


def _echo(names: tuple[str, ...]) -> None:
    from ros_bridge.backend import Node, load, rclpy

    rclpy.init(args=[])
    node = Node("latency_echo")
    for name in names:
        for message, ros_type in MESSAGES.items():
            there, back = topics(name, message)
            publisher = node.create_publisher(load(ros_type), back, 10)

            def answer(data: Any, publisher: Any = publisher) -> None:
                data.header.stamp = node.get_clock().now().to_msg()
                publisher.publish(data)

            node.create_subscription(load(ros_type), there, answer, 10)
    rclpy.spin(node)


def _probe(name: str, arguments: list[str]) -> None:
    from ros_bridge.backend import ExternalShutdownException, Node, load, rclpy

    rclpy.init(args=arguments)
    ends = _near_end_class(Node, load)(name)

    def spin() -> None:
        with contextlib.suppress(ExternalShutdownException):
            rclpy.spin(ends)

    thread = threading.Thread(target=spin)
    thread.start()
    for line in sys.stdin:
        print(json.dumps(ends.measure(**json.loads(line))), flush=True)
    rclpy.try_shutdown()
    thread.join()


def _near_end_class(node_class: Any, load: Any) -> Any:
    """Made here because the backend is chosen after this module is imported."""

    class NearEnd(node_class):
        def __init__(self, name: str) -> None:
            super().__init__(f"latency_{name}")
            self._sent: dict[int, float] = {}
            self._rtt_ms: list[float] = []
            self._back_ms: list[float] = []
            self._count = self._wanted = 0
            #: When the far end published the newest answer (wall clock), and when it could be read here (monotonic).
            self._newest: tuple[float, float] | None = None
            self._done = threading.Event()
            self._messages, self._senders = {}, {}
            for message, ros_type in MESSAGES.items():
                there, back = topics(name, message)
                self._messages[message] = _fill(load(ros_type)(), message)
                self._senders[message] = self.create_publisher(load(ros_type), there, 10)
                self.create_subscription(load(ros_type), back, self._hear, 10)

        def measure(self, message: str, rate_hz: float, seconds: float) -> dict[str, Any]:
            """One block; it begins when a first answer has come."""
            self._begin(1_000_000)
            while not self._rtt_ms:
                self._send(message)
                time.sleep(0.1)
            self._begin(max(1, round(seconds * rate_hz)))
            ages_ms: list[float] = []
            looker = threading.Thread(target=self._look, args=(1 / rate_hz, ages_ms))
            timer = self.create_timer(1 / rate_hz, lambda: self._send(message))
            self._send(message)  # its answer wakes an executor that has not noticed the timer
            looker.start()
            self._done.wait(seconds * 1.5 + GRACE_S)
            self.destroy_timer(timer)
            self._done.wait(GRACE_S)
            self._done.set()
            looker.join()
            size = len(getattr(self._messages[message], "data", b""))
            times = {"rtt_ms": list(self._rtt_ms), "back_ms": list(self._back_ms), "ages_ms": ages_ms}
            return {**times, "lost": self._wanted - len(self._rtt_ms), "bytes": size}

        def _begin(self, wanted: int) -> None:
            self._done.clear()
            self._newest = None
            self._rtt_ms.clear()
            self._back_ms.clear()
            self._sent.clear()
            self._wanted = wanted

        def _send(self, message: str) -> None:
            if len(self._sent) >= self._wanted:
                return
            self._count += 1
            data = self._messages[message]
            data.header.frame_id = str(self._count)
            self._sent[self._count] = time.perf_counter()
            self._senders[message].publish(data)

        def _hear(self, message: Any) -> None:
            now, wall = time.perf_counter(), time.time()
            sent = self._sent.get(int(message.header.frame_id or 0))
            if sent is None:
                return  # of an earlier block
            stamp = stamp_seconds(message)
            self._newest = stamp, time.monotonic()
            self._back_ms.append(1e3 * (wall - stamp))
            self._rtt_ms.append(1e3 * (now - sent))
            if len(self._rtt_ms) >= self._wanted:
                self._done.set()

        def _look(self, period_s: float, ages_ms: list[float]) -> None:
            looks = 0

            def look(deadline: float) -> Any:
                nonlocal looks
                begun, newest = time.monotonic(), self._newest
                if newest is None:
                    return SimpleNamespace(time=begun, reason="missing", oldest_s=math.nan)
                stamp, ready_s = newest
                looks += 1
                if looks > _SETTLING_LOOKS and len(self._sent) < self._wanted:
                    ages_ms.append(1e3 * (time.time() - stamp))
                return SimpleNamespace(time=begun, reason="ok", oldest_s=begun - ready_s)

            def ended() -> bool:
                return self._done.is_set() or len(self._sent) >= self._wanted

            keep_pace(look, period_s, time.monotonic, time.sleep, ended, follow_sensors=True)

    return NearEnd


def _fill(data: Any, message: str) -> Any:
    """A message of the size that robots send: 12 joints, 360 rays, 640 x 480 pixels as JPEG."""
    generator = np.random.default_rng(0)
    if message == "JointState":
        data.name = [f"joint_{i}" for i in range(12)]
        for quantity in ("position", "velocity", "effort"):
            setattr(data, quantity, generator.normal(size=12).tolist())
    elif message == "LaserScan":
        data.angle_min, data.angle_max, data.angle_increment = -3.14, 3.14, 6.28 / 359
        data.range_max = 10.0
        data.ranges = generator.uniform(0.1, 10.0, 360).astype(np.float32).tolist()
    else:
        data.format, data.data = "jpeg", _jpeg(generator)
    return data


def _jpeg(generator: np.random.Generator) -> bytes:
    """A smooth scene with some noise, 640 x 480."""
    import cv2

    coarse = generator.integers(0, 255, (12, 16, 3), dtype=np.uint8)
    scene = cv2.resize(coarse, (640, 480), interpolation=cv2.INTER_CUBIC)
    noisy = np.clip(scene + generator.normal(0, 4, scene.shape), 0, 255).astype(np.uint8)
    good, encoded = cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 80])
    assert good
    return bytes(encoded.tobytes())


if __name__ == "__main__":
    main(sys.argv[1:])
