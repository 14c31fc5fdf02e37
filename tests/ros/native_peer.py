"""A node on native rclpy for the interoperability tests: echoes messages, offers and uses services."""

from __future__ import annotations

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image, JointState, LaserScan
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger


class Peer(Node):
    def __init__(self) -> None:
        super().__init__("native_peer")
        for kind in (String, JointState, LaserScan, Image, DiagnosticArray):
            name = kind.__name__.lower()
            echo = self.create_publisher(kind, f"/echo/{name}", qos_profile_sensor_data)
            self.create_subscription(kind, f"/to_native/{name}", echo.publish, 10)
        self.create_service(SetBool, "/native/set", self._set)
        self._trigger = self.create_client(Trigger, "/bridge/trigger")
        self._results = self.create_publisher(String, "/native/result", 10)
        self.create_subscription(String, "/native/call", self._call, 10)

    def _set(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        response.success, response.message = request.data, "set natively"
        return response

    def _call(self, message: String) -> None:
        future = self._trigger.call_async(Trigger.Request())
        future.add_done_callback(lambda f: self._results.publish(String(data=f.result().message)))


rclpy.init()
rclpy.spin(Peer())
