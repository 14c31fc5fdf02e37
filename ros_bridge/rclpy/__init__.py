"""rclpy 7.1's names and signatures over a rosbridge WebSocket: `import ros_bridge.rclpy as rclpy`.

    rclpy.init(args=["--url", "ws://robot:9090"])     # or the environment variable MCSD_ROSBRIDGE_URL
    node = rclpy.create_node("listener")
    node.create_subscription(String, "chatter", print, 10)
    rclpy.spin(node)

What is not here yet, or cannot be said over rosbridge, raises `NotImplementedError` with the reason.
There are no `/rosout`, parameter services or `--ros-args`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ros_bridge.rclpy.context import Context, get_default_context

if TYPE_CHECKING:
    from ros_bridge.rclpy.executors import Executor
    from ros_bridge.rclpy.node import Node
    from ros_bridge.rclpy.task import Future

__all__ = [
    "Context",
    "create_node",
    "get_default_context",
    "get_global_executor",
    "init",
    "ok",
    "shutdown",
    "spin",
    "spin_once",
    "spin_until_future_complete",
    "try_shutdown",
]

_executor: Executor | None = None


def init(
    *,
    args: Sequence[str] | None = None,
    context: Context | None = None,
    domain_id: int | None = None,
    signal_handler_options: Any = None,
) -> None:
    """Connect to the rosbridge server named by `--url` in `args` (default: `sys.argv`).

    Raises `UserError` when it cannot be reached within five seconds. The ROS domain is the server's.
    """
    if domain_id is not None:
        raise NotImplementedError("domain_id: over rosbridge the server's ROS domain applies; start it in that domain")
    if signal_handler_options is not None:
        raise NotImplementedError("signal_handler_options: the bridge installs no signal handlers")
    (context or get_default_context()).init(args)


def ok(*, context: Context | None = None) -> bool:
    """Whether the context is initialised and not shut down. A lost link does not change it."""
    return (context or get_default_context()).ok()


def shutdown(*, context: Context | None = None, uninstall_handlers: bool | None = None) -> None:
    """Close the link and end every spin of this context."""
    (context or get_default_context()).shutdown()


def try_shutdown(*, context: Context | None = None) -> None:
    """`shutdown` unless it has happened already."""
    (context or get_default_context()).try_shutdown()


def get_global_executor() -> Executor:
    """The executor used when none is given."""
    global _executor
    if _executor is None:
        from ros_bridge.rclpy.executors import SingleThreadedExecutor

        _executor = SingleThreadedExecutor()

        def reset() -> None:
            global _executor
            _executor = None

        get_default_context().on_shutdown(reset)
    return _executor


def create_node(
    node_name: str,
    *,
    context: Context | None = None,
    cli_args: list[str] | None = None,
    namespace: str | None = None,
    use_global_arguments: bool = True,
    enable_rosout: bool = True,
    start_parameter_services: bool = True,
    parameter_overrides: list[Any] | None = None,
    allow_undeclared_parameters: bool = False,
    automatically_declare_parameters_from_overrides: bool = False,
    enable_logger_service: bool = False,
) -> Node:
    """A new `Node`; see its arguments."""
    from ros_bridge.rclpy.node import Node

    return Node(
        node_name,
        context=context,
        cli_args=cli_args,
        namespace=namespace,
        use_global_arguments=use_global_arguments,
        enable_rosout=enable_rosout,
        start_parameter_services=start_parameter_services,
        parameter_overrides=parameter_overrides,
        allow_undeclared_parameters=allow_undeclared_parameters,
        automatically_declare_parameters_from_overrides=automatically_declare_parameters_from_overrides,
        enable_logger_service=enable_logger_service,
    )


def spin_once(node: Node, *, executor: Executor | None = None, timeout_sec: float | None = None) -> None:
    """Execute one callback of `node`, or return after `timeout_sec` (None: wait for ever)."""
    executor = executor or get_global_executor()
    added = executor.add_node(node)
    try:
        executor.spin_once(timeout_sec=timeout_sec)
    finally:
        if added:
            executor.remove_node(node)


def spin(node: Node, executor: Executor | None = None) -> None:
    """Execute callbacks until the context is shut down (then `ExternalShutdownException`, as in rclpy)."""
    executor = executor or get_global_executor()
    added = executor.add_node(node)
    try:
        executor.spin()
    finally:
        if added:
            executor.remove_node(node)


def spin_until_future_complete(
    node: Node, future: Future, executor: Executor | None = None, timeout_sec: float | None = None
) -> None:
    """Execute callbacks until `future` is done, or `timeout_sec` has passed."""
    executor = executor or get_global_executor()
    added = executor.add_node(node)
    try:
        executor.spin_until_future_complete(future, timeout_sec)
    finally:
        if added:
            executor.remove_node(node)
