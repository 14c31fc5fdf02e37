"""The environment on native rclpy: a reset and some steps; prints what came of them.

python native_env.py ROBOT.yaml
"""

from __future__ import annotations

import json
import sys

import numpy as np

from ros_bridge.ros_env import RosEnv


def main(robot: str) -> None:
    env = RosEnv(robot, native=True, reset_service="/sim/reset", instructions=["go to the red ball"], wait_s=20.0)
    observation, info = env.reset(seed=1)
    reasons = [info["reason"], *(env.step(np.float32([0.0, 1.0]))[4]["reason"] for _ in range(5))]
    env.close()
    print(
        json.dumps({"reasons": reasons, "fits": observation in env.observation_space, "rclpy": "rclpy" in sys.modules})
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
