"""Simulated time: a node follows /clock, its timers and sleepers with it."""

import threading
import time

import rclpy
from rclpy.clock import Clock, ClockChange, ClockType, JumpThreshold, ROSClock
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.time import Time
from rosgraph_msgs.msg import Clock as ClockMsg


def main():
    rclpy.init()
    simulator = Node("simulator")
    robot = Node("robot", parameter_overrides=[Parameter("use_sim_time", value=True)])
    publisher = simulator.create_publisher(ClockMsg, "/clock", 1)
    executor = SingleThreadedExecutor()
    executor.add_node(simulator)
    executor.add_node(robot)
    clock = robot.get_clock()
    print("active:", clock.ros_time_is_active, clock.now(), clock)

    def set_clock(seconds):
        end = time.monotonic() + 10.0
        wanted = Time(seconds=seconds, clock_type=ClockType.ROS_TIME)
        while clock.now() != wanted and time.monotonic() < end:
            publisher.publish(ClockMsg(clock=wanted.to_msg()))
            executor.spin_once(timeout_sec=0.05)
        for _ in range(5):
            executor.spin_once(timeout_sec=0.02)

    fired = []
    set_clock(100.0)
    timer = robot.create_timer(1.0, lambda: fired.append(clock.now().nanoseconds / 1e9))
    set_clock(100.5)
    print("half a second later:", fired)
    set_clock(101.0)
    set_clock(103.5)
    set_clock(104.0)
    print("fired at:", fired, "next in", timer.time_until_next_call() / 1e9)

    jumps = []
    threshold = JumpThreshold(min_forward=Duration(seconds=5), min_backward=Duration(seconds=-1), on_clock_change=True)
    handle = clock.create_jump_callback(
        threshold,
        pre_callback=lambda: jumps.append("pre"),
        post_callback=lambda jump: jumps.append((ClockChange(int(jump.clock_change)).name, jump.delta.nanoseconds)),
    )
    set_clock(106.0)
    set_clock(120.0)
    set_clock(50.0)
    print("jumps:", jumps)
    print("after going back:", timer.time_until_next_call() / 1e9)
    handle.unregister()

    woken = []
    until = Time(seconds=52, clock_type=ClockType.ROS_TIME)
    sleeper = threading.Thread(target=lambda: woken.append(clock.sleep_until(until)))
    sleeper.start()
    time.sleep(0.1)
    set_clock(51.0)
    print("asleep:", woken)
    set_clock(53.0)
    sleeper.join(5.0)
    print("awake:", woken)
    result = robot.set_parameters([Parameter("use_sim_time", value="yes")])[0]
    print("text:", result.successful)
    robot.set_parameters([Parameter("use_sim_time", value=False)])
    print("off:", clock.ros_time_is_active, abs(clock.now().nanoseconds - time.time_ns()) < 1e9)
    own = ROSClock()
    own._set_ros_time_is_active(True)
    own.set_ros_time_override(Time(seconds=3, clock_type=ClockType.ROS_TIME))
    print("own:", own.now(), Clock(clock_type=ClockType.ROS_TIME).ros_time_is_active)
    steady = Clock(clock_type=ClockType.STEADY_TIME)
    before = steady.now()
    print("slept:", steady.sleep_for(Duration(seconds=0.05)), steady.now() - before >= Duration(seconds=0.05))
    for attempt in (
        lambda: clock.sleep_until(Time()),
        lambda: JumpThreshold(min_forward=Duration(), min_backward=None),
        lambda: Clock(clock_type=1.5),
    ):
        try:
            attempt()
        except (TypeError, ValueError) as error:
            print(type(error).__name__, error)
    rclpy.shutdown()


if __name__ == "__main__":
    main()
