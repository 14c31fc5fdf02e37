"""Logging: levels, options, children, and what arrives on /rosout."""

import sys
import time

import rclpy
from rcl_interfaces.msg import Log, LoggerLevel
from rcl_interfaces.srv import GetLoggerLevels, SetLoggerLevels
from rclpy.logging import (
    LoggingSeverity,
    get_logger,
    get_logger_level,
    get_logging_severity_from_string,
    set_logger_level,
)
from rclpy.node import Node


def main():
    rclpy.init(args=sys.argv)
    node = Node("speaker", enable_logger_service=True)
    listener = Node("listener", enable_rosout=False)
    got = []
    listener.create_subscription(Log, "/rosout", got.append, 100)
    logger = node.get_logger()
    print("levels:", LoggingSeverity(logger.get_effective_level()).name, get_logger_level("speaker").name)
    end = time.monotonic() + 10.0
    while not got and time.monotonic() < end:
        logger.info("are you there?")
        rclpy.spin_once(listener, timeout_sec=0.1)
    print("info:", logger.info("hello"), logger.debug("hidden"), logger.is_enabled_for(LoggingSeverity.DEBUG))
    for i in range(3):
        print(i, logger.warning("once", once=True), logger.error("not the first", skip_first=True))
        logger.info("throttled", throttle_duration_sec=10.0)
    logger.set_level(LoggingSeverity.DEBUG)
    print("debug:", logger.debug("shown"), LoggingSeverity(logger.get_effective_level()).name)
    child = logger.get_child("part")
    print("child:", child.name, child.fatal("from the child"))
    set_logger_level("speaker", LoggingSeverity.ERROR)
    print("quiet:", logger.warn("dropped"), get_logger("speaker").is_enabled_for(LoggingSeverity.WARN))
    for attempt in (lambda: logger.info("x", onc=True), lambda: get_logger(""), lambda: logger.set_level(7)):
        try:
            attempt()
        except (TypeError, ValueError) as error:
            print(type(error).__name__)
    print("severity:", get_logging_severity_from_string("warn").name)
    logger.error("the end")
    while not any(m.msg == "the end" for m in got) and time.monotonic() < end:
        rclpy.spin_once(listener, timeout_sec=0.1)
    for message in got:
        if message.name.startswith("speaker") and message.msg != "are you there?":
            print("rosout:", int(message.level), message.name, message.msg, message.function, message.line > 0)

    client = listener.create_client(SetLoggerLevels, "/speaker/set_logger_levels")
    asker = listener.create_client(GetLoggerLevels, "/speaker/get_logger_levels")
    print("services:", client.wait_for_service(10.0), asker.wait_for_service(10.0))
    executor = rclpy.get_global_executor()
    executor.add_node(node)
    levels = [LoggerLevel(name="speaker", level=10), LoggerLevel(name="speaker", level=11)]
    for service, request in (
        (client, SetLoggerLevels.Request(levels=levels)),
        (asker, GetLoggerLevels.Request(names=["speaker"])),
    ):
        future = service.call_async(request)
        rclpy.spin_until_future_complete(listener, future, timeout_sec=10.0)
        print(future.result())
    rclpy.shutdown()


if __name__ == "__main__":
    main()
