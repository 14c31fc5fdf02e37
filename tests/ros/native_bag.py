"""Records a bag as `ros2 bag record` does: on native rclpy, the bytes as they come, until SIGTERM.

python native_bag.py FOLDER mcap|sqlite3 TOPIC=TYPE ...
"""

from __future__ import annotations

import contextlib
import importlib
import signal
import sys
import time
from pathlib import Path

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore


def main(folder: str, storage: str, *topics: str) -> None:
    rclpy.init(args=[])
    signal.signal(signal.SIGTERM, lambda *_: rclpy.try_shutdown())
    node = rclpy.create_node("bag_recorder")
    store = get_typestore(Stores.ROS2_JAZZY)
    with Writer(Path(folder), version=9, storage_plugin=StoragePlugin[storage.upper()]) as bag:
        for topic, ros_type in (text.split("=") for text in topics):
            package, kind, name = ros_type.split("/")
            connection = bag.add_connection(topic, ros_type, typestore=store)
            node.create_subscription(
                getattr(importlib.import_module(f"{package}.{kind}"), name),
                topic,
                lambda data, connection=connection: bag.write(connection, time.time_ns(), data),
                QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT),
                raw=True,
            )
        print("recording", flush=True)
        with contextlib.suppress(ExternalShutdownException):
            rclpy.spin(node)


if __name__ == "__main__":
    main(*sys.argv[1:])
