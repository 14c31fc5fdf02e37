"""The exceptions of `rclpy.exceptions` that the bridge raises."""

from __future__ import annotations


class NotInitializedException(Exception):
    """`init` has not been called, or `shutdown` has."""

    def __init__(self, *args: object) -> None:
        super().__init__("rclpy.init() has not been called", *args)
