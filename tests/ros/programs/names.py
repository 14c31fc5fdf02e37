"""Names: validation, expansion, namespaces and remapping from the command line."""

import sys

import rclpy
from rclpy.exceptions import NameValidationException
from rclpy.expand_topic_name import expand_topic_name
from rclpy.node import Node
from rclpy.topic_or_service_is_hidden import topic_or_service_is_hidden
from rclpy.utilities import remove_ros_args
from rclpy.validate_full_topic_name import validate_full_topic_name
from rclpy.validate_namespace import validate_namespace
from rclpy.validate_node_name import validate_node_name
from rclpy.validate_topic_name import validate_topic_name
from std_msgs.msg import String
from std_srvs.srv import Empty

NAMES = (
    "", "a", "/a", "a/", "/", "~", "~/a", "~a", "a~", "//a", "a//b", "1a", "a/1b", "/1a", "a b", "a-b", "{node}",
    "{node", "a{", "a{b}", "{a b}", "}", "a}", "{1}", "{}", "~/{node}", "_a", "é", "/a/b_c9", "~/", "{ns}/a",
    "{namespace}/x", "{node{a}}", "x" * 300, "/" + "x" * 300, "/a/b/", "/a b", "/é",
)  # fmt: skip


def main():
    for check in (validate_node_name, validate_namespace, validate_topic_name, validate_full_topic_name):
        for name in NAMES:
            try:
                print(check.__name__, repr(name)[:40], check(name))
            except NameValidationException as error:
                print(check.__name__, repr(name)[:40], type(error).__name__, error)
    for name in NAMES:
        for namespace in ("/ns", "/"):
            try:
                print("expand", repr(name)[:40], expand_topic_name(name, "node_name", namespace))
            except ValueError as error:
                print("expand", repr(name)[:40], str(error).split(", at /")[0])
    try:
        validate_topic_name("a b", is_service=True)
    except NameValidationException as error:
        print(type(error).__name__)
    print("hidden:", topic_or_service_is_hidden("/a/_b"), topic_or_service_is_hidden("/a/b"))
    print("own arguments:", remove_ros_args(["prog", "a", "--ros-args", "-r", "x:=y", "--", "b"]))

    rclpy.init(args=sys.argv)
    for arguments in (
        {},
        {"namespace": "/ns"},
        {"namespace": "ns"},
        {"use_global_arguments": False},
        {"cli_args": ["--ros-args", "-r", "chatter:=own", "-r", "__node:=renamed", "-r", "__ns:=/deep/er"]},
    ):
        node = Node("talker", **arguments)
        print(arguments, node.get_name(), node.get_namespace(), node.get_fully_qualified_name(), node.get_logger().name)
        for name in ("chatter", "/chatter", "~/chatter", "other", "/absolute", "only_topic"):
            print(" ", name, node.resolve_topic_name(name), node.resolve_topic_name(name, only_expand=True), end=" ")
            print(node.resolve_service_name(name))
        publisher = node.create_publisher(String, "chatter", 1)
        client = node.create_client(Empty, "chatter")
        print(" ", publisher.topic_name, publisher.topic, client.service_name, client.srv_name)
        node.destroy_node()
    for name, namespace in (("a b", None), ("a", "/b d"), ("a", "/x/")):
        try:
            Node(name, namespace=namespace)
        except NameValidationException as error:
            print(type(error).__name__, error)
    node = Node("last")
    for make in (
        lambda: node.create_publisher(String, "bad name", 1),
        lambda: node.create_client(Empty, "bad-name"),
        lambda: node.create_subscription(String, "ok", lambda: None, 1),
        lambda: node.create_publisher(String, "t", "10"),
        lambda: node.create_publisher(String, "t", -1),
        lambda: node.create_rate(0),
    ):
        try:
            make()
        except Exception as error:
            print(type(error).__name__, error)
    rclpy.shutdown()
    for bad in ("-r", "-r x", "-r x:=", "-p", "-p x", "--unknown", "--params-file /none", "stray"):
        try:
            rclpy.init(args=["prog", "--ros-args", *bad.split()])
        except RuntimeError as error:
            print(type(error).__name__, str(error).split(". Error:")[0].split(", at /")[0])
            rclpy.try_shutdown()


if __name__ == "__main__":
    main()
