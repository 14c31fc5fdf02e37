"""Import paths of `rclpy.impl` that programs use."""
