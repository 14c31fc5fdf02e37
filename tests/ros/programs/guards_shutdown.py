"""Guard conditions, nodes that are destroyed, contexts that are shut down."""

import threading

import rclpy
from rclpy.context import Context
from rclpy.exceptions import InvalidHandle, NotInitializedException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import String


def main():
    try:
        Node("early")
    except NotInitializedException as error:
        print("early:", error)
    try:
        rclpy.shutdown()
    except RuntimeError as error:
        print("shutdown:", error)
    rclpy.try_shutdown()
    rclpy.init()
    print("ok:", rclpy.ok())
    try:
        rclpy.init()
    except RuntimeError as error:
        print("again:", error)
    node = rclpy.create_node("guarded")
    calls = []
    guard = node.create_guard_condition(lambda: calls.append("guard"))
    guard.trigger()
    rclpy.spin_once(node, timeout_sec=1.0)
    rclpy.spin_once(node, timeout_sec=0.05)
    print("triggered:", calls)
    threading.Timer(0.1, guard.trigger).start()
    rclpy.spin_once(node, timeout_sec=5.0)
    print("from a thread:", calls, len(list(node.guards)))
    print("destroyed:", node.destroy_guard_condition(guard), node.destroy_guard_condition(guard))
    publisher = node.create_publisher(String, "t", 1)
    print(node.destroy_publisher(publisher), node.destroy_publisher(publisher))
    try:
        publisher.publish(String())
    except InvalidHandle:
        print("publisher is gone")
    rclpy.get_default_context().on_shutdown(lambda: calls.append("shutdown"))
    threading.Timer(0.2, rclpy.shutdown).start()
    try:
        rclpy.spin(node)
    except ExternalShutdownException:
        print("spin ended")
    print(calls[-1], rclpy.ok())

    context = Context()
    rclpy.init(context=context)
    other = Node("other", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(other)
    print("two contexts:", context.ok(), rclpy.ok())
    executor.spin_once(timeout_sec=0.05)
    other.destroy_node()
    executor.shutdown()
    executor.spin()
    context.shutdown()
    context.try_shutdown()
    after = []
    context.on_shutdown(lambda: after.append("at once"))
    print("after:", context.ok(), after)
    with Context() as third:
        print("with:", third.ok())
    print("then:", third.ok())


if __name__ == "__main__":
    main()
