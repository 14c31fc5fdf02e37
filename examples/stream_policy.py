"""Drive the simulated robot with an exported policy, as any control loop would: one `step` a tick.

python examples/stream_policy.py nav.mcsd --instruction "go to the red ball" --seed 3

`Stream` itself needs NumPy alone; the simulator is here only to have something to drive.
"""

from __future__ import annotations

import argparse

import gymnasium

import envs  # noqa: F401 -- registers mcsd/Nav-v0
from mcsd_agent.runtime import Stream

parser = argparse.ArgumentParser(description="Drive the simulated robot with an exported policy.")
parser.add_argument("artifact")
parser.add_argument("--instruction", default="go to the red ball")
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()

stream = Stream.load(arguments.artifact, engine="numpy")
env = gymnasium.make("mcsd/Nav-v0")
observation, info = env.reset(seed=arguments.seed, options={"instruction": arguments.instruction})

state = stream.initial_state()  # empty memory: an episode begins
ticks, done = 0, False
while not done:
    # The dict of the environment is what the policy was trained on: arrays by name, the instruction as a string.
    action, state = stream.step(observation, state)
    observation, _, terminated, truncated, info = env.step(action)
    ticks, done = ticks + 1, terminated or truncated

outcome = "done" if info["is_success"] else "not done"
print(f"{arguments.instruction!r}: {outcome} after {ticks / stream.spec.rate_hz:.1f} s, {state.nbytes} bytes of memory")
