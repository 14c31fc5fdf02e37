"""The node that drives a robot with a policy, natively or over rosbridge (see `backend`).

    import ros_bridge.rclpy as rclpy            # or: import rclpy
    from ros_bridge.policy_node import PolicyNode

    rclpy.init(args=["--url", "ws://robot:9090"])
    rclpy.spin(PolicyNode("nav.mcsd", "configs/robots/diffdrive.yaml"))

Topics and types are the robot's YAML's. Beside them:

    ~/status  diagnostic_msgs/DiagnosticArray  every second, and at once when the state or the instruction changes
    ~/reset   std_srvs/Trigger                 empty the memory, forget the instruction, clear a fault
    ~/hold    std_srvs/SetBool                 true: stand still, keeping the memory; false: go on

and, where the robot's YAML has a `heartbeat`, a std_msgs/Empty that must not stay away for too long.

The robot stands still until it has been told something. On a lost link, a stale sensor, NaN or a late
tick it is told to stop, and driving goes on by itself when the cause has passed.
"""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mcsd_agent.language import Vocabulary
from mcsd_agent.runtime import Controller, ControllerConfig, RealTimeConfig, Stream, Telemetry
from mcsd_agent.runtime.action_filters import ActionHook
from ros_bridge.backend import Node, QoSProfile, ReliabilityPolicy, is_connected, link_counters, load
from ros_bridge.robot_config import RobotConfig, check_fit, load_robot
from ros_bridge.ros_robot import RosRobot

STATUS_PERIOD_S = 1.0
#: Between the last stop command and the end of its publisher, which would take along what DDS has not sent yet.
_FAREWELL_S = 0.1
_OK, _WARN, _ERROR, _STALE = b"\x00", b"\x01", b"\x02", b"\x03"


