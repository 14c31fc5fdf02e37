"""Who subscribes to a topic, and its types: from native rclpy, or from the server's rosapi where it has one."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

#: How long discovery, or an answer of rosapi, may take.
_PATIENCE_S = 1.0


class Graph:
    """What a node can know of the others. Made when the node is there; natively it waits for discovery."""

    def __init__(self, node: Any, native: bool) -> None:
        self._node, self._native = node, native
        self._has_rosapi = True
        if native:
            time.sleep(_PATIENCE_S)

    def listeners(self, topic: str) -> list[str] | None:
        """Nodes that subscribe to `topic`; None where nobody can tell."""
        if self._native:
            infos = self._node.get_subscriptions_info_by_topic(topic)
            return [f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in infos]
        answer = self._ask("/rosapi/subscribers", "rosapi_msgs/srv/Subscribers", topic)
        return None if answer is None else [str(node) for node in answer.get("subscribers", [])]

    def types(self, topic: str) -> list[str]:
        """Types that `topic` is published with; empty where there are none, or nobody can tell."""
        if self._native:
            infos = self._node.get_publishers_info_by_topic(topic)
            return sorted({str(info.topic_type) for info in infos})
        answer = self._ask("/rosapi/topic_type", "rosapi_msgs/srv/TopicType", topic)
        found = str((answer or {}).get("type", ""))
        return [found] if found else []

    def _ask(self, service: str, ros_type: str, topic: str) -> Mapping[str, Any] | None:
        """The answer of the optional rosapi; once it has not answered it is not asked again."""
        if not self._has_rosapi:
            return None
        answered, found = threading.Event(), []

        def done(ok: bool, values: Any) -> None:
            if ok and isinstance(values, Mapping):
                found.append(values)
            answered.set()

        self._node.context.connection.call(service, ros_type, {"topic": topic}, done)
        answered.wait(_PATIENCE_S)
        self._has_rosapi = bool(found)
        return found[0] if found else None
