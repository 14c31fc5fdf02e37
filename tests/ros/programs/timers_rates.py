"""Timers and rates: period, cancel, reset, late start; sleeping at a rate until shutdown."""

import contextlib
import threading
import time

import rclpy
from rclpy.exceptions import ROSInterruptException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node


def main():
    rclpy.init()
    node = Node("clockwork")
    calls = []
    timer = node.create_timer(0.05, lambda: calls.append(time.monotonic()))
    late = node.create_timer(0.05, lambda: calls.append("late"), autostart=False)
    print("period:", timer.timer_period_ns, timer.is_canceled(), late.is_canceled(), timer.is_ready())
    begin = time.monotonic()
    while len(calls) < 4:
        rclpy.spin_once(node, timeout_sec=1.0)
    print("four calls take:", 0.15 < calls[3] - begin < 2.0, "late" in calls)
    timer.cancel()
    print("cancelled:", timer.is_canceled(), timer.time_until_next_call())
    rclpy.spin_once(node, timeout_sec=0.15)
    print("calls:", len(calls))
    late.reset()
    rclpy.spin_once(node, timeout_sec=1.0)
    print("late:", calls[-1])
    late.timer_period_ns = 10**9
    print("changed:", late.timer_period_ns)
    print("destroyed:", node.destroy_timer(late), node.destroy_timer(late), len(list(node.timers)))

    def spin():
        with contextlib.suppress(ExternalShutdownException):
            rclpy.spin(node)

    thread = threading.Thread(target=spin)
    thread.start()
    rate = node.create_rate(20.0)
    begin = time.monotonic()
    for _ in range(4):
        rate.sleep()
    print("rate:", 0.1 < time.monotonic() - begin < 2.0)
    slow = node.create_rate(0.01)
    threading.Timer(0.2, rclpy.shutdown).start()
    try:
        slow.sleep()
        print("slept")
    except ROSInterruptException as error:
        print("interrupted:", error)
    thread.join(5.0)
    print("ended:", not thread.is_alive(), rclpy.ok())
    try:
        slow.sleep()
    except ROSInterruptException:
        print("still interrupted")


if __name__ == "__main__":
    main()
