"""`LifecyclePublisher`, as in `rclpy.lifecycle.publisher`."""

from __future__ import annotations

from typing import Any

from ros_bridge.rclpy.lifecycle.managed_entity import SimpleManagedEntity
from ros_bridge.rclpy.publisher import Publisher


class LifecyclePublisher(SimpleManagedEntity, Publisher):
    """Made by `create_lifecycle_publisher`. Publishes while its node is active, and drops otherwise."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        SimpleManagedEntity.__init__(self)
        Publisher.__init__(self, *args, **kwargs)

    @SimpleManagedEntity.when_enabled
    def publish(self, msg: Any) -> None:
        """See `Publisher.publish`."""
        Publisher.publish(self, msg)
