"""A seed gives the same numbers whether kernels are compiled in this process or read from Numba's cache."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import hashlib
import torch
from mcsd_agent.policy import Policy, PolicyConfig
from mcsd_agent.spaces import BoxSpec, DiscreteSpec

torch.set_num_threads(1)
torch.manual_seed(0)
policy = Policy({"observation": BoxSpec((2,))}, DiscreteSpec(2), PolicyConfig(width=64, layers=1))
x, starts = torch.randn(4, 128, 2), torch.rand(4, 128) < 0.02
features, final = policy.scan({"observation": x}, policy.initial_state(4), starts)
(features.square().sum() + final.sum()).backward()
found = [features, final, *(p.grad for p in policy.parameters() if p.grad is not None)]
with torch.no_grad():
    state = policy.initial_state(4)
    for t in range(20):
        features, state = policy.step({"observation": x[:, t]}, state, starts[:, t])
print(hashlib.sha256(b"".join(v.detach().numpy().tobytes() for v in [*found, features, state])).hexdigest())
"""


@pytest.mark.slow
def test_the_first_run_on_a_machine_gives_what_later_ones_give(tmp_path):
    pytest.importorskip("numba")
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    runs = [
        subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert any(tmp_path.rglob("*.nbc"))
    assert runs[0] == runs[1]
