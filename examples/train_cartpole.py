"""Balance a pole without being told any velocity, then export the policy. About a minute at the default length.

python examples/train_cartpole.py --steps 50000 --out cartpole.mcsd
"""

from __future__ import annotations

import argparse

import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from mcsd_agent import SequencePPO

parser = argparse.ArgumentParser(description="Balance a pole whose velocities are hidden.")
parser.add_argument("--steps", type=int, default=50_000)
parser.add_argument("--out", default="cartpole.mcsd")
arguments = parser.parse_args()

torch.set_num_threads(1)  # the network is small: more threads only wait for each other
env = make_vec_env("mcsd/CartPoleNoVel-v1", n_envs=8, seed=0)
model = SequencePPO(
    "MlpPolicy",
    env,
    n_steps=128,
    n_epochs=10,
    gamma=0.98,
    gae_lambda=0.9,
    policy_kwargs=dict(backbone="mcsd", width=64, layers=1),
    seed=0,
    device="cpu",
)
model.learn(arguments.steps)

# evaluate_policy hands the recurrent state back and forth, as it does for every policy with memory.
mean, deviation = evaluate_policy(model, env, n_eval_episodes=20)
print(f"return {mean:.0f} ± {deviation:.0f} over 20 episodes (500 is the most)")

report = model.export(arguments.out, rate_hz=50)
print(f"{arguments.out}: deviation from torch at most {report.max_action_deviation:.1e}")
