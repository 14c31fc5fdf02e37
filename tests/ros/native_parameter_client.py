"""On native rclpy: reads and sets the parameters of the node that the first argument names; prints JSON."""

from __future__ import annotations

import json
import sys

import rclpy
from rcl_interfaces.msg import ParameterEvent
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.parameter_client import AsyncParameterClient

rclpy.init()
node = Node("native_parameter_client")
events: list[ParameterEvent] = []
node.create_subscription(ParameterEvent, "/parameter_events", events.append, 10)
client = AsyncParameterClient(node, sys.argv[1])
assert client.wait_for_services(20.0)


def ask(future):
    rclpy.spin_until_future_complete(node, future, timeout_sec=20.0)
    return future.result()


report = {
    "names": list(ask(client.list_parameters()).result.names),
    "values": [parameter_value_to_python(v) for v in ask(client.get_parameters(["speed", "names", "ids"])).values],
    "types": list(ask(client.get_parameter_types(["speed", "names"])).types),
    "description": ask(client.describe_parameters(["speed"])).descriptors[0].description,
    "set": [
        [r.successful, r.reason]
        for r in ask(client.set_parameters([Parameter("speed", value=2.5), Parameter("speed", value=99.0)])).results
    ],
    "atomic": ask(
        client.set_parameters_atomically([Parameter("ids", value=[7]), Parameter("speed", value="x")])
    ).result.successful,
    "after": [parameter_value_to_python(v) for v in ask(client.get_parameters(["speed", "ids"])).values],
}
for _ in range(100):
    if any(p.name == "speed" for e in events for p in e.changed_parameters):
        break
    rclpy.spin_once(node, timeout_sec=0.1)
report["events"] = [[e.node, [p.name for p in e.changed_parameters]] for e in events if e.changed_parameters]
print(json.dumps(report))
