"""One node watches the parameters of another."""

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.parameter_event_handler import ParameterEventHandler


def main():
    rclpy.init()
    watched, watcher = Node("watched", namespace="/robot"), Node("watcher", namespace="/robot")
    executor = SingleThreadedExecutor()
    executor.add_node(watched)
    executor.add_node(watcher)
    handler = ParameterEventHandler(watcher)
    heard, events = [], []

    def hear(name):
        return lambda parameter: heard.append((name, parameter.name, parameter_value_to_python(parameter.value)))

    older = handler.add_parameter_callback("speed", "watched", hear("older"))
    handler.add_parameter_callback("speed", "/robot/watched", hear("newer"))
    handler.add_parameter_callback("speed", "/watched", hear("elsewhere"))
    handler.add_parameter_callback("own", "", hear("own"))
    every = handler.add_parameter_event_callback(events.append)
    print("names:", older.parameter_name, older.node_name)

    def until(condition, again=lambda: None):
        for _ in range(100):
            if condition():
                return True
            again()
            executor.spin_once(timeout_sec=0.05)
        return False

    # The first events may precede discovery.
    watched.declare_parameter("tries", 0)
    tries = iter(range(1, 1000))
    until(lambda: bool(events), lambda: watched.set_parameters([Parameter("tries", value=next(tries))]))
    watched.declare_parameter("speed", 1.5)
    print("declared:", until(lambda: len(heard) >= 2), heard)
    handler.remove_parameter_callback(older)
    watched.set_parameters([Parameter("speed", value=2.5)])
    watcher.declare_parameter("own", "mine")
    print("set:", until(lambda: len(heard) >= 4), heard[2:])
    changes = [
        (e.node, [p.name for p in e.new_parameters], [p.name for p in e.changed_parameters], len(e.deleted_parameters))
        for e in events
        if "speed" in [p.name for p in handler.get_parameters_from_event(e)]
    ]
    print("events:", changes)
    print("found:", handler.get_parameter_from_event(events[-1], "nothing", "/robot/watcher"))
    for handle, remove in (
        (older, handler.remove_parameter_callback),
        (every, handler.remove_parameter_event_callback),
        (every, handler.remove_parameter_event_callback),
    ):
        try:
            remove(handle)
            print("removed")
        except RuntimeError as error:
            print("RuntimeError:", error)
    handler.destroy()
    print("subscriptions:", [s.topic_name for s in watcher.subscriptions if s.topic_name == "/parameter_events"])
    rclpy.shutdown()


if __name__ == "__main__":
    main()
