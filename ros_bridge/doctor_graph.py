"""Who is at a topic, and with which types: from native rclpy, or from the server's rosapi where it has one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: How long discovery, or an answer of rosapi, may take.
_PATIENCE_S = 1.0


@dataclass(frozen=True)
class Listener:
    """A node that subscribes to a topic, and the type it expects there; "" where nobody can tell."""

    node: str
    ros_type: str


class Graph:
    """What a node can know of the others.

    Made before the node subscribes to any of `topics`: rosapi names one type of a topic, which then might be the
    node's own. Natively answers wait for discovery.
    """

    def __init__(self, node: Any, native: bool, topics: Iterable[str]) -> None:
        self._node, self._native = node, native
        self._has_rosapi = True
        self._discovered_at = time.monotonic() + (_PATIENCE_S if native else 0.0)
        self._types = {} if native else {topic: self._rosapi_type(topic) for topic in dict.fromkeys(topics)}

    def listeners(self, topic: str) -> list[Listener] | None:
        """Who subscribes to `topic`; None where nobody can tell."""
        if self._native:
            self._await_discovery()
            infos = self._node.get_subscriptions_info_by_topic(topic)
            return [Listener(f"{i.node_namespace.rstrip('/')}/{i.node_name}", str(i.topic_type)) for i in infos]
        answer = self._ask("/rosapi/subscribers", "rosapi_msgs/srv/Subscribers", topic)
        if answer is None:
            return None
        return [Listener(str(node), self._types.get(topic, "")) for node in answer.get("subscribers", [])]

    def types(self, topic: str) -> list[str]:
        """Types that `topic` is published with; empty where there are none, or nobody can tell."""
        if self._native:
            self._await_discovery()
            infos = self._node.get_publishers_info_by_topic(topic)
            return sorted({str(info.topic_type) for info in infos})
        found = self._types.get(topic, "")
        return [found] if found else []

    def _await_discovery(self) -> None:
        time.sleep(max(0.0, self._discovered_at - time.monotonic()))

    def _rosapi_type(self, topic: str) -> str:
        answer = self._ask("/rosapi/topic_type", "rosapi_msgs/srv/TopicType", topic)
        return str((answer or {}).get("type", ""))

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