class PolicyNode(Node):
    """Runs an artifact on a robot at the artifact's rate, in a thread of its own.

    Args:
        artifact: path of a `.mcsd` file, or a loaded `Stream`.
        robot: path of a robot YAML, or a loaded `RobotConfig`.
        engine: "onnx" or "numpy", for a path.
        node_name: decides the names of the status topic and the services.
        spoken_ticks: overrides the robot's `instruction.spoken_ticks` (0: always visible).
        telemetry: records every tick; a fresh one is made by default.
        real_time: what the controller's thread asks of the system; what it does not get is logged.
        action_hook: changes actions before they are sent, see `mcsd_agent.runtime.action_filters`.

    Raises `UserError` when the artifact cannot be loaded or does not fit the robot.
    """

    def __init__(
        self,
        artifact: str | Path | Stream,
        robot: str | Path | RobotConfig,
        *,
        engine: str = "onnx",
        node_name: str = "policy",
        spoken_ticks: int | None = None,
        telemetry: Telemetry | None = None,
        real_time: RealTimeConfig | None = None,
        action_hook: ActionHook | None = None,
    ) -> None:
        config = robot if isinstance(robot, RobotConfig) else load_robot(robot)
        if spoken_ticks is not None and config.instruction is not None:
            instruction = dataclasses.replace(config.instruction, spoken_ticks=spoken_ticks or None)
            config = dataclasses.replace(config, instruction=instruction)
        stream = artifact if isinstance(artifact, Stream) else Stream.load(artifact, engine)
        spec = stream.spec
        check_fit(spec.observation, spec.action, spec.rate_hz, config)
        super().__init__(node_name)
        self.robot_config = config
        self.telemetry = telemetry or Telemetry()
        self._vocabulary = Vocabulary.from_json(spec.vocabulary) if spec.vocabulary else None
        self._reason = "starting"
        self._instruction = ""
        self._unknown_words: tuple[str, ...] = ()
        self._counts = {"instructions": 0, "memory_resets": 0}

        newest = QoSProfile(depth=1)
        twist = load(config.action.message_type)
        self._commands = self.create_publisher(twist, config.action.topic, newest)
        self._array, self._entry, self._pair = (
            load(f"diagnostic_msgs/msg/{name}") for name in ("DiagnosticArray", "DiagnosticStatus", "KeyValue")
        )
        self._statuses = self.create_publisher(self._array, "~/status", QoSProfile(depth=10))
        self.robot = RosRobot(
            config,
            spec.observation,
            twist=twist,
            publish=self._commands.publish,
            is_connected=lambda: is_connected(self),
            on_reason=self._note_reason,
        )
        self.controller = Controller(
            stream,
            self.robot,
            _controller_config(config, spec.observation),
            telemetry=self.telemetry,
            real_time=real_time,
            action_hook=action_hook,
        )
        for note in self.controller.real_time_notes:
            self.get_logger().warning(note)
        sensor_qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        for name, receive in self.robot.receivers().items():
            observation = config.observations[name]
            self.create_subscription(load(observation.source.message_type), observation.topic, receive, sensor_qos)
        if config.instruction is not None and config.instruction.name in spec.observation:
            self.create_subscription(
                load("std_msgs/msg/String"), config.instruction.topic, self._hear, QoSProfile(depth=10)
            )
        if config.heartbeat is not None:
            self.create_subscription(
                load("std_msgs/msg/Empty"), config.heartbeat.topic, lambda _: self.controller.heartbeat(), newest
            )
        self.create_service(load("std_srvs/srv/Trigger"), "~/reset", self._on_reset)
        self.create_service(load("std_srvs/srv/SetBool"), "~/hold", self._on_hold)
        self.create_timer(STATUS_PERIOD_S, self.publish_status)
        self._stop_event = threading.Event()
        self._thread = threading.Thread(
            target=self.controller.run, args=(self._stop_event,), name=f"{node_name}-controller", daemon=True
        )
        self._thread.start()
        self.get_logger().info(
            f"driving {config.name} at {spec.rate_hz:g} Hz with {stream.engine}; say what to do on"
            f" {config.instruction.topic if config.instruction else 'no topic: this policy takes no instructions'}"
        )

    def destroy_node(self) -> None:
        """Stop the robot, end the controller's thread, and withdraw everything."""
        if self._thread.is_alive():
            self._stop_event.set()
            self._thread.join(timeout=2.0)
            if self.context.ok():
                self.publish_status()
                time.sleep(_FAREWELL_S)
        super().destroy_node()

    # -- callbacks on the executor's thread --------------------------------------------------------

    def _hear(self, message: Any) -> None:
        text = " ".join(message.data.split())
        self._unknown_words = self._vocabulary.unknown_words(text) if self._vocabulary else ()
        self._instruction = text
        self._counts["instructions"] += 1
        self.robot.spoken.hear(text)
        if self._unknown_words:
            self.get_logger().warning(f"instruction {text!r}: the policy has never seen {self._unknown_text()}")
        self.publish_status()

    def _on_reset(self, request: Any, response: Any) -> Any:
        self.robot.spoken.forget()
        self._instruction, self._unknown_words = "", ()
        self.controller.reset_memory()
        self._counts["memory_resets"] += 1
        response.success, response.message = True, "memory empty, waiting for an instruction"
        return response

    def _on_hold(self, request: Any, response: Any) -> Any:
        if request.data:
            self.controller.hold()
        else:
            self.controller.enable()
        response.success, response.message = True, "held" if request.data else "enabled"
        return response

    def publish_status(self) -> None:
        """Publish the diagnostic status now."""
        values = self.status()
        entry = self._entry(
            level=_level(self._reason),
            name=f"{self.get_name()}: {self.robot_config.name}",
            message=self._reason,
            hardware_id=self.robot_config.name,
            values=[self._pair(key=key, value=value) for key, value in values.items()],
        )
        message = self._array(status=[entry])
        message.header.stamp = self.get_clock().now().to_msg()
        self._statuses.publish(message)

    def status(self) -> Mapping[str, str]:
        """What `~/status` carries, by key."""
        ticks = self.telemetry.ticks
        last = ticks[-1] if ticks else None
        recent = [t for t in ticks[-int(2 / self.controller.period_s) - 1 :]]
        span_s = recent[-1].time - recent[0].time if len(recent) > 1 else 0.0
        latencies = sorted(t.latency_s for t in recent)
        values: dict[str, object] = {
            "reason": self._reason,
            "mode": self.controller.mode,
            "detail": last.detail if last else "",
            "instruction": self._instruction,
            "unknown_words": self._unknown_text(),
            "rate_hz": f"{(len(recent) - 1) / span_s:.2f}" if span_s > 0 else "0",
            "oldest_ms": f"{1e3 * max((t.oldest_s for t in recent if not math.isnan(t.oldest_s)), default=0.0):.1f}",
            "latency_ms": f"{1e3 * latencies[len(latencies) // 2]:.2f}" if latencies else "0",
            "state_norm": f"{last.state_norm:.3g}" if last else "0",
            "ticks": last.index + 1 if last else 0,
            "skipped": sum(t.skipped for t in ticks),
            "connected": is_connected(self),
            **self._counts,
        }
        values |= {f"rejected_{name}": count for name, count in self.robot.rejected.items()}
        if self.robot.last_error:
            values["sensor_error"] = self.robot.last_error
        values |= {f"link_{cause}": count for cause, count in link_counters(self).items()}
        return {key: str(value) for key, value in values.items()}

    # -- on the controller's thread ------------------------------------------------------------------

    def _note_reason(self, reason: str) -> None:
        if reason == self._reason:
            return
        self._reason = reason
        executor = self.executor
        if executor is not None and not self._stop_event.is_set():
            executor.create_task(self.publish_status)

    def _unknown_text(self) -> str:
        return ", ".join(self._unknown_words)


def _controller_config(robot: RobotConfig, needed: Collection[str]) -> ControllerConfig:
    """The robot's YAML in the controller's words; `needed` are the observations that the policy has."""
    used = {name: o for name, o in robot.observations.items() if name in needed}
    return ControllerConfig(
        follow_sensors=True,
        max_age_by_name={name: o.max_age_s for name, o in used.items()},
        max_frozen_by_name={name: o.max_frozen_s for name, o in used.items() if o.max_frozen_s is not None},
        heartbeat_s=robot.heartbeat.max_silence_s if robot.heartbeat else None,
        slew_per_s=robot.action.slew_per_s,
        low_pass_s=robot.action.low_pass_s,
        max_excess=robot.action.max_excess,
        **vars(robot.safety),
    )


def _level(reason: str) -> bytes:
    kind = reason.partition(":")[0]
    if kind == "ok":
        return _OK
    if kind in ("disconnected", "missing", "stale", "frozen", "heartbeat"):
        return _STALE
    return _WARN if kind in ("starting", "held", "late", "clock_jump", "shutdown") else _ERROR
