"""The methods of `Node` that rosbridge cannot serve, with rclpy's signatures: each says why."""

from __future__ import annotations

from typing import Any, NoReturn


def no_graph(name: str) -> NoReturn:
    """Why `name` is not here."""
    raise NotImplementedError(f"{name}: rosbridge cannot list the graph (its rosapi is optional)")


class NodeGraph:
    """`Node` derives from it."""

    def count_clients(self, service_name: str) -> int:
        """Not here."""
        no_graph("count_clients")

    def count_publishers(self, topic_name: str) -> int:
        """Not here."""
        no_graph("count_publishers")

    def count_services(self, service_name: str) -> int:
        """Not here."""
        no_graph("count_services")

    def count_subscribers(self, topic_name: str) -> int:
        """Not here."""
        no_graph("count_subscribers")

    def get_client_names_and_types_by_node(self, node_name: str, node_namespace: str) -> list[Any]:
        """Not here."""
        no_graph("get_client_names_and_types_by_node")

    def get_fully_qualified_node_names(self) -> list[str]:
        """Not here."""
        no_graph("get_fully_qualified_node_names")

    def get_node_names(self) -> list[str]:
        """Not here."""
        no_graph("get_node_names")

    def get_node_names_and_namespaces(self) -> list[tuple[str, str]]:
        """Not here."""
        no_graph("get_node_names_and_namespaces")

    def get_node_names_and_namespaces_with_enclaves(self) -> list[tuple[str, str, str]]:
        """Not here."""
        no_graph("get_node_names_and_namespaces_with_enclaves")

    def get_publisher_names_and_types_by_node(
        self, node_name: str, node_namespace: str, no_demangle: bool = False
    ) -> list[Any]:
        """Not here."""
        no_graph("get_publisher_names_and_types_by_node")

    def get_publishers_info_by_topic(self, topic_name: str, no_mangle: bool = False) -> list[Any]:
        """Not here."""
        no_graph("get_publishers_info_by_topic")

    def get_service_names_and_types(self) -> list[Any]:
        """Not here."""
        no_graph("get_service_names_and_types")

    def get_service_names_and_types_by_node(self, node_name: str, node_namespace: str) -> list[Any]:
        """Not here."""
        no_graph("get_service_names_and_types_by_node")

    def get_subscriber_names_and_types_by_node(
        self, node_name: str, node_namespace: str, no_demangle: bool = False
    ) -> list[Any]:
        """Not here."""
        no_graph("get_subscriber_names_and_types_by_node")

    def get_subscriptions_info_by_topic(self, topic_name: str, no_mangle: bool = False) -> list[Any]:
        """Not here."""
        no_graph("get_subscriptions_info_by_topic")

    def get_topic_names_and_types(self, no_demangle: bool = False) -> list[Any]:
        """Not here."""
        no_graph("get_topic_names_and_types")

    def wait_for_node(self, fully_qualified_node_name: str, timeout: float) -> bool:
        """Not here."""
        no_graph("wait_for_node")

    def add_waitable(self, waitable: Any) -> None:
        """Not here."""
        raise NotImplementedError("add_waitable: waitables are made of DDS handles, which this side does not have")

    def remove_waitable(self, waitable: Any) -> None:
        """Not here."""
        raise NotImplementedError("remove_waitable: waitables are made of DDS handles, which this side does not have")
