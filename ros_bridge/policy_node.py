"""The node that drives a robot with a policy, natively or over rosbridge (see `backend`).

    import ros_bridge.rclpy as rclpy            # or: import rclpy
    from ros_bridge.policy_node import PolicyNode

    rclpy.init(args=["--url", "ws://robot:9090"])
    node = PolicyNode("nav.mcsd", "configs/robots/diffdrive.yaml")
    try:
        rclpy.spin(node)
    finally:
        node.destroy_node()  # tells the robot to stop, also after Ctrl-C and SIGTERM

Topics and types are the robot's YAML's. Beside them:

    ~/status  diagnostic_msgs/DiagnosticArray  every second, and at once when the state or the instruction changes
    ~/reset   std_srvs/Trigger                 empty the memory, forget the instruction, clear a fault
    ~/hold    std_srvs/SetBool                 true: stand still, keeping the memory; false: go on
    ~/enable  std_srvs/Trigger                 go on after a hold or an emergency stop

and where the policy takes instructions, the action ~/execute_instruction (`instruction_action`) and the same on topics
(`goal_topics`). The YAML may ask for a `heartbeat`, and for an `emergency_stop` that comes before everything else.

The robot stands still until it has been told something. On a lost link, a stale sensor, NaN or a late
tick it is told to stop, and driving goes on by itself when the cause has passed. It is not driven at all where a
server refuses what the node may not drive without (`refusals`), say because another node of its name is there.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mcsd_agent.runtime import Controller, RealTimeConfig, Stream, Telemetry
from mcsd_agent.runtime.action_filters import ActionHook
from mcsd_agent.runtime.text_encoders import text_encoder
from ros_bridge import own_types
from ros_bridge.backend import Node, QoSProfile, ReliabilityPolicy, is_connected, link_counters, load
from ros_bridge.commands import CommandMaker
from ros_bridge.emergency_stop import EmergencyStop
from ros_bridge.instruction_action import offer_goals
from ros_bridge.instruction_goals import InstructionGoals
from ros_bridge.observation_sources import Fields
from ros_bridge.policy_status import level, recent_ticks
from ros_bridge.refusals import Needed
from ros_bridge.robot_config import RobotConfig, check_fit, load_robot
from ros_bridge.robot_controller import controller_config
from ros_bridge.robot_time import stamper
from ros_bridge.ros_robot import RosRobot
from ros_bridge.status_publisher import StatusPublisher

STATUS_PERIOD_S = 1.0
#: Between the last stop command and the end of its publisher, which would take along what DDS has not sent yet.
_FAREWELL_S = 0.1


class PolicyNode(Node):
    """Runs an artifact on a robot at the artifact's rate, in a thread of its own.

    Args:
        artifact: path of a `.mcsd` file, or a loaded `Stream`.
        robot: path of a robot YAML, or a loaded `RobotConfig`.
        engine: of `Stream.load`, for a path.
        node_name: decides the names of the status topic and the services.
        spoken_ticks: overrides the robot's `instruction.spoken_ticks` (0: always visible).
        telemetry: records every tick; a fresh one is made by default.
        real_time: what the controller's thread asks of the system; what it does not get is logged.
        action_hook: changes actions before they are sent, see `mcsd_agent.runtime.action_filters`.
        success_estimate: how sure it is that the instruction is carried out, 0 to 1: ends goals (`instruction_goals`),
            in place of what the policy itself may say.

    Raises `UserError` when the artifact cannot be loaded or does not fit the robot.
    """

    def __init__(
        self,
        artifact: str | Path | Stream,
        robot: str | Path | RobotConfig,
        *,
        engine: str = "auto",
        node_name: str = "policy",
        spoken_ticks: int | None = None,
        telemetry: Telemetry | None = None,
        real_time: RealTimeConfig | None = None,
        action_hook: ActionHook | None = None,
        success_estimate: Callable[[], float] | None = None,
    ) -> None:
        config = robot if isinstance(robot, RobotConfig) else load_robot(robot)
        if spoken_ticks is not None and config.instruction is not None:
            instruction = dataclasses.replace(config.instruction, spoken_ticks=spoken_ticks or None)
            config = dataclasses.replace(config, instruction=instruction)
        stream = artifact if isinstance(artifact, Stream) else Stream.load(artifact, engine)
        spec = stream.spec
        check_fit(spec.observation, spec.action, spec.rate_hz, config)
        own_types.register(config.interfaces)
        super().__init__(node_name)
        self.robot_config = config
        self.telemetry = telemetry or Telemetry()
        self._vocabulary = text_encoder(spec.vocabulary) if spec.vocabulary else None
        self._reason, self._instruction = "starting", ""
        self._unknown_words: tuple[str, ...] = ()
        self._not_understood = ""
        self._counts = {"instructions": 0, "memory_resets": 0, "emergency_stops": 0}
        self._stop_event = threading.Event()

        self._needed = Needed(self)
        commands = CommandMaker(config.action, load, stamper(self, config.action.time_topic))
        publisher = self.create_publisher(commands.message_class, config.action.topic, QoSProfile(depth=1))
        self._statuses = StatusPublisher(self, config.name)
        self.robot = RosRobot(
            config,
            spec.observation,
            commands=commands,
            publish=publisher.publish,
            is_connected=lambda: is_connected(self),
            on_reason=self._note_reason,
            check=self._needed.check,
        )
        self.controller = Controller(
            stream,
            self.robot,
            controller_config(config, spec.observation),
            telemetry=self.telemetry,
            real_time=real_time,
            action_hook=action_hook,
        )
        for note in self.controller.real_time_notes:
            self.get_logger().warning(note)
        completion, done = self.controller.completion, None
        if success_estimate is None and stream.predicts_success:
            success_estimate, done = lambda: completion.success, lambda: completion.done
        self._goals = InstructionGoals(
            hear=self._take_up, forget=self._forget, estimate=success_estimate, done=done, obstacle=self._obstacle
        )
        self._emergency: EmergencyStop | None = None
        # Before the sensors are: what the server refuses of them is known before there is anything to act on.
        self._offer_services()
        self._subscribe()
        if config.instruction is not None and config.instruction.name in spec.observation:
            topic = config.instruction.topic
            self.create_subscription(load("std_msgs/msg/String"), topic, self._hear, QoSProfile(depth=10))
            offer_goals(self, self._goals)
        self.create_timer(STATUS_PERIOD_S, self.publish_status)
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
            self._goals.interrupt("the policy node was ended")
            self._stop_event.set()
            self._thread.join(timeout=2.0)
            if self._emergency is not None:
                self._emergency.close()
            if self.context.ok():
                self.publish_status()
                time.sleep(_FAREWELL_S)
        super().destroy_node()

    def _offer_services(self) -> None:
        """Reset, enable and hold, and the emergency stop where there is one."""
        for ros_type, name, callback in (
            ("std_srvs/srv/Trigger", "~/reset", self._on_reset),
            ("std_srvs/srv/Trigger", "~/enable", self._on_enable),
            ("std_srvs/srv/SetBool", "~/hold", self._on_hold),
        ):
            self._needed.service(name)
            self.create_service(load(ros_type), name, callback)
        button = self.robot_config.emergency_stop
        if button is not None:
            self._needed.topic(button.topic)
            self._emergency = EmergencyStop(self, button.topic, self._stop_now)

    def _subscribe(self) -> None:
        """Hear the heartbeat where there is one, and the sensors."""
        heartbeat = self.robot_config.heartbeat
        if heartbeat is not None:
            self._needed.topic(self.resolve_topic_name(heartbeat.topic))
            empty = load("std_msgs/msg/Empty")
            self.create_subscription(empty, heartbeat.topic, lambda _: self.controller.heartbeat(), QoSProfile(depth=1))
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        for name, receive in self.robot.receivers().items():
            observation = self.robot_config.observations[name]
            kind, source = load(observation.message_type), observation.source
            if isinstance(source, Fields):
                source.check(kind())
            self.create_subscription(kind, observation.topic, receive, qos)

    # -- callbacks on the executor's thread --------------------------------------------------------

    def _hear(self, message: Any) -> None:
        self._goals.interrupt("another instruction was said")
        self._take_up(" ".join(message.data.split()))

    def _take_up(self, text: str) -> None:
        self._unknown_words = self._vocabulary.unknown_words(text) if self._vocabulary else ()
        # Judged before the controller hears it: a sentence encoder takes longer than a tick may.
        self._not_understood = self.controller.objection(text)
        self._instruction = text
        self._counts["instructions"] += 1
        self.robot.spoken.hear(text)
        self.controller.completion.new_instruction()
        if self._not_understood:
            self.get_logger().warning(f"instruction {text[:80]!r} is not understood: {self._not_understood}")
        self.publish_status()

    def _forget(self) -> None:
        self.robot.spoken.forget()
        self._instruction, self._unknown_words, self._not_understood = "", (), ""

    def _on_reset(self, request: Any, response: Any) -> Any:
        self._goals.interrupt("the memory was reset")
        self._forget()
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

    def _on_enable(self, request: Any, response: Any) -> Any:
        if self._emergency is not None and self._emergency.is_pressed:
            response.success, response.message = False, "the emergency stop is still pressed: its topic said true last"
            return response
        self.robot.release()
        self.controller.end_emergency_stop()
        self.controller.enable()
        response.success, response.message = True, "enabled"
        return response

    def _obstacle(self) -> str | None:
        if self.robot.is_halted:
            return "the emergency stop was pressed"
        return f"the policy failed: {self.controller.faulted}" if self.controller.faulted else None

    def publish_status(self) -> None:
        """Publish the diagnostic status now."""
        reason = self._reason
        self._statuses.publish(level(reason), reason, self.status())

    def status(self) -> Mapping[str, str]:
        """What `~/status` carries, by key."""
        values: dict[str, object] = {
            "reason": self._reason,
            "instruction": self._instruction,
            "unknown_words": self._unknown_text(),
            "not_understood": self._not_understood,
            "goal": self._goals.active.instruction if self._goals.active else "",
            **recent_ticks(self.controller),
            "connected": is_connected(self),
            **self._counts,
        }
        values |= {f"rejected_{name}": count for name, count in self.robot.rejected.items()}
        if self.robot.last_error:
            values["sensor_error"] = self.robot.last_error
        values |= {f"link_{cause}": count for cause, count in link_counters(self).items()}
        return {key: str(value) for key, value in values.items()}

    # -- on other threads: the emergency stop's, and the controller's --------------------------------

    def _stop_now(self) -> None:
        self.controller.emergency_stop()
        if not self.robot.is_halted:
            self._counts["emergency_stops"] += 1
        self.robot.halt()

    def _note_reason(self, reason: str) -> None:
        if reason == self._reason:
            return
        self._reason = reason
        executor = self.executor
        if executor is not None and not self._stop_event.is_set():
            executor.create_task(self.publish_status)

    def _unknown_text(self) -> str:
        return ", ".join(self._unknown_words)
