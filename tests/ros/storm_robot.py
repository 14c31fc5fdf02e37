"""The robot of the fault storm, on native rclpy: sends sensors and a clock, hears commands, calls a service.

Stamps are monotonic time, which both sides of one machine share. Commands say in `angular.x` when they were sent.
Prints JSON lines: for every command heard `{"command": age_s, "stamp": ...}`, or `{"stop": at}`; `{"probed": at}` for
what shows that commands pass, `{"answered": ...}` for every call answered; and the guard's counts. "reset" on stdin
sets the clock back. Commands are heard as best effort, with `--reliable` as reliable; with `--guarded` they are plain
and come from a guard.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Twist, TwistStamped
from rclpy.executors import ExternalShutdownException
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, JointState, LaserScan
from std_msgs.msg import Empty, Header
from std_srvs.srv import Trigger

RATE_HZ = 20.0


def say(**values: object) -> None:
    print(json.dumps(values), flush=True)


def main() -> None:
    rclpy.init()
    node = rclpy.create_node("storm_robot")
    newest = QoSProfile(depth=1)
    messages = {
        "/storm/joints": JointState(name=["a", "b"], position=[0.1, 0.2]),
        "/storm/scan": LaserScan(ranges=[float(i) for i in range(360)]),
        "/storm/image": CompressedImage(format="jpeg", data=bytes(20_000)),
        "/storm/header": Header(frame_id="robot"),
    }
    publishers = {topic: node.create_publisher(type(m), topic, newest) for topic, m in messages.items()}
    clock = node.create_publisher(Clock, "/clock", newest)
    started = [time.monotonic()]

    def hear(twist: Twist) -> None:
        now, sent = time.monotonic(), twist.angular.x
        if sent:
            say(command=now - sent, stamp=sent)
            say(probed=now)
        else:
            say(probed=now) if twist.angular.y else say(stop=now)

    def hear_guard(message: DiagnosticArray) -> None:
        say(guard={pair.key: int(pair.value) for pair in message.status[0].values})

    # DDS repeats to a reliable subscription what was sent while the two were still finding each other.
    reliability = ReliabilityPolicy.RELIABLE if "--reliable" in sys.argv else ReliabilityPolicy.BEST_EFFORT
    qos = QoSProfile(depth=1, reliability=reliability)
    if "--guarded" in sys.argv:
        node.create_subscription(Twist, "/storm/guarded_command", hear, qos)
        node.create_subscription(DiagnosticArray, "/command_guard/status", hear_guard, newest)
    else:
        node.create_subscription(TwistStamped, "/storm/command", lambda message: hear(message.twist), qos)
    node.create_subscription(Empty, "/storm/probe", lambda message: say(probed=time.monotonic()), newest)
    client = node.create_client(Trigger, "/storm/service")
    pending: list[tuple[rclpy.Future, float]] = []

    def tick() -> None:
        now = time.monotonic()
        for topic, message in messages.items():
            stamp = message.stamp if topic == "/storm/header" else message.header.stamp
            stamp.sec, stamp.nanosec = int(now), int(now % 1 * 1e9)
            publishers[topic].publish(message)
        simulated = Clock()
        passed = now - started[0]
        simulated.clock.sec, simulated.clock.nanosec = int(passed), int(passed % 1 * 1e9)
        clock.publish(simulated)
        if pending and pending[0][0].done():
            say(answered=pending.pop(0)[1], at=now)
        elif pending and now - pending[0][1] > 0.5:
            client.remove_pending_request(pending.pop(0)[0])
        if not pending:
            pending.append((client.call_async(Trigger.Request()), now))

    def listen() -> None:
        for _ in sys.stdin:
            started[0] = time.monotonic()

    threading.Thread(target=listen, daemon=True).start()
    node.create_timer(1 / RATE_HZ, tick)
    say(ready=time.monotonic())
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)


if __name__ == "__main__":
    main()
