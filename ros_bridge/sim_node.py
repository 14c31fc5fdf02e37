"""The simulated robot as a native ROS 2 node. Importing this imports rclpy; `sim_robot` checks first.

The Nav world runs in real time at 10 Hz with the topics of the robot's YAML. Like a real base it has a
watchdog of its own: without a command for `watchdog_s` its wheels stand still. Beside the robot's
topics there are two for whoever sets tasks and judges:

    /sim/task   std_msgs/String, JSON in:  {"task": "any id", "seed": 3, "n_objects": 4, "instruction": "..."}
                a new arena; the objects that `instruction` names will be in it. The same id twice is one task.
    /sim/state  std_msgs/String, JSON out at 10 Hz: the true pose, objects, instruction heard, stage, success,
                and counters (commands, watchdog stops, instructions heard). See `operator.SimState`.
    /sim/reset  std_srvs/Trigger: a new arena. The node's parameters `seed` (-1: another one each time) and
                `instruction` say which, as the keys of a task do.

Nothing is judged until an instruction arrives on the robot's instruction topic.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from typing import IO, Any

import numpy as np
from geometry_msgs.msg import Twist
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image, JointState, LaserScan
from std_msgs.msg import String
from std_srvs.srv import Trigger

from mcsd_agent.errors import UserError
from ros_bridge.action_config import TWIST
from ros_bridge.observation_sources import Joints, LabelImage, Scan, Source
from ros_bridge.operator import RESET_SERVICE, STATE_TOPIC, TASK_TOPIC
from ros_bridge.robot_config import RobotConfig
from ros_bridge.sim_world import CommandWatch, World


class SimRobot(Node):
    """Topics of `config`, the world and the watchdog; `log` takes every command and every tick as JSON lines."""

    def __init__(self, config: RobotConfig, log: IO[str] | None, seed: int) -> None:
        super().__init__("sim_robot")
        self._config, self._log = config, log
        self._world = World()
        self._world.new_task({"task": "", "seed": seed})
        self._watch = CommandWatch(config.watchdog_s)
        self._parts = [field.split(".") for field in config.action.fields]
        self._sensors = []
        for name, observation in config.observations.items():
            kind, fill = _sensor(name, observation.source)
            self._sensors.append((fill, self.create_publisher(kind, observation.topic, qos_profile_sensor_data)))
        self._states = self.create_publisher(String, STATE_TOPIC, 10)
        self.create_subscription(Twist, config.action.topic, self._on_command, 10)
        self.create_subscription(String, TASK_TOPIC, self._on_task, 10)
        self.declare_parameter("seed", -1)
        self.declare_parameter("instruction", "")
        self.create_service(Trigger, RESET_SERVICE, self._on_reset)
        if config.instruction is not None:
            self.create_subscription(String, config.instruction.topic, self._on_instruction, 10)
        self.create_timer(1.0 / config.rate_hz, self._on_tick)
        self.get_logger().info(f"simulating {config.name} at {config.rate_hz:g} Hz")

    def _on_command(self, message: Any) -> None:
        now = time.monotonic()
        linear, angular = (float(getattr(getattr(message, part), axis)) for part, axis in self._parts)
        self._watch.command(linear, angular, now)
        self._record(kind="command", t=now, linear=linear, angular=angular)

    def _on_instruction(self, message: Any) -> None:
        self._world.hear(message.data)

    def _on_task(self, message: Any) -> None:
        try:
            task = json.loads(message.data)
            if not isinstance(task, dict):
                raise ValueError("a task is a JSON object")
        except ValueError as error:
            self._world.error = f"task {message.data[:80]!r}: {error}"
            return
        self._world.new_task(task)

    def _on_reset(self, request: Any, response: Any) -> Any:
        seed, instruction = (self.get_parameter(name).value for name in ("seed", "instruction"))
        self._world.error = ""
        self._world.new_task({"seed": seed if seed >= 0 else None, "instruction": instruction or None})
        self._watch.forget()
        response.success, response.message = not self._world.error, self._world.error or "a new arena"
        return response

    def _on_tick(self) -> None:
        now = time.monotonic()
        self._world.step(*self._watch.drive(now))
        stamp = self.get_clock().now().to_msg()
        for fill, publisher in self._sensors:
            publisher.publish(fill(self._world.observation, stamp))
        state = self._world.state() | {
            "commands": self._watch.received,
            "command_age_s": self._watch.age_s(now),
            "watchdog_stops": self._watch.stops,
            "watchdog_holds": self._watch.is_stopped,
            "time": now,
        }
        self._states.publish(String(data=json.dumps(state)))
        self._record(kind="tick", t=now, speed=state["speed"], turn_rate=state["turn_rate"])

    def _record(self, **entry: Any) -> None:
        if self._log is not None:
            self._log.write(json.dumps(entry) + "\n")
            self._log.flush()


def check_playable(config: RobotConfig) -> None:
    """`UserError` unless the simulated robot can play this one."""
    if abs(config.rate_hz - 10) > 1e-9:
        raise UserError(f"rate_hz is {config.rate_hz:g}; the simulated robot runs at 10 Hz")
    if config.action.message != TWIST:
        raise UserError(f"action.message is {config.action.message}; the simulated robot takes a {TWIST}")
    if config.action.fields != ("linear.x", "angular.z"):
        raise UserError(f"action.fields is {list(config.action.fields)}; the simulated robot takes linear.x, angular.z")
    for name, observation in config.observations.items():
        _sensor(name, observation.source)


_Fill = Callable[[dict[str, Any], Any], Any]


def _sensor(name: str, source: Source) -> tuple[type, _Fill]:
    """Message class, and what makes a message from the world's observation and a stamp."""
    if isinstance(source, Scan):
        if (source.start_deg, source.stop_deg, source.rays) != (60, -60, 31):
            raise UserError(f"observations.{name}.scan: the simulated robot has 31 rays from 60 to -60 degrees")
        return LaserScan, functools.partial(_scan, source)
    if isinstance(source, LabelImage):
        if source.width != 31:
            raise UserError(f"observations.{name}.label_image: the simulated robot has 31 rays")
        return Image, _labels
    if isinstance(source, Joints) and len(source.names) == 2 and source.quantity == "velocity":
        return JointState, functools.partial(_joints, source)
    raise UserError(f"observations.{name}: the simulated robot has scan, label_image and two joints' velocity only")


def _scan(source: Scan, observation: dict[str, Any], stamp: Any) -> Any:
    message = LaserScan()
    # A LaserScan counts counter-clockwise, as drivers do; the world's ray 0 is the left-most.
    angles = np.deg2rad([source.stop_deg, source.start_deg])
    message.header.stamp, message.header.frame_id = stamp, "laser"
    message.angle_min, message.angle_max = (float(a) for a in angles)
    message.angle_increment = float(angles[1] - angles[0]) / (source.rays - 1)
    message.range_max = source.max_range_m
    message.ranges = observation["ranges"][::-1].tolist()
    return message


def _labels(observation: dict[str, Any], stamp: Any) -> Any:
    message = Image()
    labels = observation["labels"].astype(np.uint8)
    message.header.stamp, message.header.frame_id = stamp, "laser"
    message.height, message.width, message.encoding, message.step = 1, labels.size, "mono8", labels.size
    message.data = labels.tobytes()
    return message


def _joints(source: Joints, observation: dict[str, Any], stamp: Any) -> Any:
    message = JointState()
    message.header.stamp = stamp
    message.name = list(source.names)
    message.velocity = observation["wheel_velocities"].astype(np.float64).tolist()
    return message
