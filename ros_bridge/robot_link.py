"""A robot's observations and commands for a program that drives it without being a node: the environment."""

from __future__ import annotations

import time

from mcsd_agent.errors import UserError
from mcsd_agent.runtime.watchdogs import HeartbeatWatch
from ros_bridge.backend import QoSProfile, load
from ros_bridge.commands import CommandMaker
from ros_bridge.emergency_stop import EmergencyStop
from ros_bridge.robot_config import RobotConfig
from ros_bridge.robot_time import stamper
from ros_bridge.ros_link import RosLink
from ros_bridge.ros_robot import RosRobot

#: How long publishers and subscriptions may need to find each other: what is published before may reach nobody.
_DISCOVERY_S = 1.0


class RobotLink(RosLink):
    """`robot` reads the observations and commands; `beats` hears the heartbeat, where the robot has one.

    Callbacks only copy. Arguments as for `RosLink`.
    """

    def __init__(self, config: RobotConfig, name: str, *, url: str | None = None) -> None:
        super().__init__(config, name, url=url)
        #: The newest instruction, "" before the first.
        self.instruction = ""
        maker = CommandMaker(config.action, load, stamper(self.node, config.action.time_topic))
        self._commands = self.node.create_publisher(maker.message_class, config.action.topic, QoSProfile(depth=1))
        self.robot = RosRobot(
            config,
            config.observations,
            commands=maker,
            publish=self._commands.publish,
            is_connected=lambda: self.connected,
        )
        for observation, receive in self.robot.receivers().items():
            source = config.observations[observation]
            self.subscribe(source.topic, source.message_type, receive, sensor=True)
        self._button = None
        if config.emergency_stop is not None:
            self._button = EmergencyStop(self.node, config.emergency_stop.topic, self.robot.halt)
        self.beats = HeartbeatWatch(config.heartbeat.max_silence_s if config.heartbeat else None)
        if config.heartbeat is not None:
            self.subscribe(config.heartbeat.topic, "std_msgs/msg/Empty", lambda _: self.beats.beat(time.monotonic()))
        self._words = None
        if config.instruction is not None:
            self._words = self.node.create_publisher(
                load("std_msgs/msg/String"), config.instruction.topic, QoSProfile(depth=10)
            )
        self._discovered_at = time.monotonic() + _DISCOVERY_S

    @property
    def emergency(self) -> bool:
        """Whether the newest message on the emergency stop's topic says so."""
        return self._button is not None and self._button.is_pressed

    def listen(self) -> None:
        """Hear what others say on the instruction topic, where the robot has one."""
        if self.config.instruction is not None:
            topic = self.config.instruction.topic
            self.subscribe(topic, "std_msgs/msg/String", lambda message: self._hear(message.data), depth=10)

    def say(self, text: str) -> None:
        """Publish an instruction, and show it to whoever reads `robot`."""
        if self._words is None:
            raise UserError(f"robot {self.config.name!r} takes no instructions: its YAML has no instruction topic")
        time.sleep(max(0.0, self._discovered_at - time.monotonic()))
        self._words.publish(load("std_msgs/msg/String")(data=text))
        self._hear(text)

    def release(self) -> None:
        """Commands leave again, after an emergency stop that has been taken back."""
        self.robot.release()
        if self.emergency:  # it came meanwhile
            self.robot.halt()

    def _say_goodbye(self) -> None:
        self.robot.stop("shutdown")
        super()._say_goodbye()
        if self._button is not None:
            self._button.close()

    def _hear(self, text: str) -> None:
        self.instruction = " ".join(text.split())
        self.robot.spoken.hear(self.instruction)
