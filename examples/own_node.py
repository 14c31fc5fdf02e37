"""A ROS node whose one source runs over rosbridge and on native rclpy.

python examples/own_node.py --url ws://localhost:9090     no ROS installation needed
python examples/own_node.py --native                      inside a ROS 2 environment

It listens to /scan and publishes the distance to the nearest thing ahead on ~/nearest.
"""

from __future__ import annotations

import sys

if "--native" in sys.argv:
    import rclpy  # before ros_bridge.backend, which then takes the names below from it

from mcsd_agent.errors import UserError
from ros_bridge.backend import ExternalShutdownException, Node, QoSProfile, ReliabilityPolicy, load, rclpy

LaserScan = load("sensor_msgs/msg/LaserScan")
Float32 = load("std_msgs/msg/Float32")


class Nearest(Node):
    """Publishes the smallest range of every scan, in metres."""

    def __init__(self) -> None:
        super().__init__("nearest")
        self.publisher = self.create_publisher(Float32, "~/nearest", QoSProfile(depth=1))
        # Sensors publish best effort; natively a reliable subscription would never match them.
        sensor_qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.create_subscription(LaserScan, "/scan", self.on_scan, sensor_qos)

    def on_scan(self, scan: LaserScan) -> None:
        """Called on the executor's thread, never on the network's."""
        distance_m = nearest(scan)
        self.publisher.publish(Float32(data=distance_m))
        self.get_logger().info(f"nearest: {distance_m:.2f} m", throttle_duration_sec=1.0)


def nearest(scan: LaserScan) -> float:
    """The smallest range that the sensor can measure; its largest where nothing was hit."""
    seen = [float(r) for r in scan.ranges if scan.range_min <= r <= scan.range_max]
    return min(seen, default=float(scan.range_max))


def main() -> int:
    """Spin until Ctrl-C."""
    try:
        rclpy.init(args=sys.argv[1:])
        rclpy.spin(Nearest())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
