"""A node whose callbacks never run, on the server of its first argument; on every line of its input it publishes or
tells about itself: `{"peak_mib", "rss_mib", "threads", "counters"}`."""

from __future__ import annotations

import json
import re
import sys
import threading
from pathlib import Path

import psutil

from ros_bridge import rclpy
from ros_bridge.messages import load
from ros_bridge.rclpy.node import Node

Grid, Image, String = map(load, ("nav_msgs/msg/OccupancyGrid", "sensor_msgs/msg/Image", "std_msgs/msg/String"))


def peak_mib() -> float:
    """Of this program alone: `ru_maxrss` begins with what the process that started it had."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024


def main() -> None:
    rclpy.init(args=["--url", sys.argv[1]])
    node = Node("victim", enable_rosout=False, start_parameter_services=False)
    for kind in (Grid, Image, String):
        node.create_subscription(kind, f"/{kind.__name__}", lambda message: None, 1000)
    publisher = node.create_publisher(Image, "/mine", 10)
    picture = Image(height=480, width=640, encoding="mono8", step=640, data=bytes(640 * 480))
    for line in sys.stdin:
        for _ in range(int(line)):
            publisher.publish(picture)
        print(
            json.dumps(
                {
                    "peak_mib": peak_mib(),
                    "rss_mib": psutil.Process().memory_info().rss / 2**20,
                    "threads": threading.active_count(),
                    "counters": node.context.connection.counts(),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
