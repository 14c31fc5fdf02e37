"""ROS for robots and policies without a ROS installation: rclpy over rosbridge, messages, nodes.

Importing it loads neither torch, nor stable-baselines3, nor gymnasium, nor a ROS library.
"""
