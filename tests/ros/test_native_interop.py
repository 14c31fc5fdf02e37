"""A node on the bridge and a node on genuine rclpy, through a real rosbridge server."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mcsd_agent.errors import UserError
from ros_bridge.messages import load
from ros_bridge.rclpy.context import Context
from ros_bridge.rclpy.executors import SingleThreadedExecutor
from ros_bridge.rclpy.node import Node
from ros_bridge.server import RosbridgeServer, end_group

String = load("std_msgs/msg/String")
KINDS = {
    "string": (String, {"data": "grüße"}),
    "jointstate": (load("sensor_msgs/msg/JointState"), {"name": ["a", "b"], "position": [0.1, -2.5], "effort": []}),
    "laserscan": (load("sensor_msgs/msg/LaserScan"), {"ranges": np.float32([0.1, 3.25]), "range_max": 4.0}),
    "image": (
        load("sensor_msgs/msg/Image"),
        {"height": 1, "width": 256, "step": 256, "encoding": "mono8", "data": np.arange(256, dtype=np.uint8)},
    ),
    "diagnosticarray": (
        load("diagnostic_msgs/msg/DiagnosticArray"),
        {
            "status": [
                load("diagnostic_msgs/msg/DiagnosticStatus")(
                    level=b"\x02", name="n", values=[load("diagnostic_msgs/msg/KeyValue")(key="k", value="v")]
                )
            ]
        },
    ),
}


@pytest.fixture(scope="module")
def peer(shared_server: RosbridgeServer) -> Iterator[None]:
    script = Path(__file__).with_name("native_peer.py")
    process = subprocess.Popen([sys.executable, script], env=shared_server.node_environment(), start_new_session=True)
    yield
    end_group(process)


@pytest.fixture
def node(shared_server: RosbridgeServer, peer: None) -> Iterator[Node]:
    context = Context()
    context.init(["--url", shared_server.url])
    node = Node("bridge_node", context=context)
    SingleThreadedExecutor(context=context).add_node(node)
    yield node
    node.destroy_node()
    context.shutdown()


def spin_until(node: Node, condition, again=lambda: None, timeout_s: float = 15.0) -> bool:
    """Spin until `condition()`; call `again` every 0.2 s, for what is lost before DDS discovery."""
    end, next_time = time.monotonic() + timeout_s, 0.0
    while not condition() and time.monotonic() < end:
        if time.monotonic() >= next_time:
            again()
            next_time = time.monotonic() + 0.2
        node.executor.spin_once(timeout_sec=0.05)
    return condition()


@pytest.mark.parametrize("name", KINDS)
def test_message_comes_back_from_a_native_node_as_it_was_sent(node, name):
    kind, fields = KINDS[name]
    sent = kind(**fields)
    got = []
    node.create_subscription(kind, f"/echo/{name}", got.append, 10)
    publisher = node.create_publisher(kind, f"/to_native/{name}", 10)
    assert spin_until(node, lambda: bool(got), lambda: publisher.publish(sent))
    assert got[0] == sent


def test_bridge_client_calls_a_native_service(node):
    kind = load("std_srvs/srv/SetBool")
    client = node.create_client(kind, "/native/set")
    for flag in (True, False):
        futures = []
        # A call that comes before discovery is not answered; the next one is.
        assert spin_until(
            node,
            lambda f=futures: any(x.done() for x in f),
            lambda f=futures, d=flag: f.append(client.call_async(kind.Request(data=d))),
        )
        response = next(f for f in futures if f.done()).result()
        assert response == kind.Response(success=flag, message="set natively")


def test_native_client_calls_a_bridge_service(node):
    kind = load("std_srvs/srv/Trigger")

    def answer(request, response):
        response.success, response.message = True, "from the bridge"
        return response

    got = []
    node.create_service(kind, "/bridge/trigger", answer)
    node.create_subscription(String, "/native/result", lambda m: got.append(m.data), 10)
    call = node.create_publisher(String, "/native/call", 10)
    assert spin_until(node, lambda: bool(got), lambda: call.publish(String(data="now")))
    assert got[0] == "from the bridge"


def test_echo_of_header_stamp_is_kept(node):
    kind, fields = KINDS["jointstate"]
    sent = kind(**fields)
    sent.header.stamp.sec, sent.header.stamp.nanosec, sent.header.frame_id = 12, 34, "base"
    got = []
    node.create_subscription(kind, "/echo/jointstate", got.append, 10)
    publisher = node.create_publisher(kind, "/to_native/jointstate", 10)
    assert spin_until(node, lambda: any(m.header.stamp.sec == 12 for m in got), lambda: publisher.publish(sent))
    assert sent in got


def test_server_runs_a_copy_and_not_the_installed_file(shared_server):
    import rosbridge_server_rs

    binary = Path(rosbridge_server_rs.__file__).with_name("rosbridge_server_rs_jazzy")
    assert shared_server.pid is not None
    assert Path(f"/proc/{shared_server.pid}/exe").resolve() != binary


def test_port_in_use_is_refused_in_one_line(shared_server):
    with pytest.raises(UserError, match=f"port {shared_server.port} is in use"):
        RosbridgeServer(port=shared_server.port).start()


def test_server_needs_no_libpython(shared_server):
    # A stock Debian has none: its python is linked statically.
    assert "libpython" not in Path(f"/proc/{shared_server.pid}/maps").read_text()


def test_two_servers_share_neither_port_nor_domain(shared_server):
    with RosbridgeServer() as other:
        assert other.port != shared_server.port
        assert other.domain_id != shared_server.domain_id
        pid = other.pid
    assert other.pid is None
    assert not Path(f"/proc/{pid}").exists()
