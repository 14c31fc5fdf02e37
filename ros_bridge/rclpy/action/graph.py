"""The queries of `rclpy.action.graph`, which rosbridge cannot serve: each says why."""

from __future__ import annotations

from typing import Any

from ros_bridge.rclpy._graph import no_graph


def get_action_client_names_and_types_by_node(
    node: Any, remote_node_name: str, remote_node_namespace: str
) -> list[tuple[str, list[str]]]:
    """Not here."""
    no_graph("get_action_client_names_and_types_by_node")


def get_action_server_names_and_types_by_node(
    node: Any, remote_node_name: str, remote_node_namespace: str
) -> list[tuple[str, list[str]]]:
    """Not here."""
    no_graph("get_action_server_names_and_types_by_node")


def get_action_names_and_types(node: Any) -> list[tuple[str, list[str]]]:
    """Not here."""
    no_graph("get_action_names_and_types")
