"""Types that ROS does not ship, compiled for native ROS from wheels: a car's command crosses a real server."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import Start, require_compiler
from fake_server import eventually

from mcsd_agent.errors import UserError
from ros_bridge import own_types
from ros_bridge.action_config import ACKERMANN, ActionConfig
from ros_bridge.codec import to_json
from ros_bridge.commands import CommandMaker
from ros_bridge.compiled_types import compile_types
from ros_bridge.connection import Connection
from ros_bridge.messages import load
from ros_bridge.server import RosbridgeServer

LISTENER = """
import rclpy
from ackermann_msgs.msg import AckermannDriveStamped
from std_msgs.msg import Float64MultiArray
rclpy.init()
node = rclpy.create_node("car")
back = node.create_publisher(Float64MultiArray, "/heard", 10)
def hear(m):
    back.publish(Float64MultiArray(data=[m.drive.speed, m.drive.steering_angle]))
node.create_subscription(AckermannDriveStamped, "/drive", hear, 10)
rclpy.spin(node)
"""


def test_command_of_a_car_reaches_a_native_node(start: Start, tmp_path):
    require_compiler()
    own_types.register()
    config = ActionConfig("/drive", ("speed", "steering_angle"), (-2.0, -1.0), (2.0, 1.0), message=ACKERMANN)
    command = to_json(CommandMaker(config, load).message(np.float32([1.5, -0.25])))
    script = tmp_path / "listener.py"
    script.write_text(LISTENER)
    with RosbridgeServer(prefixes=[compile_types(own_types.FOLDER)]) as server:
        start(script, env=server.node_environment())
        link, heard = Connection(server.url), []
        link.wait_connected()
        link.advertise("/drive", ACKERMANN)
        link.subscribe("/heard", "std_msgs/msg/Float64MultiArray", lambda m: heard.append(list(m["data"])))
        assert eventually(lambda: link.publish("/drive", command) and bool(heard), 15.0)
        link.close()
    assert heard[0] == pytest.approx([1.5, -0.25])


def test_compiled_once_is_remembered_and_nothing_to_compile_is_said(tmp_path):
    require_compiler()
    prefix = compile_types(own_types.FOLDER)
    made = prefix.stat().st_ctime_ns
    assert compile_types(own_types.FOLDER) == prefix
    assert prefix.stat().st_ctime_ns == made
    with pytest.raises(UserError, match=r"no package/msg/Name\.msg"):
        compile_types(tmp_path)


def test_type_that_ros_cannot_read_is_refused_in_one_line(tmp_path):
    require_compiler()
    path = tmp_path / "broken_msgs" / "msg" / "Broken.msg"
    path.parent.mkdir(parents=True)
    path.write_text("nonsense_msgs/Nothing at_all\n")
    with pytest.raises(UserError, match="broken_msgs") as failure:
        compile_types(tmp_path)
    assert "\n" not in str(failure.value)
