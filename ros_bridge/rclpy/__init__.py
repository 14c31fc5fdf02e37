"""rclpy 7.1's names and signatures over a rosbridge WebSocket: `import ros_bridge.rclpy as rclpy`.

    rclpy.init(args=["--url", "ws://robot:9090"])     # or the environment variable MCSD_ROSBRIDGE_URL
    node = rclpy.create_node("listener")
    node.create_subscription(String, "chatter", print, 10)
    rclpy.spin(node)

What is not here yet, or cannot be said over rosbridge, raises `NotImplementedError` with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ros_bridge.rclpy.context import Context, get_default_context
from ros_bridge.rclpy.parameter import Parameter
from ros_bridge.rclpy.signals import (
    SignalHandlerOptions,
    ended_by_signal,
    install_signal_handlers,
    uninstall_signal_handlers,
)
from ros_bridge.rclpy.task import Future
from ros_bridge.rclpy.utilities import get_rmw_implementation_identifier, ok, try_shutdown
from ros_bridge.rclpy.utilities import shutdown as _shutdown

if TYPE_CHECKING:
    from ros_bridge.rclpy.executors import Executor
    from ros_bridge.rclpy.node import Node

__all__ = [
    "Context",
    "Future",
    "Parameter",
    "SignalHandlerOptions",
    "create_node",
    "get_default_context",
    "get_global_executor",
    "get_rmw_implementation_identifier",
    "init",
    "install_signal_handlers",
    "ok",
    "shutdown",
    "spin",
    "spin_once",
    "spin_until_future_complete",
    "try_shutdown",
    "uninstall_signal_handlers",
]

_executor: Executor | None = None


def init(
    *,
    args: Sequence[str] | None = None,
    context: Context | None = None,
    domain_id: int | None = None,
    signal_handler_options: SignalHandlerOptions | None = None,
) -> None:
    """Connect to the rosbridge server named by `--url` in `args` (default: `sys.argv`), and read `--ros-args`.

    Raises `UserError` when it cannot be reached within five seconds. The ROS domain is the server's. With the default
    context SIGTERM is handled (`signals`), unless the options say otherwise.
    """
    context = get_default_context() if context is None else context
    context.init(args, domain_id=domain_id)
    if signal_handler_options is None:
        is_default = context is get_default_context()
        signal_handler_options = SignalHandlerOptions.ALL if is_default else SignalHandlerOptions.NO
    install_signal_handlers(signal_handler_options)


def shutdown(*, context: Context | None = None, uninstall_handlers: bool | None = None) -> None:
    """Close the link and end every spin of this context; with the default one, handle SIGTERM no longer."""
    is_default = context is None or context is get_default_context()
    _shutdown(context=context)
    if uninstall_handlers or (uninstall_handlers is None and is_default):
        uninstall_signal_handlers()


def get_global_executor() -> Executor:
    """The executor used when none is given."""
    global _executor
    if _executor is None:
        from ros_bridge.rclpy.executors import SingleThreadedExecutor

        _executor = SingleThreadedExecutor()

        def reset() -> None:
            global _executor
            if _executor is not None:
                _executor.shutdown()
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
    parameter_overrides: list[Parameter] | None = None,
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
        with ended_by_signal():
            executor.spin_once(timeout_sec=timeout_sec)
    finally:
        if added:
            executor.remove_node(node)


def spin(node: Node, executor: Executor | None = None) -> None:
    """Execute callbacks until SIGTERM or the end of the context (then `ExternalShutdownException`, as in rclpy)."""
    executor = executor or get_global_executor()
    try:
        executor.add_node(node)
        with ended_by_signal():
            while executor.context.ok():
                executor.spin_once()
    finally:
        executor.remove_node(node)


def spin_until_future_complete(
    node: Node, future: Future, executor: Executor | None = None, timeout_sec: float | None = None
) -> None:
    """Execute callbacks until `future` is done, or `timeout_sec` has passed."""
    executor = executor or get_global_executor()
    added = executor.add_node(node)
    try:
        with ended_by_signal():
            executor.spin_until_future_complete(future, timeout_sec)
    finally:
        if added:
            executor.remove_node(node)
