"""Which way of stepping many environments is fastest: one after the other, in a process each, in one NumPy call.

    python benchmarks/vectorise.py [--seconds 3] [--n-envs 8] [--think-ms 0 2] [--json FILE]

Prints environment steps per second of wall-clock time, with random actions. `--think-ms` is how long the policy and
its updates take per step of all environments: while a policy thinks, environments in other processes do not step, so
that the more it thinks, the less the form matters. The best of three rounds counts, taken in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnv

from mcsd_agent.training.batched import has_batched
from mcsd_agent.training.environments import make_vec

ENVIRONMENTS = (
    "CartPole-v1",
    "HalfCheetah-v5",
    "Humanoid-v5",
    "mcsd/Nav-v0",
    "MiniGrid-MemoryS7-v0",
    "mcsd/RepeatPreviousMedium-v0",
    "mcsd/PassiveTMaze500-v0",
)
_ROUNDS = 3


def steps_per_second(env: VecEnv, actions: np.ndarray, seconds: float, think_ms: float) -> float:
    """Random steps for about so long; `actions` `(many, n_envs, …)` are drawn beforehand."""
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        env.step(actions[count % len(actions)])
        count += 1
        until = time.perf_counter() + think_ms / 1000
        while time.perf_counter() < until:
            pass
    return count * env.num_envs / (time.perf_counter() - began)


def measure(env_id: str, n_envs: int, seconds: float, think_ms: float) -> dict[str, float]:
    """Steps per second by form."""
    rates: dict[str, float] = {}
    for _ in range(_ROUNDS):
        for form in ("sync", "async", "batched"):
            if form == "batched" and not has_batched(env_id):
                continue
            env = make_vec(env_id, n_envs=n_envs, seed=0, vectorised=form)  # type: ignore[arg-type]
            env.action_space.seed(0)
            actions = np.array([[env.action_space.sample() for _ in range(n_envs)] for _ in range(64)])
            env.reset()
            steps_per_second(env, actions, 0.2, 0.0)
            rates[form] = max(rates.get(form, 0.0), steps_per_second(env, actions, seconds / _ROUNDS, think_ms))
            env.close()
    return rates


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--n-envs", type=int, nargs="+", default=[8])
    parser.add_argument("--think-ms", type=float, nargs="+", default=[0.0])
    parser.add_argument("--env", nargs="+", default=ENVIRONMENTS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{os.cpu_count()} cores; steps per second, the ratio is that of async to sync\n")
    print("| environment | environments | policy, ms | sync | async | ratio | batched |\n|---|---|---|---|---|---|---|")
    results = []
    for env_id in arguments.env:
        for n_envs in arguments.n_envs:
            for think_ms in arguments.think_ms:
                rates = measure(env_id, n_envs, arguments.seconds, think_ms)
                results.append({"env": env_id, "n_envs": n_envs, "think_ms": think_ms, **rates})
                batched = f"{rates['batched']:,.0f}" if "batched" in rates else ""
                cells = (env_id, n_envs, f"{think_ms:g}", f"{rates['sync']:,.0f}", f"{rates['async']:,.0f}")
                print("|", " | ".join(map(str, cells)), f"| {rates['async'] / rates['sync']:.2f} | {batched} |")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
