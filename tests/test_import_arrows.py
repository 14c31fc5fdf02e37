"""The arrows between modules, each side imported in a fresh process."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"torch", "stable_baselines3", "gymnasium", "numba", "triton"}


def loaded_by(module: str) -> set[str]:
    code = f"import {module}, sys; print('\\n'.join(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("mcsd_agent.runtime", HEAVY | {"ros_bridge", "envs", "matplotlib", "mujoco"}),
        ("ros_bridge", HEAVY | {"envs", "mujoco"}),
        ("ros_bridge.policy_node", HEAVY | {"envs", "mujoco", "mcsd_agent.training"}),
        ("ros_bridge.operator", HEAVY | {"envs", "mujoco"}),
        ("ros_bridge.recorder", HEAVY | {"envs", "mujoco", "mcsd_agent.training"}),
        ("ros_bridge.robot_link", HEAVY | {"envs", "mujoco", "mcsd_agent.training"}),
        ("ros_bridge.bag_episodes", HEAVY | {"envs", "ros_bridge.backend", "mcsd_agent.training"}),
        ("ros_bridge.ros_env", {"torch", "stable_baselines3", "envs", "ros_bridge.backend", "mcsd_agent.training"}),
        ("ros_bridge.guard_node", HEAVY | {"envs", "mujoco", "mcsd_agent.runtime", "onnxruntime"}),
        ("ros_bridge.run_guard", HEAVY | {"envs", "mujoco", "mcsd_agent.runtime", "ros_bridge.backend"}),
        ("ros_bridge.doctor", HEAVY | {"envs", "mujoco", "mcsd_agent.training", "cv2"}),
        ("mcsd_agent.cli", HEAVY | {"ros_bridge", "envs", "mujoco", "roslibpy"}),
        ("mcsd_agent.language", HEAVY),
        ("mcsd_agent.spaces", HEAVY | {"yaml"}),
        ("mcsd_agent.recurrence", {"mcsd_agent.cell", "numpy.testing", "gymnasium"}),
        ("mcsd_agent.cell", {"mcsd_agent.backbone", "gymnasium", "stable_baselines3"}),
        ("mcsd_agent.backbone", {"mcsd_agent.controls", "mcsd_agent.policy", "gymnasium", "stable_baselines3"}),
        ("mcsd_agent.encoders", {"mcsd_agent.backbone", "mcsd_agent.policy", "gymnasium", "stable_baselines3"}),
        ("mcsd_agent.policy", {"mcsd_agent.artifact", "mcsd_agent.training", "gymnasium", "stable_baselines3"}),
        ("mcsd_agent.artifact", {"mcsd_agent.training", "ros_bridge", "gymnasium", "stable_baselines3"}),
        ("envs", {"torch", "stable_baselines3", "mcsd_agent", "ros_bridge"}),
        ("mcsd_agent.training.sequence_ppo", {"ros_bridge"}),
    ],
)
def test_no_arrow_points_the_wrong_way(module, forbidden):
    assert not loaded_by(module) & forbidden
