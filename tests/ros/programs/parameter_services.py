"""One node reads and sets the parameters of another, and hears its parameter events."""

import rclpy
from rcl_interfaces.msg import ParameterEvent
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.parameter_client import AsyncParameterClient


def main():
    rclpy.init()
    server, asker = Node("served"), Node("asker")
    server.declare_parameter("speed", 1.5)
    server.declare_parameter("names", ["a", "b"])
    server.declare_parameter("ids", [1, 2, 3])
    server.declare_parameter("raw", [b"\x01", b"\xff"])
    events = []
    asker.create_subscription(ParameterEvent, "/parameter_events", events.append, 10)
    client = AsyncParameterClient(asker, "served")
    executor = SingleThreadedExecutor()
    executor.add_node(server)
    executor.add_node(asker)
    print("there:", client.wait_for_services(10.0))

    def ask(future):
        executor.spin_until_future_complete(future, timeout_sec=10.0)
        return future.result()

    names = ask(client.list_parameters()).result.names
    print("list:", sorted(n for n in names if not n.startswith("start_")))
    values = ask(client.get_parameters(["speed", "names", "ids", "raw", "use_sim_time"])).values
    print("get:", [parameter_value_to_python(v) for v in values])
    print("missing:", list(ask(client.get_parameters(["speed", "missing"])).values))
    print("types:", [int(t) for t in ask(client.get_parameter_types(["speed", "names", "raw"])).types])
    print("describe:", ask(client.describe_parameters(["speed"])).descriptors)
    wanted = [Parameter("speed", value=2.5), Parameter("names", value=3), Parameter("missing", value=1)]
    print("set:", ask(client.set_parameters(wanted)).results)
    print("now:", server.get_parameter("speed").value, server.get_parameter("names").value)
    for speed in (1, 1.0):
        both = [Parameter("ids", value=[4]), Parameter("speed", value=speed)]
        print("atomic:", ask(client.set_parameters_atomically(both)))
    print("ids:", server.get_parameter("ids").value, server.get_parameter("ids").type_)
    print("delete:", ask(client.delete_parameters(["speed"])))
    end = asker.get_clock().now().nanoseconds + 10_000_000_000
    while len([e for e in events if e.node == "/served"]) < 2 and asker.get_clock().now().nanoseconds < end:
        executor.spin_once(timeout_sec=0.1)
    for event in [e for e in events if e.node == "/served"][-2:]:
        print("event:", event.node, [p.name for p in event.changed_parameters], event.new_parameters)
    rclpy.shutdown()


if __name__ == "__main__":
    main()
