"""The parameters of a bridge node from a native client, as `ros2 param` uses them."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from ros_bridge.messages import load
from ros_bridge.rclpy.context import Context
from ros_bridge.rclpy.executors import SingleThreadedExecutor
from ros_bridge.rclpy.node import Node

ParameterDescriptor = load("rcl_interfaces/msg/ParameterDescriptor")
FloatingPointRange = load("rcl_interfaces/msg/FloatingPointRange")


def test_native_client_reads_and_sets_a_bridge_nodes_parameters(shared_server, start):
    context = Context()
    context.init(["--url", shared_server.url])
    node = Node("bridge_served", context=context)
    limits = FloatingPointRange(from_value=0.0, to_value=10.0)
    node.declare_parameter("speed", 1.5, ParameterDescriptor(description="m/s", floating_point_range=[limits]))
    node.declare_parameter("names", ["a", "b"])
    node.declare_parameter("ids", [1, 2, 3])
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    ending = threading.Event()

    def serve():
        while not ending.is_set():
            executor.spin_once(timeout_sec=0.1)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        script = Path(__file__).with_name("native_parameter_client.py")
        process = start(script, "bridge_served", env=shared_server.node_environment())
        report = json.loads(process.communicate(timeout=60)[0])
    finally:
        ending.set()
        thread.join()
        node.destroy_node()
        context.shutdown()
    assert set(report["names"]) == {"use_sim_time", "speed", "names", "ids"}
    assert report["values"] == [1.5, ["a", "b"], [1, 2, 3]]
    assert report["types"] == [3, 9]
    assert report["description"] == "m/s"
    assert report["set"][0] == [True, ""]
    assert report["set"][1][0] is False
    assert "out of range" in report["set"][1][1]
    assert report["atomic"] is False
    assert report["after"] == [2.5, [1, 2, 3]]
    assert ["/bridge_served", ["speed"]] in report["events"]
