"""The edge side of the fault storm, on the bridge: commands at 20 Hz, four sensors, a service, a node on sim time.

    python tests/ros/storm_edge.py ws://127.0.0.1:9090 [TIME_TOPIC]

Commands are stamped with the time that a guard tells on TIME_TOPIC, and say in `angular.x` when they were sent.
Prints what arrived, every 20 ms, as one JSON line: `{"at", "newest": {topic: stamp}, "clock_s"}`. Words on stdin:
"slow S" makes every callback sleep for the next S seconds, "jump S" moves the wall clock, "counters" prints them.
"""

from __future__ import annotations

import json
import sys
import threading
import time

from ros_bridge import rclpy
from ros_bridge.messages import load
from ros_bridge.rclpy.node import Node
from ros_bridge.robot_time import stamper

RATE_HZ = 20.0
SENSORS = {
    "/storm/joints": "sensor_msgs/msg/JointState",
    "/storm/scan": "sensor_msgs/msg/LaserScan",
    "/storm/image": "sensor_msgs/msg/CompressedImage",
    "/storm/header": "std_msgs/msg/Header",
}
TwistStamped = load("geometry_msgs/msg/TwistStamped")
Trigger = load("std_srvs/srv/Trigger")


class Edge(Node):
    """The node."""

    def __init__(self, time_topic: str | None) -> None:
        super().__init__("storm_edge", parameter_overrides=[rclpy.Parameter("use_sim_time", value=True)])
        self.newest: dict[str, float] = {}
        self.slow_until = 0.0
        self.stamp = stamper(self, time_topic)
        self.commands = self.create_publisher(TwistStamped, "/storm/command", 1)
        for topic, kind in SENSORS.items():
            self.create_subscription(load(kind), topic, lambda m, t=topic: self.hear(t, m), 1)
        self.create_service(Trigger, "/storm/service", self.answer)

    def hear(self, topic: str, message: object) -> None:
        stamp = message.stamp if topic == "/storm/header" else message.header.stamp  # type: ignore[attr-defined]
        self.newest[topic] = stamp.sec + stamp.nanosec * 1e-9
        if time.monotonic() < self.slow_until:
            time.sleep(0.3)

    def answer(self, request: object, response: object) -> object:
        response.success = True  # type: ignore[attr-defined]
        return response

    def command(self) -> None:
        """One command of the present."""
        message = TwistStamped()
        message.header.stamp = self.stamp()
        message.twist.linear.x, message.twist.angular.x = 0.1, time.monotonic()
        self.commands.publish(message)


def main() -> None:
    rclpy.init(args=["--url", sys.argv[1]])
    edge = Edge(*(sys.argv[2:] or [None]))
    said = threading.Lock()

    def say(**values: object) -> None:
        with said:
            print(json.dumps(values), flush=True)

    def drive() -> None:
        while True:
            edge.command()
            time.sleep(1 / RATE_HZ)

    def report() -> None:
        while True:
            say(at=time.monotonic(), newest=dict(edge.newest), clock_s=edge.get_clock().now().nanoseconds * 1e-9)
            time.sleep(0.02)

    def listen() -> None:
        wall, offset = (time.time, time.time_ns), [0.0]
        time.time = lambda: wall[0]() + offset[0]
        time.time_ns = lambda: wall[1]() + int(offset[0] * 1e9)
        for line in sys.stdin:
            word, _, value = line.strip().partition(" ")
            if word == "slow":
                edge.slow_until = time.monotonic() + float(value)
            elif word == "jump":
                offset[0] += float(value)
            elif word == "counters":
                say(counters=edge.context.connection.counts(), threads=threading.active_count())

    for function in (drive, report, listen):
        threading.Thread(target=function, daemon=True).start()
    rclpy.spin(edge)


if __name__ == "__main__":
    main()
