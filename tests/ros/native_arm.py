"""A simulated arm on native rclpy: goes to where it is sent, at once, and writes every command as a JSON line."""

from __future__ import annotations

import json
import sys
import time

import cv2
import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, JointState
from trajectory_msgs.msg import JointTrajectory

NAMES = [f"joint_{i}" for i in range(1, 7)]


class Arm(Node):
    def __init__(self, log: str) -> None:
        super().__init__("arm")
        self._log = open(log, "w")  # noqa: SIM115
        self._positions = [0.0] * 6
        picture = np.zeros((480, 640, 3), np.uint8)
        self._jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
        self._joints = self.create_publisher(JointState, "/joint_states", qos_profile_sensor_data)
        self._gripper = self.create_publisher(JointState, "/gripper/state", qos_profile_sensor_data)
        self._image = self.create_publisher(
            CompressedImage, "/wrist_camera/image_raw/compressed", qos_profile_sensor_data
        )
        self.create_subscription(JointTrajectory, "/joint_trajectory_controller/joint_trajectory", self._go, 10)
        self.create_timer(0.05, self._tick)

    def _go(self, message: JointTrajectory) -> None:
        point = message.points[0]
        entry = {"t": time.monotonic(), "names": list(message.joint_names), "positions": list(point.positions)}
        self._log.write(json.dumps(entry | {"ns": point.time_from_start.nanosec}) + "\n")
        self._log.flush()
        self._positions = list(point.positions)

    def _tick(self) -> None:
        joints = JointState(name=NAMES, position=self._positions)
        image = CompressedImage(format="jpeg", data=self._jpeg)
        gripper = JointState(name=["gripper"], position=[25.0])
        for message, publisher in ((joints, self._joints), (gripper, self._gripper), (image, self._image)):
            message.header.stamp = self.get_clock().now().to_msg()
            publisher.publish(message)


rclpy.init()
rclpy.spin(Arm(sys.argv[1]))
