"""A node for a program that is no ROS node itself: the environment, the recorder.

A `RosLink` has a context, a node and an executor thread of its own, natively or over rosbridge (see `backend`).
Callbacks run on that thread, one at a time.
"""

from __future__ import annotations

import functools
import itertools
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from mcsd_agent.errors import UserError
from ros_bridge import own_types
from ros_bridge.backend import (
    NATIVE,
    ExternalShutdownException,
    QoSProfile,
    ReliabilityPolicy,
    SingleThreadedExecutor,
    is_connected,
    load,
    rclpy,
)
from ros_bridge.robot_config import RobotConfig

#: Between a node's last message and its end, which would take along what DDS has not sent yet.
_FAREWELL_S = 0.1
_SPIN_S = 0.1
_INTEGER, _STRING = 2, 4  # rcl_interfaces/msg/ParameterType
_numbers = itertools.count()


class RosLink:
    """Connected when made, until `close`.

    Args:
        config: the robot.
        name: of the node; a number that no other link of this process has is appended.
        url: of the rosbridge server; None as for `mcsd-agent run`. Natively there is none.

    Raises `UserError` when the server cannot be reached.
    """

    def __init__(self, config: RobotConfig, name: str, *, url: str | None = None) -> None:
        self.config = config
        own_types.register(config.interfaces)
        self._context = rclpy.Context()
        rclpy.init(args=["--url", url] if url and not NATIVE else [], context=self._context)
        try:
            self.node = rclpy.create_node(
                f"{name}_{next(_numbers)}",
                context=self._context,
                use_global_arguments=False,
                enable_rosout=False,
                start_parameter_services=False,
            )
        except BaseException:
            rclpy.shutdown(context=self._context)
            raise
        self._ended = threading.Event()
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, name=self.node.get_name(), daemon=True)
        self._thread.start()

    @property
    def connected(self) -> bool:
        """Whether what is published leaves this process."""
        return is_connected(self.node)

    def subscribe(
        self, topic: str, ros_type: str, callback: Callable[[Any], None], *, sensor: bool = False, depth: int = 1
    ) -> None:
        """Call `callback(message)` on the link's thread; with `sensor`, best effort as sensors publish."""
        qos = QoSProfile(depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT) if sensor else QoSProfile(depth=depth)
        self.node.create_subscription(load(ros_type), topic, callback, qos)

    def follow(self, topics: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
        """A dict that holds the newest message of each `(topic, type)` by name, None before the first."""
        newest: dict[str, Any] = dict.fromkeys(topics)
        for name, (topic, ros_type) in topics.items():
            keep = functools.partial(newest.__setitem__, name)
            self.subscribe(topic, ros_type, keep, sensor=True)
        return newest

    def trigger(self, service: str, timeout_s: float) -> None:
        """Call a std_srvs/Trigger; `UserError` when it does not answer in time, or says no."""
        answer = self._call(service, "std_srvs/srv/Trigger", timeout_s)
        if not answer.success:
            raise UserError(f"service {service} refused: {answer.message or 'it gives no reason'}")

    def set_parameters(self, node: str, values: Mapping[str, int | str], timeout_s: float) -> None:
        """Set parameters of another node; `UserError` when it does not answer in time, or refuses one."""
        value, parameter = (load(f"rcl_interfaces/msg/{name}") for name in ("ParameterValue", "Parameter"))
        wanted = [
            parameter(
                name=name,
                value=value(type=_STRING, string_value=given)
                if isinstance(given, str)
                else value(type=_INTEGER, integer_value=given),
            )
            for name, given in values.items()
        ]
        answer = self._call(f"{node}/set_parameters", "rcl_interfaces/srv/SetParameters", timeout_s, parameters=wanted)
        for name, result in zip(values, answer.results, strict=True):
            if not result.successful:
                raise UserError(f"node {node} refused its parameter {name}={values[name]!r}: {result.reason}")

    def close(self) -> None:
        """Say goodbye, and end the node and its thread. May be called twice."""
        if self._ended.is_set():
            return
        self._say_goodbye()
        self._ended.set()
        self._executor.wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=2.0)
        self.node.destroy_node()
        self._executor.shutdown()
        rclpy.shutdown(context=self._context)

    def _say_goodbye(self) -> None:
        """The last messages are published here."""
        time.sleep(_FAREWELL_S)

    def _call(self, service: str, ros_type: str, timeout_s: float, **fields: Any) -> Any:
        end = time.monotonic() + timeout_s
        kind = load(ros_type)
        client = self.node.create_client(kind, service)
        try:
            if not client.wait_for_service(timeout_sec=timeout_s):
                raise UserError(f"no service {service} after {timeout_s:g} s; is what offers it running?")
            answered = threading.Event()
            future = client.call_async(kind.Request(**fields))
            future.add_done_callback(lambda _: answered.set())
            if not answered.wait(max(0.0, end - time.monotonic())):
                raise UserError(f"service {service} did not answer within {timeout_s:g} s")
            try:
                return future.result()
            except Exception as error:  # a lost link, a server that refuses
                raise UserError(f"service {service} failed: {' '.join(str(error).split())}") from None
        finally:
            self.node.destroy_client(client)

    def _spin(self) -> None:
        while not self._ended.is_set():
            try:
                self._executor.spin_once(timeout_sec=_SPIN_S)
            except ExternalShutdownException:
                return
            except Exception as error:  # of a callback: what it was about grows stale, and whoever reads it sees that
                self.node.get_logger().error(f"{type(error).__name__}: {' '.join(str(error).split())}")
